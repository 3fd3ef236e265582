"""Chat requests against the typed messages: every form of every field, and what cannot be said."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec import Raw

from naru.errors import BadRequest
from naru.protocol.dialect import Quirks
from naru.protocol.messages import (
    Audio,
    File,
    Image,
    Message,
    Opaque,
    OpaqueTool,
    Reasoning,
    ReasoningPolicy,
    Refusal,
    Request,
    ResponseFormat,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from naru.protocol.openai_chat import OPENAI_CHAT
from tests.protocol.samples import (
    FULL,
    PLAIN,
    Json,
    body,
)


def decoded(**fields: Any) -> Request:
    return OPENAI_CHAT.decode_request(OPENAI_CHAT.read(body(**fields)))


def parts_of(*messages: Json) -> list[tuple[str, tuple[Any, ...]]]:
    return [(message.role, message.parts) for message in decoded(messages=list(messages)).messages]


def encoded(request: Request, quirks: Quirks = FULL) -> tuple[Json, tuple[str, ...]]:
    forwarded = OPENAI_CHAT.encode_request(request, quirks)
    return json.loads(forwarded.body), forwarded.dropped


USER = Message("user", (Text("u"),))


def foreign(**fields: Any) -> Request:
    """A request that another dialect decoded."""
    return Request(**{"model": "m", "messages": (USER,), "dialect": "other", **fields})


# --- Requests in --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ({"type": "text", "text": "a", "cache_control": {"x": 1}}, Text("a", {"cache_control": Raw(b'{"x":1}')})),
        ("a", Text("a")),
        (
            {"type": "image_url", "image_url": {"url": "u", "detail": "low", "x": 1}},
            Image("u", "low", {"image_url.x": Raw(b"1")}),
        ),
        ({"type": "image_url", "image_url": "u"}, Image("u")),
        ({"type": "input_audio", "input_audio": {"data": "d", "format": "wav"}}, Audio("d", "wav")),
        ({"type": "file", "file": {"file_data": "d", "filename": "f"}}, File("d", filename="f")),
        ({"type": "file", "file": {"file_id": "i"}}, File(file_id="i")),
        ({"type": "refusal", "refusal": "no"}, Refusal("no")),
        ({"type": "thinking", "thinking": [{"type": "text", "text": "t"}]}, Reasoning("t")),
        ({"type": "video_url", "x": 1}, Opaque("openai_chat", "video_url", Raw(b'{"type":"video_url","x":1}'))),
    ],
)
def test_parts_of_a_message(part: Any, expected: Any) -> None:
    """Every kind, with its unknown fields; what nobody knows is kept as it is."""
    assert parts_of({"role": "user", "content": [part]}) == [("user", (expected,))]


def test_an_assistants_fields_become_parts() -> None:
    """In OpenAI's order: thinking, text, refusal, calls."""
    calls = [
        {"id": "a", "type": "function", "function": {"name": "f", "arguments": {"x": 1}}, "extra_content": {"y": 2}},
        {"id": "b", "type": "custom", "custom": {"name": "g", "input": "free"}},
    ]
    message = {
        "role": "assistant",
        "content": "c",
        "reasoning": "r",
        "refusal": "no",
        "tool_calls": calls,
        "audio": {"id": "z"},
    }
    (found,) = decoded(messages=[message]).messages
    assert found.parts == (
        Reasoning("r"),
        Text("c"),
        Refusal("no"),
        ToolCall("a", "f", '{"x":1}', extra={"extra_content": Raw(b'{"y":2}')}),
        ToolCall("b", "g", "free", "custom"),
    )
    assert found.extra == {"audio": Raw(b'{"id":"z"}')}


def test_signed_thinking_comes_back() -> None:
    """`thinking_blocks` carry signatures and encrypted parts; they win over the plain text."""
    blocks = [{"type": "thinking", "thinking": "t", "signature": "s"}, {"type": "redacted_thinking", "data": "e"}]
    message = {"role": "assistant", "content": None, "reasoning_content": "t", "thinking_blocks": blocks}
    assert parts_of(message) == [("assistant", (Reasoning("t", "s"), Reasoning("", None, "e")))]


