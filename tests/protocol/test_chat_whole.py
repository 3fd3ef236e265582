"""Same dialect, whole answers: untouched where they are right, repaired where they are not, refused where they are none."""

from __future__ import annotations

import json
from typing import Any

import pytest

from naru.errors import UpstreamAuth, UpstreamBroken, UpstreamError, UpstreamRefused
from naru.protocol.dialect import Quirks
from naru.protocol.messages import Usage
from naru.protocol.openai_chat import OPENAI_CHAT
from tests.protocol.samples import PLAIN, USAGE, Json, compact, whole

CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}


def relayed(data: bytes, quirks: Quirks = PLAIN) -> Json:
    found: Json = json.loads(OPENAI_CHAT.relay_whole(data, quirks).body)
    return found


def message_of(message: Json, finish: Any = "stop", quirks: Quirks = PLAIN) -> tuple[Json, Any]:
    choice = relayed(whole(message, finish), quirks)["choices"][0]
    return choice["message"], choice["finish_reason"]


CLEAN = {
    "text": whole({}, usage=USAGE),
    "null content": whole({"content": None, "refusal": None}),
    "calls": whole({"content": None, "tool_calls": [CALL, {**CALL, "id": "c2"}]}, "tool_calls"),
    "a custom call": whole(
        {"tool_calls": [{"id": "c", "type": "custom", "custom": {"name": "g", "input": "x"}}]}, "tool_calls"
    ),
    "no calls": whole({"tool_calls": []}),
    "a legacy call": whole({"content": None, "function_call": {"name": "f", "arguments": ""}}, "function_call"),
    "both names of reasoning": whole({"reasoning": "r", "reasoning_content": "r"}),
    "a null error": whole({}, error=None),
    "no usage": whole({}, usage=None),
    "unknown fields": whole({"annotations": [{"x": 1.0}]}, x_groq={"id": 1}),
    "cut by length": whole({}, "length"),
    "korean": whole({"content": "안녕"}),
}


@pytest.mark.parametrize("data", CLEAN.values(), ids=CLEAN.keys())
def test_a_right_answer_goes_out_as_the_same_object(data: bytes) -> None:
    """No copy, no re-encoding."""
    assert OPENAI_CHAT.relay_whole(data, PLAIN).body is data


def test_blank_lines_before_the_answer() -> None:
    """DeepSeek keeps a waiting connection open with empty lines."""
    assert OPENAI_CHAT.relay_whole(b"\n\r\n \n" + whole({}), PLAIN).body == whole({})


def test_what_was_written_is_counted() -> None:
    """Text, reasoning, refusal and arguments, in characters."""
    message = {"content": "안녕", "reasoning_content": "abc", "refusal": "n", "tool_calls": [CALL]}
    assert OPENAI_CHAT.relay_whole(whole(message, "tool_calls"), PLAIN).output_chars == 2 + 3 + 1 + 7
    custom = {"id": "c", "type": "custom", "custom": {"name": "g", "input": "xyz"}}
    assert OPENAI_CHAT.relay_whole(whole({"tool_calls": [custom]}, "tool_calls"), PLAIN).output_chars == 2 + 3


REPAIRS: list[tuple[str, Json, Json]] = [
    ("reasoning under vLLM's name", {"reasoning": "r"}, {"reasoning": "r", "reasoning_content": "r"}),
    (
        "reasoning beside a null",
        {"reasoning": "r", "reasoning_content": None},
        {"reasoning": "r", "reasoning_content": "r"},
    ),
    (
        "Mistral's parts",
        {
            "content": [
                {"type": "thinking", "thinking": [{"type": "text", "text": "t"}]},
                {"type": "text", "text": "a"},
                "b",
            ]
        },
        {"content": "ab", "reasoning_content": "t"},
    ),
    (
        "parts that are more than text",
        {"content": [{"type": "text", "text": "a"}, {"type": "reference", "reference_ids": [1]}]},
        {"content": "a", "content_parts": [{"type": "text", "text": "a"}, {"type": "reference", "reference_ids": [1]}]},
    ),
    ("content that is a number", {"content": 1.50}, {"content": "1.5"}),
    (
        "calls of null",
        {"tool_calls": None, "reasoning": "r"},
        {"tool_calls": None, "reasoning": "r", "reasoning_content": "r"},
    ),
    ("a role left out", {"role": None}, {"role": "assistant"}),
]


