"""Same dialect, streams: bytes through, usage watched, repairs where they are due, and every way a stream can end."""

from __future__ import annotations

import json
from typing import Any

import pytest

from naru.errors import UpstreamBroken, UpstreamError, UpstreamRefused
from naru.protocol.dialect import Quirks
from naru.protocol.messages import Usage
from naru.protocol.openai_chat.relay import ChatStreamRelay
from tests.protocol.samples import DONE, HEAD, PLAIN, USAGE, Json, chunk, datas, envelope, event, price

ROLE = chunk({"role": "assistant", "content": ""})
TEXT = chunk({"content": "hi"})
STOP = chunk({}, "stop")
USAGE_CHUNK = event({**HEAD, "choices": [], "usage": USAGE})


def relay(wants_usage: bool = False, quirks: Quirks = PLAIN) -> ChatStreamRelay:
    return ChatStreamRelay(envelope(wants_usage), quirks, price)


def deltas(out: bytes) -> list[Json]:
    return [found["choices"][0]["delta"] for found in datas(out) if found != "[DONE]" and found["choices"]]


# --- Bytes through ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("piece", [TEXT, TEXT * 5, ROLE + TEXT + STOP, TEXT + b": keep-alive\n\n" + TEXT])
def test_a_piece_that_needs_nothing_is_the_same_object(piece: bytes, end: bytes) -> None:
    """No copy, for one event or several, LF or CRLF."""
    stream = relay()
    piece = piece.replace(b"\n", end)
    assert stream.feed(piece) is piece
    assert stream.feed(piece) is piece


def test_an_event_waits_until_it_is_whole() -> None:
    """What is incomplete may yet be an error; it goes out unchanged with its rest."""
    stream = relay()
    assert stream.feed(TEXT + TEXT[:40]) == TEXT
    assert stream.feed(TEXT[40:-1]) == b""
    assert stream.feed(TEXT[-1:] + STOP) == TEXT + STOP


@pytest.mark.parametrize(
    ("delta", "counts", "chars"),
    [
        ({"role": "assistant", "content": ""}, False, 0),
        ({"role": "assistant", "content": None, "reasoning_content": ""}, False, 0),
        ({}, False, 0),
        ({"content": "안녕"}, True, 2),
        ({"reasoning_content": "abc"}, True, 3),
        ({"reasoning": "abc"}, True, 3),
        ({"refusal": "n"}, True, 1),
        (
            {"tool_calls": [{"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": ""}}]},
            True,
            0,
        ),
        ({"function_call": {"name": "f", "arguments": "{}"}}, True, 2),
        ({"audio": {"id": "a"}}, True, 0),
    ],
)
def test_what_counts_as_content(delta: Json, counts: bool, chars: int) -> None:
    """Until the first of it another deployment may take over."""
    stream = relay()
    stream.feed(b": keep-alive\n\n")
    stream.feed(chunk(delta))
    assert (stream.has_content, stream.output_chars) == (counts, chars)


def test_comments_and_filter_results_pass() -> None:
    """OpenRouter's comments and Azure's empty choices are harmless."""
    prompt_filter = event({**HEAD, "choices": [], "prompt_filter_results": [{"x": 1}]})
    stream = relay()
    assert stream.feed(b": OPENROUTER PROCESSING\n\n" + prompt_filter) == b": OPENROUTER PROCESSING\n\n" + prompt_filter
    assert not stream.has_content


# --- Usage --------------------------------------------------------------------------------------------------------


def test_who_did_not_ask_sees_no_usage_chunk() -> None:
    """It is read for the bill and taken out."""
    stream = relay()
    assert stream.feed(TEXT + STOP + USAGE_CHUNK + DONE) == TEXT + STOP + DONE
    assert (stream.usage, stream.is_finished) == (Usage(12, 5), True)


def test_who_asked_sees_usage_with_its_cost() -> None:
    """The cost is an exact decimal number; every other field of the chunk stays."""
    given: Json = {**HEAD, "choices": [], "x": 1, "usage": {**USAGE, "queue_time": 0.1}}
    stream = relay(wants_usage=True)
    out = stream.feed(event(given) + DONE)
    assert b'"cost_usd":0.000017' in out
    assert datas(out) == [{**given, "usage": {**given["usage"], "naru": {"cost_usd": 0.000017}}}, "[DONE]"]


