"""Token counts made here: near the recorded ones, and of everything that a model would read."""

from __future__ import annotations

import json
from typing import Any

import pytest

from naru.errors import BadRequest
from naru.protocol.anthropic_messages import ANTHROPIC_MESSAGES
from naru.protocol.counting import AUDIO_TOKENS, FILE_TOKENS, Rates, count_input
from naru.protocol.gemini import counting as gemini
from naru.protocol.openai_chat import OPENAI_CHAT
from naru.protocol.openai_responses import OPENAI_RESPONSES
from naru.protocol.openai_responses import counting as responses
from tests.conformance.asks import PNG

TOOL = {
    "type": "function",
    "name": "get_weather",
    "description": "Get the weather for a location",
    "strict": False,
    "parameters": {"type": "object", "properties": {"location": {"type": "string"}}, "additionalProperties": False},
}
BARE = Rates(once=0, message=0, image=100)


def count_responses(**body: Any) -> int:
    envelope = OPENAI_RESPONSES.read(json.dumps({"model": "m", **body}).encode())
    told = json.loads(responses.count_tokens(envelope))
    assert told["object"] == "response.input_tokens"
    return int(told["input_tokens"])


def count_gemini(body: Any) -> int:
    told = json.loads(gemini.count_tokens(gemini.read_count(json.dumps(body).encode(), "m")))
    assert told["promptTokensDetails"] == [{"modality": "TEXT", "tokenCount": told["totalTokens"]}]
    return int(told["totalTokens"])


def test_openais_recorded_counts() -> None:
    """16 and 51 tokens are what OpenAI counted for these; a quarter either way."""
    plain = count_responses(input=[{"role": "user", "content": ""}], instructions="Follow the system instructions.")
    assert plain == pytest.approx(16, rel=0.25)
    asked = [{"role": "user", "content": "What is the weather in Paris?"}]
    assert count_responses(input=asked, tools=[TOOL], tool_choice="required") == pytest.approx(51, rel=0.25)


def test_googles_recorded_count() -> None:
    """12 tokens."""
    text = "The quick brown fox jumps over the lazydog."
    assert count_gemini({"contents": [{"parts": [{"text": text}]}]}) == pytest.approx(12, rel=0.25)


def test_everything_that_is_read_counts() -> None:
    """Each part adds to the count: instructions, calls, results, pictures, sounds, documents, tools, a schema."""

    def count(*messages: Any, **more: Any) -> int:
        body = {"model": "m", "messages": [{"role": "user", "content": "x"}, *messages], **more}
        return count_input(OPENAI_CHAT.decode_request(OPENAI_CHAT.read(json.dumps(body).encode(), "")), BARE)

    base = count()
    assert base == 1
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a": "one two three"}'}}
    calling = {"role": "assistant", "tool_calls": [call]}
    assert count(calling) > base + 5
    assert count(calling, {"role": "tool", "tool_call_id": "c", "content": "four five six"}) > count(calling)
    url = {"url": f"data:image/png;base64,{PNG * 100}"}
    assert count({"role": "user", "content": [{"type": "image_url", "image_url": url}]}) == base + BARE.image
    sound = {"type": "input_audio", "input_audio": {"data": PNG * 100, "format": "wav"}}
    assert count({"role": "user", "content": [sound]}) == base + AUDIO_TOKENS
    file = {"type": "file", "file": {"file_data": PNG * 100, "filename": "a.pdf"}}
    assert count({"role": "user", "content": [file]}) == base + FILE_TOKENS
    function = {name: TOOL[name] for name in ("name", "description", "parameters")}
    assert count(tools=[{"type": "function", "function": function}]) > base + 20
    assert count(tools=[{"type": "custom", "custom": {"name": "grammar"}}]) > base
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": TOOL["parameters"]}}
    assert count(response_format=form) > base + 15


def test_thinking_and_refusals_count() -> None:
    body = {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "x"}]}
    thought = {"type": "thinking", "thinking": "one two three", "signature": "s"}
    more = {**body, "messages": [*body["messages"], {"role": "assistant", "content": [thought]}]}  # type: ignore[misc]
    counts = [
        count_input(ANTHROPIC_MESSAGES.decode_request(ANTHROPIC_MESSAGES.read(json.dumps(each).encode(), "")), BARE)
        for each in (body, more)
    ]
    assert counts[1] > counts[0]
    assert count_responses(
        input=[
            {"role": "user", "content": "x"},
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "no " * 9}]},
        ]
    ) > count_responses(input="x")


def test_what_cannot_be_counted_is_refused() -> None:
    """What only OpenAI's store holds, and bodies that are none."""
    with pytest.raises(BadRequest) as caught:
        count_responses(input="x", previous_response_id="resp_1")
    assert caught.value.param == "previous_response_id"
    for body in (b"", b"[]", b"\xff", b'{"generateContentRequest":[]}', b"[" * 9000):
        with pytest.raises(BadRequest):
            gemini.read_count(body, "m")
