"""Requests: read and checked, decoded to the typed messages, encoded from them, and passed on."""

from __future__ import annotations

import json
from typing import Any

import pytest

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
    Sampling,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from naru.protocol.openai_chat import OPENAI_CHAT
from naru.protocol.openai_responses import OPENAI_RESPONSES
from tests.protocol.openai_responses.samples import OPENAI, PLAIN, Json, body, raw, request, sealed, written
from tests.protocol.samples import compact

USER = Message("user", (Text("hi"),))


# --- Read ---------------------------------------------------------------------------------------------------------


def test_what_money_and_routing_need() -> None:
    """Sizes of what the model reads; inline files count at a flat rate."""
    fields: Json = {"instructions": "Be kind.", "tools": [{"type": "web_search"}], "text": {"verbosity": "low"}}
    read = OPENAI_RESPONSES.read(body(stream=True, max_output_tokens=9, **fields))
    assert (read.model, read.is_stream, read.wants_usage, read.max_output_tokens, read.n) == ("m", True, True, 9, 1)
    assert read.input_bytes == len(compact("hi")) + sum(len(compact(value)) for value in fields.values())
    image = {"type": "input_image", "image_url": "data:image/png;base64," + "A" * 100_000}
    assert OPENAI_RESPONSES.read(body(input=[{"role": "user", "content": [image]}])).input_bytes < 5_000


@pytest.mark.parametrize(
    ("data", "param"),
    [
        (b'{"model":"m"}', "input"),
        (b'{"model":"m","input":[]}', "input"),
        (b'{"model":"m","input":{}}', "input"),
        (b'{"input":"x"}', "model"),
        (body(max_output_tokens=0), "max_output_tokens"),
        (body(stream="yes"), "stream"),
        (body(api_key="k"), "api_key"),
        (b'{"model":"m","input":"a","input":"b"}', "input"),
    ],
)
def test_bodies_that_are_refused(data: bytes, param: str) -> None:
    """Each with the field at fault."""
    with pytest.raises(BadRequest) as error:
        OPENAI_RESPONSES.read(data)
    assert error.value.param == param


@pytest.mark.parametrize("name", ["previous_response_id", "conversation", "prompt"])
def test_what_is_kept_elsewhere_may_be_the_whole_input(name: str) -> None:
    """The same dialect passes it on; every other says to send the whole input."""
    read = OPENAI_RESPONSES.read(compact({"model": "m", name: "x"}))
    assert json.loads(OPENAI_RESPONSES.forward(read, "up", PLAIN).body) == {"model": "up", name: "x"}
    with pytest.raises(BadRequest, match="Send the whole input") as error:
        OPENAI_RESPONSES.decode_request(read)
    assert error.value.param == name


# --- Decode -------------------------------------------------------------------------------------------------------


def test_the_plain_fields() -> None:
    found = request(
        instructions="Be kind.",
        parallel_tool_calls=False,
        max_output_tokens=99,
        temperature=0.5,
        top_p=0.9,
        metadata={"a": "b"},
        user="u",
        service_tier="flex",
        stream=True,
        store=True,
        truncation="auto",
        prompt_cache_key="k",
        safety_identifier="s",
        stream_options={"include_obfuscation": False},
        background=False,
        max_tool_calls=None,
    )
    assert found == Request(
        model="m",
        messages=(Message("system", (Text("Be kind."),)), USER),
        parallel_tool_calls=False,
        max_output_tokens=99,
        sampling=Sampling(temperature=0.5, top_p=0.9),
        metadata=raw({"a": "b"}),
        user="u",
        service_tier="flex",
        is_stream=True,
        wants_usage=True,
        extra={
            "store": raw(True), "truncation": raw("auto"), "prompt_cache_key": raw("k"), "safety_identifier": raw("s"),
        },
        dialect="openai_responses",
    )  # fmt: skip


