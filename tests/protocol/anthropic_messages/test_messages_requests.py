"""Requests of Anthropic's callers: what is read and refused, and what other models get."""

from __future__ import annotations

import json
from typing import Any

import pytest

from naru.errors import BadRequest
from naru.protocol.anthropic_messages import ANTHROPIC_MESSAGES
from naru.protocol.dialect import Quirks
from naru.protocol.messages import (
    File,
    Reasoning,
    ReasoningPolicy,
    Request,
    Text,
    ToolResult,
)
from naru.protocol.openai_chat import OPENAI_CHAT
from naru.protocol.seal import seal
from tests.protocol.anthropic_messages.samples import PATH, PLAIN, body, envelope
from tests.protocol.samples import Json


def read(**fields: Any) -> Request:
    return ANTHROPIC_MESSAGES.decode_request(ANTHROPIC_MESSAGES.read(body(**fields), PATH))


def sent(request: Request, quirks: Quirks = PLAIN) -> Json:
    fields: Json = json.loads(ANTHROPIC_MESSAGES.encode_request(request, quirks).body)
    return fields


def dropped(request: Request, quirks: Quirks = PLAIN) -> tuple[str, ...]:
    return ANTHROPIC_MESSAGES.encode_request(request, quirks).dropped


# --- Reading --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_tokens": 1e12}, "max_tokens"),
        ({"model": ""}, "model"),
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"stream": 1}, "stream"),
        ({"stop_sequences": ["x"] * 300}, "stop_sequences"),
        ({"api_base": "http://x"}, "api_base"),
    ],
)
def test_what_money_and_routing_need_is_checked_at_once(fields: Json, param: str) -> None:
    """The field at fault is named."""
    with pytest.raises(BadRequest) as caught:
        ANTHROPIC_MESSAGES.read(body(**fields), PATH)
    assert caught.value.param == param


def test_what_is_read_of_a_request() -> None:
    """Usage always comes with a stream here; counting tokens needs no limit; a pre-warming request asks for none."""
    found = envelope(max_tokens=0)
    assert (found.model, found.is_stream, found.wants_usage, found.max_output_tokens, found.n) == (
        "m",
        True,
        True,
        0,
        1,
    )
    counted = ANTHROPIC_MESSAGES.read(body(max_tokens=None), "/v1/messages/count_tokens?beta=true")
    assert counted.max_output_tokens is None
    assert json.loads(ANTHROPIC_MESSAGES.count_tokens(counted))["input_tokens"] in range(5, 20)


def test_inline_files_are_not_text() -> None:
    """Base64 counts at a flat rate in estimates, in bytes as in tokens."""
    source = {"type": "base64", "media_type": "image/png", "data": "A" * 2_000_000}
    found = envelope(messages=[{"role": "user", "content": [{"type": "image", "source": source}]}])
    assert found.input_bytes < 10_000
    assert json.loads(ANTHROPIC_MESSAGES.count_tokens(found))["input_tokens"] < 2_000


@pytest.mark.parametrize(
    ("content", "param"),
    [
        ([{"text": "no type"}], "messages[0].content[0].type"),
        ([{"type": "text"}], "messages[0].content[0].text"),
        ([{"type": "text", "text": "a"}, {"type": "image"}], "messages[0].content[1].source"),
        ([{"type": "tool_use", "id": "a"}], "messages[0].content[0].name"),
        ([{"type": "tool_result", "tool_use_id": "a", "content": 3}], "messages[0].content[0].content"),
        ([{"type": "tool_result", "content": "x"}], "messages[0].content[0].tool_use_id"),
        (3, "messages[0].content"),
        (None, "messages[0].content"),
    ],
)
def test_a_block_at_fault_is_named_by_its_path(content: Any, param: str) -> None:
    """The caller is told where, and what the rule is."""
    with pytest.raises(BadRequest) as caught:
        read(messages=[{"role": "user", "content": content}])
    assert caught.value.param == param
    assert f"`{param}`" in caught.value.message


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
        ({"tools": {}}, "tools"),
        ({"tools": [{"input_schema": {}}]}, "tools[0].name"),
        ({"tools": [{"name": "f", "input_schema": []}]}, "tools[0].input_schema"),
        ({"tools": [{"name": "f", "strict": 1}]}, "tools[0].strict"),
        ({"tool_choice": "auto"}, "tool_choice.type"),
        ({"tool_choice": {"type": "tool"}}, "tool_choice.name"),
        ({"stop_sequences": "x"}, "stop_sequences"),
        ({"output_config": {"format": {"type": "json_object"}}}, "output_config.format"),
        ({"temperature": "warm"}, "temperature"),
        ({"thinking_budget": -1}, "thinking_budget"),
    ],
)
def test_a_field_at_fault_is_named(fields: Json, param: str) -> None:
    """What has the wrong shape is refused by name."""
    with pytest.raises(BadRequest) as caught:
        read(**fields)
    assert caught.value.param == param


# --- Anthropic's callers, other models --------------------------------------------------------------------------------