@pytest.mark.parametrize(("given", "expected"), [case[1:] for case in REPAIRS], ids=[case[0] for case in REPAIRS])
def test_repairs_of_a_message(given: Json, expected: Json) -> None:
    """The message as a client of OpenAI expects it; other fields stay."""
    message, _ = message_of({**given, "x": {"y": 1}})
    assert message == {"role": "assistant", "content": "hi", "x": {"y": 1}, **expected}


def test_reasoning_under_a_name_of_its_own() -> None:
    """The quirk names it."""
    message, _ = message_of({"thinking": "t"}, quirks=Quirks(thinking_field="thinking"))
    assert (message["reasoning_content"], message["thinking"]) == ("t", "t")


@pytest.mark.parametrize(
    ("tag", "content", "expected"),
    [
        ("inline", "<think>\nhm</think>\n\nhello", ("hm", "hello")),
        ("inline", "hello <think>", (None, "hello <think>")),
        ("open_implied", "hm</think>hello", ("hm", "hello")),
        ("open_implied", "still thinking", ("still thinking", "")),
        ("none", "<think>hm</think>hello", (None, "<think>hm</think>hello")),
    ],
)
def test_inline_thinking(tag: str, content: str, expected: tuple[str | None, str]) -> None:
    """Taken out of the content where the deployment says it stands there."""
    message, _ = message_of({"content": content}, quirks=Quirks(think_tag=tag))
    assert (message.get("reasoning_content"), message["content"]) == expected


CALLS: list[tuple[str, Json, Json]] = [
    (
        "arguments as an object",
        {"function": {"name": "f", "arguments": {"a": 1}}},
        {"name": "f", "arguments": '{"a": 1}'},
    ),
    ("arguments of null", {"function": {"name": "f", "arguments": None}}, {"name": "f", "arguments": ""}),
    ("no arguments", {"function": {"name": "f"}}, {"name": "f", "arguments": ""}),
    ("no name", {"function": {"arguments": "x"}}, {"name": "", "arguments": "x"}),
]


@pytest.mark.parametrize(("given", "expected"), [case[1:] for case in CALLS], ids=[case[0] for case in CALLS])
def test_repairs_of_a_call(given: Json, expected: Json) -> None:
    """Arguments become text, the type and the finish reason are filled in."""
    data = whole({"tool_calls": [{"id": "c1", "x": 1, **given}]}).replace(b'{"a":1}', b'{"a": 1}')
    choice = relayed(data)["choices"][0]
    (call,) = choice["message"]["tool_calls"]
    assert call == {"id": "c1", "x": 1, "type": "function", "function": expected}
    assert choice["finish_reason"] == "tool_calls"


def test_ids_are_minted_where_they_lack() -> None:
    """Missing, empty and repeated ids become unique ones, the same for the same answer."""
    function = {"name": "f", "arguments": "{}"}
    calls = [{"function": function}, {"id": "", "function": function}, CALL, CALL]
    message, _ = message_of({"tool_calls": calls})
    ids = [call["id"] for call in message["tool_calls"]]
    assert len(set(ids)) == 4
    assert ids[2] == "c1"
    assert all(name.startswith("call_") and len(name) == 29 for name in ids if name != "c1")
    assert message_of({"tool_calls": calls})[0] == message