PARTS: list[tuple[Json, Any]] = [
    ({"type": "input_text", "text": "t"}, Text("t")),
    ({"type": "input_image", "image_url": "https://x/y.png", "detail": "low"}, Image("https://x/y.png", "low")),
    ({"type": "input_image", "image_url": "data:x", "detail": "auto"}, Image("data:x")),
    ({"type": "input_file", "file_data": "data:a", "filename": "a.pdf"}, File(data="data:a", filename="a.pdf")),
    ({"type": "input_file", "file_url": "https://x"}, File(url="https://x")),
    ({"type": "input_file", "file_id": "file-1"}, File(file_id="file-1")),
    ({"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}}, Audio("AA", "wav")),
    (
        {"type": "input_image", "file_id": "f"},
        Opaque("openai_responses", "input_image", raw({"type": "input_image", "file_id": "f"})),
    ),
]


@pytest.mark.parametrize(("part", "expected"), PARTS)
def test_parts_of_a_message(part: Json, expected: Any) -> None:
    """Both ways, but for a detail of `auto`, which is what none means."""
    item = {"type": "message", "role": "user", "content": [part]}
    found = request(input=[item])
    assert found.messages == (Message("user", (expected,)),)
    sent = written(found)["input"][0]["content"]
    assert sent == [part] or sent == "t"


def test_a_turn_of_the_assistant_is_one_message() -> None:
    """Reasoning, messages and calls side by side belong together; outputs and users' messages end them."""
    items: list[Json] = [
        {"role": "user", "content": "hi"},
        {
            "type": "reasoning",
            "id": "rs_1",
            "summary": [{"type": "summary_text", "text": "Look"}],
            "encrypted_content": "gAAAAx",
        },
        {
            "type": "message",
            "role": "assistant",
            "id": "msg_1",
            "phase": "commentary",
            "content": [{"type": "output_text", "text": "a"}],
        },
        {"type": "message", "role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
        {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "f", "arguments": "{}", "status": "completed"},
        {"type": "custom_tool_call", "call_id": "c2", "name": "patch", "input": "x"},
        {"type": "function_call", "call_id": "c3", "name": "find", "namespace": "crm", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "o"},
        {"type": "custom_tool_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "p"}]},
        {"role": "developer", "content": "d"},
        {"role": "assistant", "content": "bye"},
    ]
    found = request(input=items).messages
    turn = (
        Reasoning("Look", extra={"id": raw("rs_1"), "encrypted_content": raw("gAAAAx")}),
        Text("a", {"item.id": raw("msg_1"), "item.phase": raw("commentary")}),
        Refusal("no"),
        ToolCall("c1", "f", "{}", extra={"id": raw("fc_1")}),
        ToolCall("c2", "patch", '{"input":"x"}', extra={"type": raw("custom_tool_call")}),
        ToolCall("c3", "crm__find", "{}", extra={"namespace": raw("crm")}),
    )
    assert found == (
        USER,
        Message("assistant", turn),
        Message("tool", (ToolResult("c1", (Text("o"),)),)),
        Message("tool", (ToolResult("c2", (Text("p"),), extra={"type": raw("custom_tool_call_output")}),)),
        Message("developer", (Text("d"),)),
        Message("assistant", (Text("bye"),)),
    )
    again = written(request(input=items))["input"]
    assert [item["type"] for item in again] == [item.get("type", "message") for item in items if item != items[3]]
    assert again[4] == {"type": "custom_tool_call", "call_id": "c2", "name": "patch", "input": "x"}
    assert again[5] == items[6]
    assert again[1] == items[1]


def test_sealed_reasoning_is_opened() -> None:
    """What Naru sealed for the caller comes out as signature and encrypted form; somebody's own blob stays closed."""
    blob = sealed("sig", "enc")
    item = {
        "type": "reasoning",
        "id": "rs",
        "summary": [{"type": "summary_text", "text": "t"}],
        "encrypted_content": blob,
    }
    part = request(input=[item, {"role": "user", "content": "x"}]).messages[0].parts[0]
    assert isinstance(part, Reasoning)
    assert (part.text, part.signature, part.encrypted) == ("t", "sig", "enc")
    for other in ("gAAAAAB", "naru1.", "naru1.%%", "naru1.e30="):
        part = request(input=[{**item, "encrypted_content": other}]).messages[0].parts[0]
        assert isinstance(part, Reasoning)
        assert (part.signature, part.encrypted) == (None, None)


GRAMMAR = {"type": "grammar", "syntax": "lark", "definition": "start: /.+/"}


def test_tools() -> None:
    """Functions as they are; custom tools and namespaces as functions; a server's own kept whole."""
    listed: list[Json] = [
        {"type": "function", "name": "f", "description": "d", "parameters": {"type": "object"}, "strict": True, "defer_loading": True},
        {"type": "custom", "name": "patch", "description": "Edits.", "format": GRAMMAR},
        {"type": "namespace", "name": "crm", "description": "", "tools": [
            {"type": "function", "name": "find", "parameters": {}}, {"type": "custom", "name": "note"},
        ]},
        {"type": "web_search"},
    ]  # fmt: skip
    found = request(tools=listed)
    f, patch, find, note, search = found.tools
    assert f == Tool("f", "d", raw({"type": "object"}), True, {"defer_loading": raw(True)})
    assert isinstance(patch, Tool)
    assert patch.parameters is not None
    assert json.loads(bytes(patch.parameters))["required"] == ["input"]
    assert "start: /.+/" in (patch.description or "")
    assert "lark grammar" in (patch.description or "")
    assert isinstance(find, Tool)
    assert isinstance(note, Tool)
    assert (find.name, note.name) == ("crm__find", "crm__note")
    assert search == OpaqueTool("openai_responses", "web_search", raw({"type": "web_search"}))
    assert written(found)["tools"] == listed


def test_tools_reach_chat_completions() -> None:
    """A custom tool and its call and output are functions there; a server's tool is refused by name."""
    found = request(
        tools=[{"type": "custom", "name": "patch"}],
        tool_choice={"type": "custom", "name": "patch"},
        input=[
            {"role": "user", "content": "x"},
            {"type": "custom_tool_call", "call_id": "c", "name": "patch", "input": "a\nb"},
            {"type": "custom_tool_call_output", "call_id": "c", "output": "done"},
        ],
    )
    sent = json.loads(OPENAI_CHAT.encode_request(found, PLAIN).body)
    assert sent["tools"][0]["function"]["name"] == "patch"
    assert sent["tool_choice"] == {"type": "function", "function": {"name": "patch"}}
    assert sent["messages"][1]["tool_calls"][0]["function"] == {"name": "patch", "arguments": '{"input":"a\\nb"}'}
    assert sent["messages"][2] == {"role": "tool", "tool_call_id": "c", "content": "done"}
    with pytest.raises(BadRequest, match="web_search"):
        OPENAI_CHAT.encode_request(request(tools=[{"type": "web_search"}]), PLAIN)


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("auto", ToolChoice("auto")),
        ("none", ToolChoice("none")),
        ("required", ToolChoice("required")),
        ({"type": "function", "name": "f"}, ToolChoice("named", ("f",))),
        (
            {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": n} for n in "fg"]},
            ToolChoice("required", ("f", "g")),
        ),
    ],
)
def test_tool_choices(choice: Any, expected: ToolChoice) -> None:
    """Both ways."""
    found = request(tool_choice=choice)
    assert found.tool_choice == expected
    assert written(found)["tool_choice"] == choice


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ({"type": "text"}, ResponseFormat("text")),
        ({"type": "json_object"}, ResponseFormat("json_object")),
        (
            {"type": "json_schema", "name": "n", "schema": {"a": 1.50}, "strict": True, "description": "d"},
            ResponseFormat("json_schema", "n", raw({"a": 1.50}), True, "d"),
        ),
    ],
)
def test_text_formats(form: Json, expected: ResponseFormat) -> None:
    """Both ways, beside what else `text` says."""
    found = request(text={"format": form, "verbosity": "low"})
    assert found.response_format == expected
    assert found.extra == {"text.verbosity": raw("low")}
    assert written(found)["text"] == {"format": form, "verbosity": "low"}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"reasoning": {"effort": "low", "summary": "auto"}}, ReasoningPolicy(None, "low", None, "auto")),
        ({"reasoning": {"generate_summary": "concise"}}, ReasoningPolicy(summary="concise")),
        ({"reasoning_effort": "high", "enable_thinking": True}, ReasoningPolicy(True, "high")),
        ({"reasoning_effort": "high", "reasoning": {"effort": "low"}}, ReasoningPolicy(None, "low")),
        ({"thinking_budget": 512}, ReasoningPolicy(budget_tokens=512)),
    ],
)
def test_thinking(fields: Json, expected: ReasoningPolicy) -> None:
    """Its own form, and the extensions that any API takes."""
    assert request(**fields).reasoning == expected