def test_the_legacy_functions() -> None:
    """function_call and role function become calls and results that belong together."""
    call = {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}}
    result = {"role": "function", "name": "f", "content": "1"}
    found = parts_of(call, result, call, result)
    ids = [part.id if isinstance(part, ToolCall) else part.call_id for _, (part,) in found]
    assert ids[0] == ids[1] != ids[2] == ids[3]
    assert [role for role, _ in found] == ["assistant", "tool", "assistant", "tool"]
    request = decoded(functions=[{"name": "f", "parameters": {}}], function_call={"name": "f"})
    assert request.tools == (Tool("f", None, Raw(b"{}")),)
    assert request.tool_choice == ToolChoice("named", ("f",))
    assert decoded(function_call="none").tool_choice == ToolChoice("none")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("none", ToolChoice("none")),
        ("any", ToolChoice("required")),
        ({"type": "function", "function": {"name": "f"}}, ToolChoice("named", ("f",))),
        ({"type": "custom", "custom": {"name": "g"}}, ToolChoice("named", ("g",))),
        (
            {
                "type": "allowed_tools",
                "allowed_tools": {"mode": "required", "tools": [{"type": "function", "function": {"name": "f"}}]},
            },
            ToolChoice("required", ("f",)),
        ),
        (None, None),
    ],
)
def test_tool_choices(given: Any, expected: ToolChoice | None) -> None:
    """Every form; null is as good as absent."""
    assert decoded(tool_choice=given).tool_choice == expected


def test_tools() -> None:
    """Functions are typed with their unknown fields; other kinds stay as they are."""
    function = {"type": "function", "function": {"name": "f", "description": "d", "strict": True, "z": 1}, "cache": 2}
    web = {"type": "web_search", "x": 1}
    assert decoded(tools=[function, web]).tools == (
        Tool("f", "d", None, True, {"cache": Raw(b"2"), "function.z": Raw(b"1")}),
        OpaqueTool("openai_chat", "web_search", Raw(b'{"type":"web_search","x":1}')),
    )


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"type": "text"}, ResponseFormat("text")),
        ({"type": "json_object"}, ResponseFormat("json_object")),
        ({"type": "json_object", "schema": {}}, ResponseFormat("json_object", schema=Raw(b"{}"))),
        (
            {"type": "json_schema", "json_schema": {"name": "n", "schema": {"x": 1.50}, "strict": True}},
            ResponseFormat("json_schema", "n", Raw(b'{"x":1.5}'), True),
        ),
    ],
)
def test_response_formats(given: Json, expected: ResponseFormat) -> None:
    """The three kinds, and llama.cpp's object with a schema."""
    request = decoded(response_format=given)
    assert request.response_format == expected
    assert request.extra == {}


def test_a_response_format_nobody_knows_stays() -> None:
    """vLLM's structural tags go back as they came."""
    request = decoded(response_format={"type": "structural_tag", "x": [1]})
    assert request.response_format is None
    assert encoded(request)[0]["response_format"] == {"type": "structural_tag", "x": [1]}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"reasoning_effort": "low"}, ReasoningPolicy(effort="low")),
        ({"enable_thinking": False, "thinking_budget": 5}, ReasoningPolicy(enabled=False, budget_tokens=5)),
        ({"thinking": {"type": "enabled", "budget_tokens": 9}}, ReasoningPolicy(True, budget_tokens=9)),
        ({"thinking": {"type": "disabled"}}, ReasoningPolicy(False)),
        ({"reasoning": {"effort": "high", "summary": "auto"}}, ReasoningPolicy(effort="high", summary="auto")),
        ({"reasoning": {"max_tokens": 9}, "reasoning_effort": "low"}, ReasoningPolicy(effort="low", budget_tokens=9)),
        ({"reasoning": {"exclude": True}}, ReasoningPolicy()),
    ],
)
def test_thinking_in_every_form(fields: Json, expected: ReasoningPolicy) -> None:
    """Understood forms become the policy; others stay as unknown fields."""
    request = decoded(**fields)
    assert request.reasoning == expected
    assert request.extra.keys() == ({"reasoning"} if expected == ReasoningPolicy() else set())