def test_claude_code_to_a_chat_model() -> None:
    """System blocks, tools, calls and their results arrive as chat completions have them."""
    request = read(
        system=[
            {"type": "text", "text": "x-anthropic-billing-header: cc_version=2; cch=17"},
            {"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}},
        ],
        messages=[
            {"role": "user", "content": "weather in Seoul?"},
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "call it", "signature": ""},
                    {"type": "text", "text": "One moment."},
                    {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {"city": "서울"}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "text", "text": "31 °C"}]},
                    {"type": "text", "text": "and?"},
                ],
            },
        ],
        tools=[{"type": "custom", "name": "get_weather", "input_schema": {"type": "object"}, "defer_loading": True}],
        tool_choice={"type": "any", "disable_parallel_tool_use": True},
        stop_sequences=["END"],
        thinking={"type": "adaptive"},
        output_config={"effort": "high", "format": {"type": "json_schema", "schema": {"type": "object"}}},
        metadata={"user_id": "u1"},
    )
    chat = json.loads(OPENAI_CHAT.encode_request(request, Quirks(thinking_replay_field="reasoning_content")).body)
    assert chat["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "weather in Seoul?"},
        {
            "role": "assistant",
            "content": "One moment.",
            "reasoning_content": "call it",
            "tool_calls": [
                {
                    "id": "toolu_1",
                    "type": "function",
                    "function": {"name": "get_weather", "arguments": '{"city":"서울"}'},
                }
            ],
        },
        {"role": "tool", "tool_call_id": "toolu_1", "content": "31 °C"},
        {"role": "user", "content": "and?"},
    ]
    assert chat["tools"][0]["function"] == {"name": "get_weather", "parameters": {"type": "object"}}
    assert (chat["tool_choice"], chat["parallel_tool_calls"]) == ("required", False)
    assert (chat["stop"], chat["max_tokens"], chat["user"]) == (["END"], 64, "u1")
    assert chat["reasoning_effort"] == "high"
    assert chat["response_format"]["json_schema"]["schema"] == {"type": "object"}


@pytest.mark.parametrize(
    ("fields", "policy"),
    [
        ({"thinking": {"type": "enabled", "budget_tokens": 2_000}}, ReasoningPolicy(True, None, 2_000)),
        ({"thinking": {"type": "disabled"}}, ReasoningPolicy(False)),
        ({"thinking": {"type": "between_tools"}}, ReasoningPolicy(True)),
        ({"thinking": {"type": "adaptive", "display": "omitted"}}, ReasoningPolicy(True)),
        ({"output_config": {"effort": "max"}}, ReasoningPolicy(None, "max")),
        ({"enable_thinking": True, "thinking_budget": 512}, ReasoningPolicy(True, None, 512)),
        ({"thinking": {"type": "disabled"}, "enable_thinking": True}, ReasoningPolicy(False)),
        ({}, ReasoningPolicy()),
    ],
)
def test_thinking_becomes_the_common_policy(fields: Json, policy: ReasoningPolicy) -> None:
    """In Anthropic's forms and in Naru's own; a form that has more to say is written back to Anthropic as it was."""
    request = read(**fields)
    assert request.reasoning == policy
    if "enable_thinking" not in fields:
        again = sent(request)
        assert {name: again[name] for name in fields} == fields


def test_tool_results_with_more_than_words() -> None:
    """Images are parts; what only Anthropic knows stays, for Anthropic, beside what it says in words."""
    search = {"type": "search_result", "source": "https://x", "title": "T", "content": [{"type": "text", "text": "s"}]}
    content = [
        {"type": "text", "text": "found"},
        {"type": "tool_reference", "tool_name": "f"},
        search,
        {"type": "unheard_of"},
    ]
    block = {"type": "tool_result", "tool_use_id": "t", "content": content, "is_error": True}
    request = read(messages=[{"role": "user", "content": [block]}])
    (result,) = request.messages[0].parts
    assert isinstance(result, ToolResult)
    told = (Text("found"), Text("The tool f can be called now."), Text("T\nhttps://x\ns"))
    assert (result.parts, result.is_error) == (told, True)
    assert sent(request)["messages"][0]["content"] == [block]


def test_documents_become_files() -> None:
    """PDF, plain text, an address and an uploaded file."""
    sources = [
        {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="},
        {"type": "text", "media_type": "text/plain", "data": "안녕"},
        {"type": "url", "url": "https://x/a.pdf"},
        {"type": "file", "file_id": "file_1"},
    ]
    blocks = [
        {"type": "document", "source": source, "title": "t", "citations": {"enabled": True}} for source in sources
    ]
    request = read(messages=[{"role": "user", "content": blocks}])
    files = [part for part in request.messages[0].parts if isinstance(part, File)]
    assert [(f.media_type, f.data is not None, f.url, f.file_id) for f in files] == [
        ("application/pdf", True, None, None),
        ("text/plain", True, None, None),
        (None, False, "https://x/a.pdf", None),
        (None, False, None, "file_1"),
    ]
    assert sent(request)["messages"][0]["content"] == blocks


def test_thinking_signed_by_another_provider_never_reaches_anthropic() -> None:
    """The signature that a client sends back says whose it is."""
    mine = {"type": "thinking", "thinking": "a", "signature": "EqQB"}
    theirs = {"type": "thinking", "thinking": "b", "signature": seal("gemini", "sig", None)}
    request = read(messages=[{"role": "user", "content": "q"}, {"role": "assistant", "content": [mine, theirs]}])
    thoughts = request.messages[1].parts
    assert [(part.text, part.signature) for part in thoughts if isinstance(part, Reasoning)] == [
        ("a", "EqQB"),
        ("b", "sig"),
    ]
    assert sent(request)["messages"][1]["content"] == [mine]
    assert dropped(request) == ("messages.reasoning",)


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("thread", {"type": "create"}, "thread_unsupported_request"),
        ("thread", {"type": "continue", "previous_message_id": "msg_1"}, "thread_unsupported_request"),
        ("compaction", {"type": "summarize"}, "unsupported_parameter"),
    ],
)
def test_what_only_anthropic_keeps_is_refused(field: str, value: Json, code: str) -> None:
    """A continued thread has only its newest messages in it: another provider's model would answer half a question."""
    with pytest.raises(BadRequest) as caught:
        read(**{field: value})
    assert (caught.value.code, caught.value.param) == (code, field)
    read(**{field: None})