def test_usage_on_the_finish_chunk() -> None:
    """Groq, DeepSeek, OpenRouter: it stays there, with the cost for who asked."""
    last = chunk({}, "stop", usage=USAGE)
    assert relay().feed(last) is last
    stream = relay(wants_usage=True)
    found = datas(stream.feed(last + DONE))
    assert found[0]["usage"] == {**USAGE, "naru": {"cost_usd": 0.000017}}
    assert found[1:] == ["[DONE]"]


def test_the_last_usage_counts() -> None:
    """Continuous usage is never added up."""
    stream = relay()
    for tokens in (1, 2, 3):
        stream.feed(chunk({"content": "x"}, usage={**USAGE, "completion_tokens": tokens, "total_tokens": 12 + tokens}))
    assert stream.usage == Usage(12, 3)


@pytest.mark.parametrize("ending", [DONE, b""])
def test_usage_nobody_reported_is_estimated(ending: bytes) -> None:
    """Before [DONE], flagged, with the stream's own id; the relay's own figure is the same."""
    stream = relay(wants_usage=True)
    out = stream.feed(chunk({"content": "x" * 400}) + STOP + ending) + stream.close()
    usage = datas(out)[-2]["usage"]
    assert stream.usage == Usage(8, 100, is_estimated=True)
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (8, 100, 108)
    assert usage["naru"] == {"cost_usd": 0.000108, "estimated": True}
    assert {name: datas(out)[-2][name] for name in HEAD} == HEAD
    assert datas(out)[-1] == "[DONE]"


def test_who_did_not_ask_gets_no_estimate() -> None:
    """The gateway estimates for the bill; the relay says it knows nothing."""
    stream = relay()
    assert stream.feed(TEXT + STOP + DONE) == TEXT + STOP + DONE
    assert stream.usage is None


@pytest.mark.parametrize(
    "usage", [{"prompt_tokens": None}, {"prompt_tokens": 10**12, "completion_tokens": 1}, "x", [], {}]
)
def test_usage_that_cannot_be_believed(usage: Any) -> None:
    """It is not shown; an estimate takes its place for who asked (reliability.md A28)."""
    odd = event({**HEAD, "choices": [], "usage": usage})
    assert relay().feed(TEXT + STOP + odd + DONE) == TEXT + STOP + DONE
    found = datas(relay(wants_usage=True).feed(TEXT + STOP + odd + DONE))
    assert [bool(each.get("usage")) for each in found[:-1]] == [False, False, True]
    assert found[2]["usage"]["naru"]["estimated"] is True