@pytest.mark.parametrize(
    ("fields", "logprobs", "top", "include"),
    [
        ({"include": ["message.output_text.logprobs"], "top_logprobs": 0}, True, 0, None),
        ({"top_logprobs": 3}, True, 3, None),
        ({"top_logprobs": 0}, None, None, None),
        ({"include": ["reasoning.encrypted_content"]}, None, None, ["reasoning.encrypted_content"]),
    ],
)
def test_logprobs(fields: Json, logprobs: bool | None, top: int | None, include: list[str] | None) -> None:
    found = request(**fields)
    assert (found.logprobs, found.top_logprobs) == (logprobs, top)
    assert found.extra == ({} if include is None else {"include": raw(include)})


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"background": True}, "background"),
        ({"moderation": {"model": "m"}}, "moderation"),
        ({"context_management": [{"type": "compaction"}]}, "context_management"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0]"),
        ({"input": [{"id": "msg_1"}]}, "input[0]"),
        ({"input": [{}]}, "input[0].type"),
        ({"input": ["x"]}, "input[0]"),
        ({"input": [{"role": "robot", "content": "x"}]}, "input[0].role"),
        ({"input": [{"role": "user", "content": 3}]}, "input[0].content"),
        ({"input": [{"role": "user", "content": [{"type": "input_text"}]}]}, "input[0].content[0].text"),
        ({"input": [{"role": "user", "content": [{"type": "input_file"}]}]}, "input[0].content[0]"),
        ({"input": [{"type": "function_call", "name": "f", "arguments": ""}]}, "input[0].call_id"),
        ({"input": [{"type": "function_call", "call_id": "c", "arguments": ""}]}, "input[0].name"),
        ({"input": [{"type": "function_call_output", "output": ""}]}, "input[0].call_id"),
        ({"tools": [{"type": "function"}]}, "tools[0].name"),
        ({"tools": [{}]}, "tools[0].type"),
        ({"tools": {}}, "tools"),
        ({"tools": [{"type": "namespace", "name": "n", "tools": []}]}, "tools[0].tools"),
        ({"tool_choice": "any"}, "tool_choice"),
        ({"tool_choice": {"type": "web_search"}}, "tool_choice"),
        (
            {"tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "mcp", "name": "x"}]}},
            "tool_choice",
        ),
        ({"text": {"format": {"type": "xml"}}}, "text.format.type"),
        ({"text": "x"}, "text"),
        ({"reasoning": {"effort": 3}}, "reasoning.effort"),
        ({"temperature": "hot"}, "temperature"),
        ({"include": "x"}, "include"),
        ({"instructions": ["x"]}, "instructions"),
    ],
)
def test_what_no_other_model_can_do_is_refused_by_name(fields: Json, param: str) -> None:
    with pytest.raises(BadRequest) as error:
        request(**fields)
    assert error.value.param == param