WRONG: list[tuple[Json, str]] = [
    ({"messages": ["x"]}, "messages[0]"),
    ({"messages": [{"role": "nobody"}]}, "messages[0].role"),
    ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": [5]}]}, "messages[0].content[0]"),
    ({"messages": [{"role": "user", "content": [{"x": 1}]}]}, "messages[0].content[0].type"),
    ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
    ({"messages": [{"role": "user", "content": [{"type": "file", "file": {}}]}]}, "messages[0].content[0].file"),
    ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
    ({"messages": [{"role": "assistant", "tool_calls": "x"}]}, "messages[0].tool_calls"),
    ({"messages": [{"role": "assistant", "tool_calls": [{"id": "a"}]}]}, "messages[0].tool_calls[0]"),
    (
        {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f"}}]}]},
        "messages[0].tool_calls[0].id",
    ),
    ({"tools": {}}, "tools"),
    ({"tools": [{"type": "function"}]}, "tools[0].function"),
    ({"tools": [{"type": "function", "function": {"name": ""}}]}, "tools[0].function.name"),
    ({"tools": [{}]}, "tools[0].type"),
    ({"tool_choice": "maybe"}, "tool_choice"),
    ({"tool_choice": 3}, "tool_choice"),
    ({"tool_choice": {"type": "function"}}, "tool_choice.function"),
    ({"tool_choice": {"type": "allowed_tools"}}, "tool_choice.allowed_tools"),
    ({"response_format": "json"}, "response_format"),
    ({"response_format": {}}, "response_format.type"),
    ({"response_format": {"type": "json_schema", "json_schema": {"strict": 3}}}, "response_format.json_schema.strict"),
    ({"temperature": "hot"}, "temperature"),
    ({"seed": 1.5}, "seed"),
    ({"stop": 3}, "stop"),
    ({"stop": ["a", 3]}, "stop"),
    ({"user": 3}, "user"),
    ({"parallel_tool_calls": "yes"}, "parallel_tool_calls"),
    ({"enable_thinking": 3}, "enable_thinking"),
]


@pytest.mark.parametrize(("fields", "param"), WRONG, ids=[param for _, param in WRONG])
def test_fields_of_the_wrong_shape(fields: Json, param: str) -> None:
    """Refused with the path of the field at fault."""
    with pytest.raises(BadRequest) as caught:
        decoded(**fields)
    assert caught.value.param == param
    assert param in caught.value.message


def test_a_number_outside_the_floats() -> None:
    """1e400 is valid JSON and no temperature (reliability.md B6)."""
    data = body().replace(b'"model"', b'"temperature":1e400,"model"')
    with pytest.raises(BadRequest):
        OPENAI_CHAT.decode_request(OPENAI_CHAT.read(data))


# --- Requests out -------------------------------------------------------------------------------------------------


def test_another_dialects_extras_stay_home() -> None:
    """They mean nothing here; their names are told."""
    call = ToolCall("i", "f", "{}", extra={"sig": Raw(b"1")})
    message = Message("assistant", (Text("a", {"cache": Raw(b"1")}), call), extra={"m": Raw(b"1")})
    sent, dropped = encoded(foreign(messages=(message,), extra={"top": Raw(b"1")}))
    assert sent["messages"] == [
        {
            "role": "assistant",
            "content": "a",
            "tool_calls": [{"id": "i", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
        }
    ]
    assert dropped == ("messages.cache", "messages.m", "top")


def test_results_stand_alone() -> None:
    """Another API's user message with results and text becomes several messages; errors are only named."""
    results = (ToolResult("a", (Text("1"),)), ToolResult("b", (Text("2"), Image("u")), is_error=True))
    sent, dropped = encoded(foreign(messages=(Message("user", (*results, Text("and?"))),)))
    assert sent["messages"] == [
        {"role": "tool", "tool_call_id": "a", "content": "1"},
        {
            "role": "tool",
            "tool_call_id": "b",
            "content": [{"type": "text", "text": "2"}, {"type": "image_url", "image_url": {"url": "u"}}],
        },
        {"role": "user", "content": "and?"},
    ]
    assert dropped == ("messages.tool.is_error",)


def test_reasoning_goes_where_the_upstream_takes_it() -> None:
    """Under its field or not at all; a foreign signature is of no use to anyone."""
    request = foreign(messages=(Message("assistant", (Reasoning("r", "sig"), Text("a"))),))
    assert encoded(request, PLAIN) == (
        {"model": "m", "messages": [{"role": "assistant", "content": "a"}]},
        ("messages.reasoning.signature", "messages.reasoning"),
    )
    sent, dropped = encoded(request, Quirks(thinking_replay_field="reasoning"))
    assert sent["messages"][0]["reasoning"] == "r"
    assert dropped == ("messages.reasoning.signature",)
    needy = Quirks(thinking_replay_field="reasoning_content", needs_reasoning_replay=True)
    sent, _ = encoded(foreign(messages=(Message("assistant", (Text("a"),)),), tools=(Tool("f"),)), needy)
    assert sent["messages"][0]["reasoning_content"] == " "


def test_quirks_of_a_translated_request() -> None:
    """The same names and limits as for a forwarded one."""
    request = foreign(
        messages=(Message("developer", (Text("d"),)), USER),
        max_output_tokens=5,
        is_stream=True,
        reasoning=ReasoningPolicy(enabled=False),
        user="u",
    )
    quirks = Quirks(
        max_tokens_field="max_completion_tokens", thinking_style="deepseek", renames=(("user", "user_id"),), has_n=False
    )
    assert encoded(request, quirks)[0] == {
        "model": "m",
        "messages": [{"role": "system", "content": "d"}, {"role": "user", "content": "u"}],
        "max_completion_tokens": 5,
        "stream": True,
        "stream_options": {"include_usage": True},
        "thinking": {"type": "disabled"},
        "user_id": "u",
    }
    assert "stream_options" not in encoded(request, Quirks(has_stream_usage=False))[0]
    assert encoded(foreign(), Quirks(is_stream_only=True))[0]["stream"] is True


@pytest.mark.parametrize(
    ("request_", "quirks", "param"),
    [
        (foreign(messages=(Message("user", (Opaque("other", "document", Raw(b"{}")),)),)), FULL, "messages"),
        (foreign(messages=(Message("user", (File(url="https://x"),)),)), FULL, "messages"),
        (foreign(messages=(Message("assistant", (Image("u"),)),)), FULL, "messages"),
        (foreign(tools=(OpaqueTool("other", "bash_20250124", Raw(b"{}")),)), FULL, "tools"),
        (foreign(n=2), Quirks(has_n=False), "n"),
        (foreign(tool_choice=ToolChoice("named")), FULL, "tool_choice"),
    ],
)
def test_what_cannot_be_said_is_refused_by_name(request_: Request, quirks: Quirks, param: str) -> None:
    """Rather than answered differently."""
    with pytest.raises(BadRequest) as caught:
        encoded(request_, quirks)
    assert caught.value.param == param


def test_a_file_of_bare_base64() -> None:
    """It becomes the data URI that chat completions take."""
    sent, _ = encoded(foreign(messages=(Message("user", (File("QUJD", media_type="application/pdf"),)),)))
    assert sent["messages"][0]["content"][0]["file"] == {"file_data": "data:application/pdf;base64,QUJD"}