def test_usage_of_fractions_and_negatives_is_put_right() -> None:
    """Never a negative charge."""
    odd = event({**HEAD, "choices": [], "usage": {"prompt_tokens": -5, "completion_tokens": 2.0}})
    stream = relay(wants_usage=True)
    usage = datas(stream.feed(odd))[0]["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (0, 2, 2)
    assert stream.usage == Usage(0, 2)


# --- Ends ---------------------------------------------------------------------------------------------------------


def test_done() -> None:
    """Finished; what comes after it is not the client's business."""
    stream = relay()
    assert stream.feed(TEXT + STOP + DONE + TEXT) == TEXT + STOP + DONE
    assert (stream.is_finished, stream.error) == (True, None)
    assert stream.feed(TEXT) == b""
    assert stream.close() == b""


@pytest.mark.parametrize("line", [b"data: [DONE]", b"data:[DONE]\n", b"data: [DONE]\r\n"])
def test_done_without_its_blank_line(line: bytes) -> None:
    """Many servers end right after the word."""
    for wants_usage in (False, True):
        stream = relay(wants_usage)
        out = stream.feed(TEXT + STOP + line) + stream.close()
        assert stream.is_finished
        assert out.endswith((b"\n\ndata: [DONE]\n\n", b"\n\ndata:[DONE]\n\n"))


def test_done_is_added_where_the_answer_was_complete() -> None:
    """A finish reason is enough (reliability.md A7)."""
    stream = relay()
    assert stream.feed(TEXT + STOP) == TEXT + STOP
    assert not stream.is_finished
    assert stream.close() == DONE
    assert (stream.is_finished, stream.error) == (True, None)


@pytest.mark.parametrize(
    "sent", [b"", ROLE, TEXT, b": keep-alive\n\n", STOP[:-20], chunk({"content": "x"}, ""), b"data: {"]
)
def test_a_stream_cut_before_its_finish_reason(sent: bytes) -> None:
    """An error, and never a false [DONE] (reliability.md A6)."""
    stream = relay()
    stream.feed(sent)
    assert stream.close() == b""
    assert isinstance(stream.error, UpstreamBroken)
    assert stream.error.code == "upstream_incomplete"
    assert not stream.is_finished


def test_every_choice_has_to_finish() -> None:
    """With n = 2 one finished choice is half an answer."""
    stream = relay()
    stream.feed(chunk({"content": "a"}) + chunk({"content": "b"}, choice=1) + STOP)
    stream.close()
    assert stream.error is not None
    stream = relay()
    stream.feed(chunk({"content": "a"}) + STOP + chunk({"content": "b"}, choice=1) + chunk({}, "length", choice=1))
    assert stream.close() == DONE


def test_the_last_event_may_lack_its_blank_line() -> None:
    """It is passed on, ended properly."""
    stream = relay()
    assert stream.feed(TEXT + STOP[:-2]) == TEXT
    assert stream.close() == STOP + DONE


ERRORS: list[tuple[str, bytes, int]] = [
    ("an object", event({"error": {"message": "no", "code": 500}}), 500),
    ("an object, then [DONE]", event({"error": {"message": "no", "code": 500}}) + DONE, 500),
    ("a string", event({"error": "no"}), 502),
    ("beside choices", chunk({"content": ""}, "error", error={"message": "no", "code": 502}), 502),
    ("an event named error", b"event: error\ndata: " + b'{"message":"no","type":"overloaded_error"}' + b"\n\n", 529),
    ("at the top level", event({"object": "error", "message": "no", "code": 400}), 400),
    ("DashScope's", event({"code": "data_inspection_failed", "message": "no", "request_id": "r"}), 400),
    ("a reason that is none", chunk({}, "insufficient_system_resource"), 503),
    ("malformed JSON", b'data: {"choices":[{"index":0,"del\n\n', 502),
    ("no object", b"data: 17\n\n", 502),
    ("invalid UTF-8", TEXT.replace(b"hi", b"\xff\xfe"), 502),
    ("invalid UTF-8 elsewhere", TEXT.replace(b'"up"', b'"\xff"'), 502),
    ("choices of a wrong kind", event({**HEAD, "choices": [3]}), 502),
    ("an index of a wrong kind", event({**HEAD, "choices": [{"index": 0, "delta": {"tool_calls": ["x"]}}]}), 502),
]


@pytest.mark.parametrize(("fault", "status"), [case[1:] for case in ERRORS], ids=[case[0] for case in ERRORS])
@pytest.mark.parametrize("before", [b"", ROLE + TEXT])
def test_errors_inside_a_stream(fault: bytes, status: int, before: bytes) -> None:
    """What came before goes out, nothing of the faulty event does, and nothing after it."""
    stream = relay()
    assert stream.feed(before + fault + TEXT) == before
    assert isinstance(stream.error, UpstreamError)
    assert stream.error.status == status
    assert stream.has_content == bool(before)
    assert stream.feed(TEXT + DONE) == b""
    assert stream.close() == b""
    assert not stream.is_finished


def test_an_event_without_end() -> None:
    """Memory stays bounded (reliability.md A12)."""
    stream = relay()
    for _ in range(80):
        stream.feed(b"data: " + b"x" * 65_536)
    assert isinstance(stream.error, UpstreamBroken)
    assert stream.error.code == "upstream_event_too_large"


# --- Repairs ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"reasoning": "r", "x": 1}, {"reasoning": "r", "x": 1, "reasoning_content": "r"}),
        ({"reasoning": "", "reasoning_content": None}, {"reasoning": "", "reasoning_content": ""}),
        (
            {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "t"}]}]},
            {"content": "", "reasoning_content": "t"},
        ),
        ({"content": [{"type": "text", "text": "a"}]}, {"content": "a"}),
        ({"tool_calls": None}, {"tool_calls": None}),
        (None, {}),
    ],
)
def test_repairs_of_a_delta(given: Json | None, expected: Json) -> None:
    """The names and types that OpenAI's clients know."""
    assert deltas(relay().feed(chunk(given))) == [expected]


