"""A Gemini client's request as other dialects get to see it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from naru.errors import BadRequest
from naru.protocol.gemini import GEMINI
from naru.protocol.messages import Audio, File, Image, Message, ReasoningPolicy, Request, Text
from naru.protocol.openai_chat import OPENAI_CHAT
from tests.protocol.gemini.samples import PLAIN, read


def decoded(**fields: Any) -> Request:
    return GEMINI.decode_request(read(**fields))


def test_older_schemas_become_json_schema() -> None:
    """`parameters` and `responseSchema`: types in capitals, nullable, counts as strings, snake_case."""
    older = {
        "type": "OBJECT",
        "properties": {
            "a": {"type": "STRING", "nullable": True, "enum": ["x"], "min_length": "2"},
            "type": {"any_of": [{"type": "NUMBER"}, {"type": "ARRAY", "items": {"type": "INTEGER"}}], "nullable": True},
        },
        "propertyOrdering": ["a"],
    }
    newer = {
        "type": "object",
        "properties": {
            "a": {"type": ["string", "null"], "enum": ["x", None], "minLength": 2},
            "type": {"anyOf": [{"type": "number"}, {"type": "array", "items": {"type": "integer"}}, {"type": "null"}]},
        },
    }
    request = decoded(
        tools=[{"function_declarations": [{"name": "f", "parameters": older}]}],
        generationConfig={"responseMimeType": "application/json", "response_schema": older},
    )
    assert json.loads(bytes(request.tools[0].parameters)) == newer
    assert request.response_format is not None
    assert json.loads(bytes(request.response_format.schema)) == newer
    again = json.loads(GEMINI.encode_request(request, PLAIN).body)
    assert again["tools"][0]["functionDeclarations"] == [{"name": "f", "parameters": older}]


def test_a_conversation_with_calls_that_have_no_ids() -> None:
    """Results answer the open calls of their name, in order; text beside results stays beside them."""
    call = {"functionCall": {"name": "f", "args": {}}}
    result = {"functionResponse": {"name": "f", "response": {"output": "r"}}}
    request = decoded(
        contents=[
            {"role": "user", "parts": [{"text": "q"}]},
            {"role": "model", "parts": [call, {"function_call": {"name": "f"}}]},
            {"role": "user", "parts": [result, result, {"text": "?"}]},
        ]
    )
    first, second = (part.id for part in request.messages[1].parts)
    assert first != second
    assert [part.call_id for part in request.messages[2].parts[:2]] == [first, second]
    chat = json.loads(OPENAI_CHAT.encode_request(request, PLAIN).body)["messages"]
    assert [message["role"] for message in chat] == ["user", "assistant", "tool", "tool", "user"]


def test_thinking_config_is_one_policy() -> None:
    config = {"thinking_config": {"include_thoughts": True, "thinking_level": "LOW"}}
    assert decoded(generationConfig=config).reasoning == ReasoningPolicy(effort="low", summary="auto")
    off = {"thinkingConfig": {"thinkingBudget": 0}}
    assert decoded(generationConfig=off).reasoning == ReasoningPolicy(enabled=False)


def test_media_from_a_gemini_client() -> None:
    parts = [
        {"inline_data": {"mime_type": "image/png", "data": "-_8="}},
        {"inlineData": {"mimeType": "audio/mpeg", "data": "aGk="}},
        {"inlineData": {"mimeType": "application/pdf", "data": "aGk=", "displayName": "a.pdf"}},
        {"fileData": {"mimeType": "image/jpeg", "fileUri": "https://a/b"}},
        {"fileData": {"fileUri": "https://youtu.be/x"}, "videoMetadata": {"fps": 1}},
    ]
    found = decoded(contents=[{"parts": parts}]).messages[0].parts
    assert found[0] == Image("data:image/png;base64,+/8=")
    assert isinstance(found[1], Audio)
    assert found[1].format == "mp3"
    assert found[2] == File(data="aGk=", filename="a.pdf", media_type="application/pdf")
    assert isinstance(found[3], Image)
    assert found[3].url == "https://a/b"
    assert isinstance(found[4], File)
    again = json.loads(GEMINI.encode_request(decoded(contents=[{"parts": parts}]), PLAIN).body)
    parts[0] = {"inlineData": {"mimeType": "image/png", "data": "+/8="}}
    assert again["contents"][0]["parts"] == parts


@pytest.mark.parametrize(
    ("contents", "param"),
    [
        ([{"role": "system", "parts": []}], "contents[0].role"),
        (["x"], "contents[0]"),
        ([{"parts": ["x"]}], "contents[0].parts[0]"),
        ([{"parts": [{"text": 1}]}], "contents[0].parts[0].text"),
        ([{"parts": [{"functionCall": {}}]}], "contents[0].parts[0].functionCall.name"),
        ([{"parts": [{"functionCall": {"name": "f", "args": []}}]}], "contents[0].parts[0].functionCall.args"),
        ([{"parts": [{"functionResponse": {"response": {}}}]}], "contents[0].parts[0].functionResponse.name"),
        ([{"parts": [{"text": "a", "functionCall": {"name": "f"}}]}], "contents[0].parts[0]"),
        ([{"parts": [{"inlineData": "x"}]}], "contents[0].parts[0].inlineData"),
    ],
)
def test_contents_that_are_wrong_are_named(contents: list[Any], param: str) -> None:
    with pytest.raises(BadRequest) as refused:
        decoded(contents=contents)
    assert refused.value.param == param


def test_vertex_examples_write_one_object_for_a_list() -> None:
    request = decoded(contents={"role": "user", "parts": {"text": "hi"}})
    assert request.messages == (Message("user", (Text("hi"),)),)
