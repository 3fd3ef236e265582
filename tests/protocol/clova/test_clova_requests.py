"""Requests to CLOVA Studio: the table of providers.md A1.3, row by row."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec import Raw
from msgspec.structs import replace

from naru.errors import BadRequest
from naru.protocol.clova import CLOVA
from naru.protocol.dialect import Quirks
from naru.protocol.messages import (
    Audio,
    File,
    Image,
    Message,
    OpaqueTool,
    Reasoning,
    ReasoningPolicy,
    Request,
    ResponseFormat,
    Sampling,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from tests.protocol.clova.samples import THINKS, V1, V3, Json, compact, request

TOOL = Tool("f", "d", Raw(b'{"type":"object","properties":{"a":{"type":"integer"}}}'))
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}


def sent(asked: Request, quirks: Quirks = V3) -> tuple[Json, tuple[str, ...]]:
    found = CLOVA.encode_request(asked, quirks)
    return json.loads(found.body), found.dropped


def conversation(*messages: Message, **fields: Any) -> Request:
    return Request("HCX-005", messages, dialect="openai_chat", **fields)


def refused(asked: Request, quirks: Quirks = V3) -> BadRequest:
    with pytest.raises(BadRequest) as error:
        CLOVA.encode_request(asked, quirks)
    return error.value


# --- Messages -------------------------------------------------------------------------------------------------------


def test_there_is_one_system_message_and_it_is_first() -> None:
    body, _ = sent(
        conversation(
            Message("system", (Text("a"),)),
            Message("user", (Text("q"),)),
            Message("developer", (Text("b"), Text("c"))),
        )
    )
    assert body == {
        "messages": [{"role": "system", "content": "a\n\nb\n\nc"}, {"role": "user", "content": "q"}],
    }


def test_calls_have_arguments_as_objects() -> None:
    """An empty string is {}, and text that is no object goes under a name. Empty contents are "", never null."""
    body, dropped = sent(
        conversation(
            Message("user", (Text("q"),)),
            Message(
                "assistant",
                (
                    Reasoning("음", "s"),
                    ToolCall("1", "f", '{"a":1.50}'),
                    ToolCall("2", "g", ""),
                    ToolCall("3", "h", "{"),
                ),
            ),
            Message("tool", (ToolResult("1", (Text("맑음"),)), ToolResult("2", (Text("x"),), is_error=True))),
        )
    )
    assert body["messages"][1]["content"] == ""
    arguments = [call["function"]["arguments"] for call in body["messages"][1]["toolCalls"]]
    assert arguments == [{"a": 1.5}, {}, {"arguments": "{"}]
    assert body["messages"][1]["toolCalls"][0]["id"] == "1"
    assert body["messages"][2:] == [
        {"role": "tool", "toolCallId": "1", "content": "맑음"},
        {"role": "tool", "toolCallId": "2", "content": "x"},
    ]
    assert dropped == ("messages.reasoning", "messages.tool.is_error")
    assert (
        b"1.50"
        in CLOVA.encode_request(conversation(Message("assistant", (ToolCall("1", "f", '{"a":1.50}'),))), V3).body
    )


def test_pictures() -> None:
    """By address, or as base64 without the head of the data: URI."""
    parts = (Text("뭐야?"), Image("https://a/b.png", "high"), Image("data:image/png;base64,aGk="))
    body, dropped = sent(request(*parts))
    assert body["messages"][0]["content"] == [
        {"type": "text", "text": "뭐야?"},
        {"type": "image_url", "imageUrl": {"url": "https://a/b.png"}},
        {"type": "image_url", "dataUri": {"data": "aGk="}},
    ]
    assert dropped == ("messages.image.detail",)


@pytest.mark.parametrize("part", [Audio("aGk=", "wav"), File(data="aGk="), Image("data:image/svg+xml,<svg/>")])
def test_what_it_cannot_read_is_refused(part: Any) -> None:
    assert refused(request(part)).code == "unsupported_content"


def test_pictures_and_tools_exclude_each_other() -> None:
    error = refused(request(Image("https://a/b.png"), tools=(TOOL,)))
    assert (error.param, "images together with tools" in error.message) == ("messages", True)


# --- Tools ----------------------------------------------------------------------------------------------------------


def test_tools() -> None:
    """A description is required; with tools the limit is at least 1,024, asked for or not."""
    body, dropped = sent(request(tools=(TOOL, Tool("g", strict=True))))
    assert body["tools"][0]["function"]["parameters"]["properties"] == {"a": {"type": "integer"}}
    function = {"name": "g", "description": "g", "parameters": {"type": "object", "properties": {}}}
    assert body["tools"][1] == {"type": "function", "function": function}
    assert body["maxTokens"] == 1_024
    assert dropped == ("tools.strict",)
    assert sent(request(tools=(TOOL,), max_output_tokens=5))[0]["maxTokens"] == 1_024
    assert sent(request(tools=(TOOL,), max_output_tokens=2_000))[0]["maxTokens"] == 2_000
    assert sent(request(max_output_tokens=5))[0]["maxTokens"] == 5
    assert "maxTokens" not in sent(request())[0]


@pytest.mark.parametrize(
    ("choice", "written", "dropped"),
    [
        (ToolChoice("auto"), "auto", ()),
        (ToolChoice("none"), "none", ()),
        (ToolChoice("named", ("f",)), {"type": "function", "function": {"name": "f"}}, ()),
        (ToolChoice("required"), "auto", ("tool_choice",)),
        (ToolChoice("required", ("f",)), {"type": "function", "function": {"name": "f"}}, ()),
    ],
)
def test_choices(choice: ToolChoice, written: Any, dropped: tuple[str, ...]) -> None:
    """There is no `required`: with one tool it is that one, with more it is left to the model, and said so."""
    body, lost = sent(request(tools=(TOOL, Tool("g")), tool_choice=choice))
    assert body["toolChoice"] == written
    assert lost == dropped


def test_a_restricted_choice_offers_only_what_is_allowed() -> None:
    body, _ = sent(request(tools=(TOOL, Tool("g")), tool_choice=ToolChoice("auto", ("g",))))
    assert [tool["function"]["name"] for tool in body["tools"]] == ["g"]


def test_another_apis_tool_is_refused() -> None:
    assert refused(request(tools=(OpaqueTool("gemini", "googleSearch", Raw(b"{}")),))).param == "tools"


# --- Thinking -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "effort"),
    [
        (ReasoningPolicy(), None),
        (ReasoningPolicy(effort="minimal"), "low"),
        (ReasoningPolicy(effort="medium"), "medium"),
        (ReasoningPolicy(effort="xhigh"), "high"),
        (ReasoningPolicy(effort="none"), "none"),
        (ReasoningPolicy(enabled=False, effort="high"), "none"),
        (ReasoningPolicy(enabled=True), "low"),
        (ReasoningPolicy(budget_tokens=0), "none"),
        (ReasoningPolicy(budget_tokens=1_000), "low"),
        (ReasoningPolicy(budget_tokens=8_000), "medium"),
        (ReasoningPolicy(budget_tokens=20_000), "high"),
    ],
)
def test_efforts(policy: ReasoningPolicy, effort: str | None) -> None:
    body, dropped = sent(request(reasoning=policy, max_output_tokens=9), THINKS)
    assert body.get("thinking") == (None if effort is None else {"effort": effort})
    assert body["maxCompletionTokens"] == 9
    assert dropped == ()


def test_a_model_that_does_not_think_is_told_nothing() -> None:
    body, dropped = sent(request(reasoning=ReasoningPolicy(effort="high", summary="auto")))
    assert "thinking" not in body
    assert set(dropped) == {"reasoning_effort", "reasoning.summary"}


def test_thinking_excludes_tools_and_structure() -> None:
    """It is on unless it is switched off, so it is switched off; who had asked for it is told."""
    form = ResponseFormat("json_schema", schema=Raw(compact(SCHEMA)))
    for asked in (request(tools=(TOOL,)), request(response_format=form)):
        body, dropped = sent(asked, THINKS)
        assert body["thinking"] == {"effort": "none"}
        assert dropped == ()
        body, dropped = sent(replace(asked, reasoning=ReasoningPolicy(effort="high")), THINKS)
        assert body["thinking"] == {"effort": "none"}
        assert dropped == ("reasoning_effort",)


def test_thinking_excludes_stop() -> None:
    """Who asked for both has to choose; who asked for `stop` alone gets it."""
    body, _ = sent(request(stop=("끝",)), THINKS)
    assert (body["stop"], body["thinking"]) == (["끝"], {"effort": "none"})
    assert refused(request(stop=("끝",), reasoning=ReasoningPolicy(effort="low")), THINKS).param == "stop"
    assert "thinking" not in sent(request(stop=("끝",)))[0]


# --- Structured output ----------------------------------------------------------------------------------------------


def schema_of(given: Any) -> tuple[Json, tuple[str, ...]]:
    form = ResponseFormat("json_schema", "n", Raw(compact(given)), True)
    body, dropped = sent(request(response_format=form), THINKS)
    assert body["responseFormat"]["type"] == "json"
    return body["responseFormat"]["schema"], dropped


def test_a_schema_in_its_keywords() -> None:
    """References are replaced, const and unions rewritten, what narrows and is not known is named."""
    given = {
        "$schema": "x",
        "title": "T",
        "type": "object",
        "additionalProperties": False,
        "required": ["a"],
        "properties": {
            "a": {"$ref": "#/$defs/A", "description": "d"},
            "b": {"const": 1},
            "c": {"type": ["string", "null"], "pattern": "^x", "format": "date"},
            "d": {"type": "array", "items": {"oneOf": [{"type": "number", "minimum": 1}]}, "maxItems": 3},
            "e": {"type": "string", "format": "uri", "minLength": 1},
        },
        "$defs": {"A": {"type": "string", "enum": ["x"], "description": "old"}},
    }
    found, dropped = schema_of(given)
    assert found == {
        "type": "object",
        "required": ["a"],
        "properties": {
            "a": {"type": "string", "enum": ["x"], "description": "d"},
            "b": {"enum": [1]},
            "c": {"anyOf": [{"type": "string"}, {"type": "null"}], "format": "date"},
            "d": {"type": "array", "items": {"anyOf": [{"type": "number", "minimum": 1}]}, "maxItems": 3},
            "e": {"type": "string"},
        },
    }
    names = ("pattern", "format", "minLength")
    assert dropped == tuple(f"response_format.schema.{name}" for name in names)


@pytest.mark.parametrize(
    "given",
    [
        {"type": "array"},
        True,
        {"type": "object", "properties": {"a": {"$ref": "#/$defs/B"}}},
        {"type": "object", "properties": {"a": {"$ref": "https://x"}}},
        {"type": "object", "properties": {"a": {"$ref": "#"}}},
        {"type": "object", "properties": {"a": {"$ref": "#/properties/a"}}},
        {"type": "object", "properties": {"a": {"not": {}}}},
        {"type": "object", "properties": {"a": True}},
    ],
)
def test_a_schema_that_cannot_be_said(given: Any) -> None:
    with pytest.raises(BadRequest, match="CLOVA Studio"):
        schema_of(given)


def test_structured_output_is_one_models_and_without_tools() -> None:
    form = ResponseFormat("json_schema", schema=Raw(compact(SCHEMA)))
    assert "HCX-007" in refused(request(response_format=form)).message
    assert "tools" in refused(request(response_format=form, tools=(TOOL,)), THINKS).message


def test_json_without_a_schema_is_asked_for_in_words() -> None:
    """There is no such mode: the model is asked, and the caller told that nothing enforces it."""
    body, dropped = sent(request(response_format=ResponseFormat("json_object")))
    assert body["messages"][0]["role"] == "system"
    assert "JSON" in body["messages"][0]["content"]
    assert dropped == ("response_format",)


# --- The rest -------------------------------------------------------------------------------------------------------


def test_sampling_within_its_ranges() -> None:
    """Moved to the nearest value it takes; a seed is counted around."""
    sampling = Sampling(1.7, 0.0, 500, 0.1, 2**32 + 5, 1.0, 1.0, 9.0)
    body, dropped = sent(request(sampling=sampling))
    assert {name: body[name] for name in ("temperature", "topP", "topK", "seed", "repetitionPenalty")} == {
        "temperature": 1.0,
        "topP": 0.01,
        "topK": 128,
        "seed": 5,
        "repetitionPenalty": 2.0,
    }
    assert dropped == ("min_p", "presence_penalty", "frequency_penalty")


def test_what_no_field_is_there_for() -> None:
    asked = request(
        user="u", metadata=Raw(b"{}"), parallel_tool_calls=False, logprobs=True, extra={"logit_bias": Raw(b"{}")}
    )
    assert sent(asked)[1] == ("logprobs", "user", "metadata", "parallel_tool_calls", "logit_bias")


def test_one_choice_a_request() -> None:
    assert refused(request(n=2)).param == "n"
    assert "n" not in sent(request(n=1))[0]


def test_filters_can_be_asked_for() -> None:
    body, dropped = sent(request(extra={"includeAiFilters": Raw(b"true")}))
    assert body["includeAiFilters"] is True
    assert dropped == ()


def test_v1_has_names_of_its_own() -> None:
    """The model and the stream are not in the body, of either version."""
    body, _ = sent(
        request(stop=("끝",), sampling=Sampling(repetition_penalty=1.5), max_output_tokens=9, is_stream=True), V1
    )
    assert body == {
        "messages": [{"role": "user", "content": "안녕"}],
        "maxTokens": 9,
        "repeatPenalty": 1.5,
        "stopBefore": ["끝"],
    }