# --- Encode -------------------------------------------------------------------------------------------------------


def from_chat(quirks: Quirks = PLAIN, **fields: Any) -> tuple[Json, tuple[str, ...]]:
    """What an upstream gets of a chat caller's request, without what every request has."""
    asked = OPENAI_CHAT.decode_request(
        OPENAI_CHAT.read(compact({"model": "m", "messages": [{"role": "user", "content": "hi"}], **fields}))
    )
    forwarded = OPENAI_RESPONSES.encode_request(asked, quirks)
    sent = json.loads(forwarded.body)
    assert sent.pop("model") == "m"
    assert sent.pop("store") is False
    if "messages" not in fields:
        assert sent.pop("input") == [{"type": "message", "role": "user", "content": "hi"}]
    return sent, forwarded.dropped


FUNCTION = {"type": "function", "name": "f", "arguments": "{}"}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
CUSTOM = {
    "type": "custom",
    "custom": {"name": "p", "format": {"type": "grammar", "grammar": {"syntax": "lark", "definition": "x"}}},
}


@pytest.mark.parametrize(
    ("fields", "quirks", "expected", "dropped"),
    [
        ({"max_tokens": 9, "temperature": 0.5}, PLAIN, {"max_output_tokens": 9, "temperature": 0.5}, ()),
        ({"stream": True}, PLAIN, {"stream": True}, ()),
        ({}, Quirks(is_stream_only=True), {"stream": True}, ()),
        (
            {"tools": [TOOL, CUSTOM]},
            PLAIN,
            {"tools": [
                {"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": False},
                {"type": "custom", "name": "p", "format": {"type": "grammar", "syntax": "lark", "definition": "x"}},
            ]},
            (),
        ),
        (
            {"tools": [CUSTOM], "tool_choice": {"type": "custom", "custom": {"name": "p"}}},
            PLAIN,
            {"tools": [{"type": "custom", "name": "p", "format": {"type": "grammar", "syntax": "lark", "definition": "x"}}],
             "tool_choice": {"type": "custom", "name": "p"}},
            (),
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {}}}},
            PLAIN,
            {"text": {"format": {"type": "json_schema", "name": "response", "schema": {}}}},
            (),
        ),
        ({"reasoning_effort": "xhigh"}, Quirks(effort_values=(("xhigh", "max"),)), {"reasoning": {"effort": "max"}}, ()),
        ({"enable_thinking": False}, PLAIN, {"reasoning": {"effort": "none"}}, ()),
        ({"thinking_budget": 1000}, PLAIN, {"reasoning": {"effort": "low"}}, ()),
        ({"reasoning_effort": "low"}, Quirks(thinking_style="none"), {}, ("reasoning_effort",)),
        ({"reasoning_effort": "low"}, Quirks(tools_need_responses=True), {"reasoning": {"effort": "low"}, "include": ["reasoning.encrypted_content"]}, ()),
        ({"logprobs": True, "top_logprobs": 2}, PLAIN, {"include": ["message.output_text.logprobs"], "top_logprobs": 2}, ()),
        ({"seed": 3, "presence_penalty": 0.1, "logit_bias": {"1": 2}}, PLAIN, {}, ("seed", "presence_penalty", "logit_bias")),
        ({"user": "u", "service_tier": "flex"}, Quirks(drops=frozenset({"user"})), {"service_tier": "flex"}, ("user",)),
    ],
)  # fmt: skip
def test_a_chat_request(fields: Json, quirks: Quirks, expected: Json, dropped: tuple[str, ...]) -> None:
    """Field by field; what has no counterpart and changes no answer is left out by name."""
    assert from_chat(quirks, **fields) == (expected, dropped)