@pytest.mark.parametrize(
    ("given", "has_calls", "expected"),
    [
        ("stop", True, "tool_calls"),
        ("", True, None),
        ("", False, None),
        ("function_call", True, "tool_calls"),
        ("eos", False, "stop"),
        ("model_length", False, "length"),
        ("MAX_TOKENS", False, "length"),
        ("tool_use", True, "tool_calls"),
        ("Stop", False, "stop"),
        ("length", True, "length"),
        ("never_heard_of", False, "never_heard_of"),
        (7, False, None),
        (None, False, None),
    ],
)
def test_finish_reasons(given: Any, has_calls: bool, expected: str | None) -> None:
    """Other vocabularies are mapped, calls win over stop, the unknown is passed on."""
    assert message_of({"tool_calls": [CALL]} if has_calls else {}, given)[1] == expected


@pytest.mark.parametrize("reason", ["insufficient_system_resource", "aborted", "abort", "ERROR"])
def test_reasons_that_are_no_answer(reason: str) -> None:
    """The provider gave up: another deployment may answer."""
    with pytest.raises(UpstreamRefused) as caught:
        relayed(whole({}, reason))
    assert caught.value.is_retryable
    assert caught.value.status == 503


USAGES: list[tuple[str, Any, Usage | None, Any]] = [
    ("plain", USAGE, Usage(12, 5), USAGE),
    ("absent", None, None, None),
    ("not an object", [1], None, None),
    (
        "negative",
        {"prompt_tokens": -3, "completion_tokens": -1},
        Usage(0, 0),
        {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
    ),
    (
        "fractional",
        {"prompt_tokens": 3.0, "completion_tokens": 2.7, "total_tokens": 5.7},
        Usage(3, 2),
        {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
    ),
    ("null", {"prompt_tokens": None, "completion_tokens": None}, None, None),
    (
        "half",
        {"prompt_tokens": 3, "completion_tokens": None, "total_tokens": 9},
        Usage(3, 6),
        {"prompt_tokens": 3, "completion_tokens": 6, "total_tokens": 9},
    ),
    ("strings", {"prompt_tokens": "3"}, None, None),
    ("huge", {"prompt_tokens": 10**12, "completion_tokens": 1}, None, None),
    (
        "details of null",
        {**USAGE, "prompt_tokens_details": None},
        Usage(12, 5),
        {**USAGE, "prompt_tokens_details": None},
    ),
    (
        "details of garbage",
        {**USAGE, "prompt_tokens_details": {"cached_tokens": "x"}, "completion_tokens_details": 3},
        Usage(12, 5),
        {**USAGE, "prompt_tokens_details": {}},
    ),
    (
        "thinking outside",
        {"prompt_tokens": 35, "completion_tokens": 12, "total_tokens": 109},
        Usage(35, 74, reasoning=62),
        None,
    ),
]


@pytest.mark.parametrize(("given", "usage", "shown"), [case[1:] for case in USAGES], ids=[case[0] for case in USAGES])
def test_usage_is_sane_or_absent(given: Any, usage: Usage | None, shown: Any) -> None:
    """Never negative, never a fraction; what cannot be believed is not believed (reliability.md A28)."""
    answer = OPENAI_CHAT.relay_whole(whole({}, usage=given), PLAIN)
    assert answer.usage == usage
    assert json.loads(answer.body)["usage"] == (given if shown is None and usage is not None else shown)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (
            {"prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 3, "audio_tokens": 2}},
            Usage(12, 5, 4, 3, audio_input=2),
        ),
        ({"prompt_cache_hit_tokens": 4, "prompt_cache_miss_tokens": 8}, Usage(12, 5, 4)),
        ({"num_cached_tokens": 4}, Usage(12, 5, 4)),
        ({"cached_tokens": 4}, Usage(12, 5, 4)),
        ({"reasoning_tokens": 3}, Usage(12, 5, reasoning=3)),
        (
            {"completion_tokens_details": {"reasoning_tokens": 3, "audio_tokens": 1}},
            Usage(12, 5, reasoning=3, audio_output=1),
        ),
        ({"prompt_tokens_details": {"cached_tokens": 99, "cache_write_tokens": 99}}, Usage(12, 5, 12)),
        ({"completion_tokens_details": {"reasoning_tokens": 99}}, Usage(12, 5, reasoning=5)),
        ({"completion_tokens_details": {"reasoning_tokens": -9}}, Usage(12, 5)),
        ({"prompt_tokens_details": {"cache_creation_input_tokens": 4}}, Usage(12, 5, cache_write=4)),
    ],
)
def test_usage_of_every_vendor(given: Json, expected: Usage) -> None:
    """The stray names of cache and reasoning counters (providers.md C8); parts never exceed their whole."""
    assert OPENAI_CHAT.relay_whole(whole({}, usage={**USAGE, **given}), PLAIN).usage == expected


GARBAGE = {
    "empty": b"",
    "a page": b"<html>bad gateway</html>",
    "cut off": whole({})[:-5],
    "a list": b"[]",
    "no choices": b'{"id":"x"}',
    "empty choices": b'{"id":"x","choices":[]}',
    "choices of null": b'{"choices":null}',
    "a choice that is none": b'{"choices":[1]}',
    "no message": b'{"choices":[{"index":0}]}',
    "calls that are no list": whole({"tool_calls": {"a": 1}}),
    "a call that is none": whole({"tool_calls": ["x"]}),
    "a call without function": whole({"tool_calls": [{"id": "x"}]}),
    "not UTF-8": whole({}).replace(b"hi", b"\xff\xfe"),
    "not UTF-8 in an unknown field": whole({"x": "Q"}).replace(b"Q", b"\xff"),
    "nesting without end": b'{"choices":' + b"[" * 100_000,
    "half a surrogate": whole({}).replace(b"hi", b"\\ud800"),
}


@pytest.mark.parametrize("data", GARBAGE.values(), ids=GARBAGE.keys())
def test_garbage(data: bytes) -> None:
    """One kind of error, retryable, and the bytes are not shown."""
    for call in (OPENAI_CHAT.relay_whole, OPENAI_CHAT.decode_response):
        with pytest.raises(UpstreamBroken) as caught:
            call(data, PLAIN)
        assert caught.value.is_retryable
        assert "html" not in caught.value.message


@pytest.mark.parametrize(
    ("data", "kind", "status"),
    [
        (b'{"error":{"message":"no","code":429}}', UpstreamRefused, 429),
        (b'{"error":{"message":"no","type":"overloaded_error"}}', UpstreamRefused, 529),
        (b'{"error":"no"}', UpstreamRefused, 502),
        (b'{"error":["no"]}', UpstreamRefused, 502),
        (b'{"error":{"message":"bad key","code":"invalid_api_key"}}', UpstreamAuth, 502),
        (b'{"object":"error","message":"no","type":"BadRequestError","param":null,"code":400}', UpstreamRefused, 400),
        (b'{"code":"InvalidParameter","message":"no","request_id":"r"}', UpstreamRefused, 502),
        (b'{"detail":"not here"}', UpstreamRefused, 502),
        (whole({}, error={"message": "no", "code": 503}), UpstreamRefused, 503),
    ],
)
def test_an_error_with_status_200(data: bytes, kind: type[UpstreamError], status: int) -> None:
    """Mapped like any other error, so that another deployment is tried (reliability.md A18)."""
    with pytest.raises(kind) as caught:
        OPENAI_CHAT.relay_whole(data, PLAIN)
    assert caught.value.status == status


def test_choices_without_numbers() -> None:
    """They are numbered by place."""
    data = compact({"choices": [{"message": {"content": "a"}}, {"index": "x", "message": {"content": "b"}}]})
    assert [choice["index"] for choice in relayed(data)["choices"]] == [0, 1]