def test_event_fields_survive_a_repair() -> None:
    """The id and name of an event stay."""
    out = relay().feed(b"event: m\nid: 4\n" + chunk({"reasoning": "r"}))
    assert out.startswith(b"event: m\nid: 4\ndata: {")


def fragments(*given: Json, finish: Any = "stop") -> tuple[list[Json], Any]:
    """The tool fragments as the client sees them, and the finish reason."""
    stream = relay()
    out = b"".join(stream.feed(chunk({"tool_calls": [each]})) for each in given)
    last = datas(stream.feed(chunk({}, finish)))[0]["choices"][0]["finish_reason"]
    assert stream.error is None
    return [each for delta in deltas(out) for each in delta["tool_calls"]], last


def part(arguments: Any, name: str | None = None, **more: Any) -> Json:
    function = {"arguments": arguments} if name is None else {"name": name, "arguments": arguments}
    return {**more, "function": function}


def test_well_formed_calls_pass_untouched() -> None:
    """Two calls interleaved, a name in two fragments, arguments cut anywhere (reliability.md A27)."""
    pieces = [
        part("", "get_", index=0, id="a", type="function"),
        {"index": 0, "function": {"name": "weather", "arguments": ""}},
        part("", "g", index=1, id="b", type="function"),
        part('{"x":"\\', index=0),
        part("{}", index=1),
        part('u00e9"}', index=0),
    ]
    stream = relay()
    for piece in pieces:
        data = chunk({"tool_calls": [piece]})
        assert stream.feed(data) is data
    assert stream.output_chars == 16
    both = chunk(
        {
            "tool_calls": [
                part("", "f", index=5, id="c", type="function"),
                part("", "g", index=6, id="d", type="function"),
            ]
        }
    )
    assert stream.feed(both) is both


def test_fragments_without_index() -> None:
    """A known id goes on, a new one begins the next call, none belongs to the last (providers.md A7.6)."""
    found, last = fragments(
        part("", "f", id="a", type="function"),
        part("1"),
        part("", "g", id="b"),
        part("2"),
        part("3", id="a"),
        part("4"),
    )
    assert [(each["index"], each.get("id"), each["function"]["arguments"]) for each in found] == [
        (0, "a", ""), (0, None, "1"), (1, "b", ""), (1, None, "2"), (0, None, "3"), (0, None, "4"),
    ]  # fmt: skip
    assert last == "tool_calls"


def test_ids_come_once() -> None:
    """A repeated or empty id is taken off later fragments: accumulators would join it to itself."""
    found, _ = fragments(
        part("", "f", index=0, id="a", type="function"),
        part("1", index=0, id="a"),
        {**part("2", index=0, id=""), "function": {"name": None, "arguments": "2"}},
        part("3", index=0, id="another"),
    )
    assert [each.get("id") for each in found] == ["a", None, None, None]
    assert {each["index"] for each in found} == {0}


def test_every_call_numbered_zero() -> None:
    """A new id with a new name under a used index is the next call; its fragments follow it."""
    found, _ = fragments(
        part("{}", "f", index=0, id="a", type="function"),
        part("", "g", index=0, id="b", type="function"),
        part("1", index=0),
    )
    assert [(each["index"], each.get("id")) for each in found] == [(0, "a"), (1, "b"), (1, None)]