@pytest.mark.parametrize(("field", "value"), [("stop", "x"), ("n", 2)])
def test_what_changes_the_answer_is_refused(field: str, value: Any) -> None:
    with pytest.raises(BadRequest) as error:
        from_chat(**{field: value})
    assert error.value.param == field


HISTORY: list[Json] = [
    {"role": "system", "content": "Be kind."},
    {"role": "developer", "content": "d"},
    {"role": "user", "content": [{"type": "text", "text": "t"}, {"type": "image_url", "image_url": {"url": "data:x"}}], "name": "ann"},
    {"role": "assistant", "content": "a", "reasoning_content": "r", "tool_calls": [
        {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}},
        {"id": "c2", "type": "custom", "custom": {"name": "p", "input": "x"}},
    ]},
    {"role": "tool", "tool_call_id": "c1", "content": "o"},
    {"role": "tool", "tool_call_id": "c2", "content": "o"},
]  # fmt: skip


def test_a_chat_history() -> None:
    """The leading system message is the instructions; calls and their outputs are items; names have no place."""
    sent, dropped = from_chat(messages=HISTORY)
    assert dropped == ("messages.name", "messages.reasoning")
    assert sent == {
        "instructions": "Be kind.",
        "input": [
            {"type": "message", "role": "system", "content": "d"},
            {"type": "message", "role": "user", "content": [
                {"type": "input_text", "text": "t"}, {"type": "input_image", "image_url": "data:x", "detail": "auto"},
            ]},
            {"type": "message", "role": "assistant", "content": "a"},
            {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
            {"type": "custom_tool_call", "call_id": "c2", "name": "p", "input": "x"},
            {"type": "function_call_output", "call_id": "c1", "output": "o"},
            {"type": "custom_tool_call_output", "call_id": "c2", "output": "o"},
        ],
    }  # fmt: skip
    assert from_chat(OPENAI, messages=HISTORY)[0]["input"][0]["role"] == "developer"


def reasoning_sent(part: Reasoning, quirks: Quirks) -> tuple[list[Any], tuple[str, ...]]:
    asked = Request("m", (USER, Message("assistant", (part, Text("a"))), USER), dialect="anthropic_messages")
    forwarded = OPENAI_RESPONSES.encode_request(asked, quirks)
    items = json.loads(forwarded.body)["input"]
    return [item for item in items if item["type"] == "reasoning"], forwarded.dropped


def test_reasoning_of_other_callers() -> None:
    """OpenAI's own comes back to it; another's text goes only to who wants it, another's signature to nobody."""
    own = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "t"}], "encrypted_content": "gAAAAx"}
    assert reasoning_sent(Reasoning("t", None, "gAAAAx"), OPENAI) == ([own], ())
    lost = ("messages.reasoning.signature", "messages.reasoning")
    assert reasoning_sent(Reasoning("t", "sig"), OPENAI) == ([], lost)
    assert reasoning_sent(Reasoning("", None, "EmwKAhgB"), OPENAI) == ([], lost[:1])
    deepseek = Quirks(thinking_replay_field="reasoning_content")
    replayed = {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "t"}]}
    assert reasoning_sent(Reasoning("t"), deepseek) == ([replayed], ())