def test_calls_without_ids() -> None:
    """Minted once, unique, and the type filled in; whole calls in one chunk each stay apart."""
    found, _ = fragments(part({"a": 1.50}, "f"), part({}, "f"), part("", "g", index=7, id=""))
    assert [each["index"] for each in found] == [0, 1, 7]
    assert len({each["id"] for each in found}) == 3
    assert {each["type"] for each in found} == {"function"}
    assert json.loads(found[0]["function"]["arguments"]) == {"a": 1.5}


@pytest.mark.parametrize(("given", "expected"), [(None, ""), ({"a": [1]}, '{"a":[1]}'), (7, "7")])
def test_arguments_become_text(given: Any, expected: str) -> None:
    """Null and objects, on the first fragment and on later ones."""
    found, _ = fragments(part(given, "f", index=0, id="a", type="function"), part(given, index=0))
    assert [each["function"]["arguments"] for each in found] == [expected, expected]


def test_a_whole_call_without_arguments() -> None:
    """Its first fragment has them, if only empty."""
    found, _ = fragments({"index": 0, "id": "a", "type": "function", "function": {"name": "f"}})
    assert found[0]["function"] == {"name": "f", "arguments": ""}


def test_custom_calls() -> None:
    """Grammar tools stream their input; other faults are put right in them too."""
    first = {"index": 0, "id": "a", "type": "custom", "custom": {"name": "g", "input": ""}}
    stream = relay()
    for delta in (first, {"index": 0, "custom": {"input": "x"}}):
        data = chunk({"tool_calls": [delta]})
        assert stream.feed(data) is data
    found, _ = fragments({"custom": {"name": "g", "input": None}, "id": "a"}, {"custom": {"input": "x"}})
    assert found[0] == {"index": 0, "id": "a", "type": "custom", "custom": {"name": "g", "input": ""}}
    assert found[1] == {"index": 0, "custom": {"input": "x"}}


@pytest.mark.parametrize(
    ("given", "expected"),
    [("stop", "tool_calls"), ("function_call", "tool_calls"), ("length", "length"), ("tool_use", "tool_calls")],
)
def test_finish_reason_after_calls(given: str, expected: str) -> None:
    """Old vLLM ends a named call with stop."""
    assert fragments(part("", "f", index=0, id="a", type="function"), finish=given)[1] == expected


def test_an_empty_finish_reason_is_null() -> None:
    """It does not end the choice."""
    stream = relay()
    assert datas(stream.feed(chunk({"content": "a"}, "")))[0]["choices"][0]["finish_reason"] is None
    stream.close()
    assert stream.error is not None


@pytest.mark.parametrize("size", [1, 2, 3, 5, 100])
def test_inline_thinking_over_any_border(size: int) -> None:
    """The tag may be cut anywhere; what was held back comes with the finish chunk."""
    text = "<think>\nhm <b></think>\n\nhello </th"
    stream = relay(quirks=Quirks(think_tag="inline"))
    out = b"".join(
        stream.feed(chunk({"content": text[at : at + size]})) for at in range(0, len(text), size)
    ) + stream.feed(STOP)
    assert "".join(delta.get("reasoning_content") or "" for delta in deltas(out)) == "hm <b>"
    assert "".join(delta.get("content") or "" for delta in deltas(out)) == "hello </th"


def test_held_back_text_is_not_lost_without_a_finish_chunk() -> None:
    """[DONE] alone ends the stream: the text comes before it."""
    stream = relay(quirks=Quirks(think_tag="open_implied"))
    out = stream.feed(chunk({"content": "abc</th"}) + DONE)
    assert [delta.get("reasoning_content") for delta in deltas(out)] == ["abc", "</th"]
    assert datas(out)[-1] == "[DONE]"


def test_the_error_of_a_stream_can_be_retried_or_not() -> None:
    """A refusal of the request itself is not tried elsewhere."""
    stream = relay()
    stream.feed(event({"error": {"message": "no", "type": "invalid_request_error", "code": "tool_use_failed"}}))
    assert isinstance(stream.error, UpstreamRefused)
    assert not stream.error.is_retryable