@pytest.mark.parametrize(
    "part",
    [Audio("AA", "wav"), Image("data:x"), Opaque("gemini", "executableCode", raw({}))],
)
def test_parts_without_a_place_are_refused(part: Any) -> None:
    asked = Request("m", (USER, Message("assistant", (part,)), USER), dialect="gemini")
    with pytest.raises(BadRequest, match="Responses"):
        OPENAI_RESPONSES.encode_request(asked, PLAIN)


# --- Forward ------------------------------------------------------------------------------------------------------


def test_only_the_model_changes() -> None:
    """Bytes of every other value stay as they were, digits included."""
    data = (
        b'{"model":"a","input":[{"role":"user","content":"\\uc548"}],"top_p":0.10,"x":1e2,"previous_response_id":"r"}'
    )
    forwarded = OPENAI_RESPONSES.forward(OPENAI_RESPONSES.read(data), "b", PLAIN)
    assert forwarded.body == data.replace(b'"model":"a"', b'"model":"b"')


def forwarded(quirks: Quirks, **fields: Any) -> tuple[Json, tuple[str, ...]]:
    read = OPENAI_RESPONSES.read(body(**fields))
    before = dict(read.fields)
    found = OPENAI_RESPONSES.forward(read, "up", quirks)
    assert read.fields == before
    sent = json.loads(found.body)
    assert sent.pop("model") == "up"
    if "input" not in fields:
        assert sent.pop("input") == "hi"
    return sent, found.dropped


SEALED = {"type": "reasoning", "id": "rs", "summary": [], "encrypted_content": sealed("sig")}
DEVELOPER = {"role": "developer", "content": "d", "x": 1}
NATIVE = {"type": "reasoning", "id": "rs", "summary": [], "encrypted_content": "gAAAAx"}


@pytest.mark.parametrize(
    ("fields", "quirks", "expected", "dropped"),
    [
        ({"thinking_budget": 9000}, PLAIN, {"reasoning": {"effort": "high"}}, ()),
        ({"enable_thinking": False, "reasoning": {"summary": "auto"}}, PLAIN, {"reasoning": {"effort": "none", "summary": "auto"}}, ()),
        ({"enable_thinking": True}, Quirks(thinking_style="none"), {}, ("enable_thinking",)),
        ({"reasoning": {"effort": "minimal", "x": 1}}, Quirks(effort_values=(("minimal", "low"),)), {"reasoning": {"effort": "low", "x": 1}}, ()),
        ({"user": "u", "seed": 1}, Quirks(drops=frozenset({"user"}), renames=(("seed", "s"),)), {"s": 1}, ("user",)),
        ({}, Quirks(is_stream_only=True), {"stream": True}, ()),
        ({"input": [DEVELOPER]}, PLAIN, {"input": [{**DEVELOPER, "role": "system"}]}, ()),
        ({"input": [DEVELOPER, NATIVE]}, OPENAI, {"input": [DEVELOPER, NATIVE]}, ()),
        ({"input": [DEVELOPER, SEALED, NATIVE]}, OPENAI, {"input": [DEVELOPER, NATIVE]}, ("input.reasoning",)),
    ],
)  # fmt: skip
def test_what_an_upstream_wants_otherwise(
    fields: Json, quirks: Quirks, expected: Json, dropped: tuple[str, ...]
) -> None:
    assert forwarded(quirks, **fields) == (expected, dropped)
