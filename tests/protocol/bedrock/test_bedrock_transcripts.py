"""The laws over recorded traffic of Bedrock's Converse: answers whole and streamed, and what was asked."""

from __future__ import annotations

import json
import random
from itertools import pairwise
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from naru.errors import UpstreamError
from naru.protocol.accumulate import accumulate, response_events
from naru.protocol.bedrock import BEDROCK
from naru.protocol.bedrock.response import SERVER_TOOL
from naru.protocol.dialect import Quirks
from naru.protocol.messages import Event, Reasoning, Text, ToolCall
from naru.protocol.openai_chat import OPENAI_CHAT
from naru.testing.replay import Interaction, load_interactions
from naru.testing.sandbox.bedrock_request import decode
from tests.places import transcripts_folder
from tests.protocol.bedrock.samples import PROVIDER
from tests.protocol.samples import PLAIN, cut, envelope

FOLDER = transcripts_folder()
FOUND = [
    i
    for i in (load_interactions(FOLDER) if FOLDER else [])
    if i.method == "POST" and urlsplit(i.uri).path.endswith(("/converse", "/converse-stream"))
]
WHOLE = [i for i in FOUND if i.status == 200 and not i.is_stream and i.body]
STREAMED = [i for i in FOUND if i.status == 200 and i.is_stream and i.body]
REFUSED = [i for i in FOUND if i.status >= 400]

FINISH = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
}

pytestmark = [
    pytest.mark.transcripts,
    pytest.mark.skipif(not FOUND, reason="no recordings here (NARU_TRANSCRIPTS)"),
]


def name(interaction: Interaction) -> str:
    return f"{interaction.file}[{interaction.index}]"


def cited(block: dict[str, Any]) -> str:
    return "".join(part.get("text", "") for part in block.get("citationsContent", {}).get("content", []))


def quirks_of(interaction: Interaction) -> Quirks:
    return PROVIDER.quirks_for(unquote(urlsplit(interaction.uri).path.split("/")[-2]))


@pytest.mark.parametrize("interaction", WHOLE, ids=name)
def test_whole_answers(interaction: Interaction) -> None:
    """Every block is there; the same as a stream that is added up, and in chat completions."""
    answer = json.loads(interaction.body)
    response = BEDROCK.decode_response(interaction.body, quirks_of(interaction))
    (choice,) = response.choices
    blocks = answer["output"]["message"]["content"]
    texts = "".join(block.get("text", "") + cited(block) for block in blocks)
    calls = [use for block in blocks if (use := block.get("toolUse")) and use.get("type") != SERVER_TOOL]
    assert "".join(part.text for part in choice.parts if isinstance(part, Text)) == texts
    found = [part for part in choice.parts if isinstance(part, ToolCall)]
    assert [(c.id, c.name, json.loads(c.arguments)) for c in found] == [
        (use["toolUseId"], use["name"], use["input"]) for use in calls
    ]
    assert choice.finish_reason == ("tool_calls" if calls else FINISH.get(answer["stopReason"], "content_filter"))
    assert response.usage is not None
    usage = answer["usage"]
    cached, written = usage.get("cacheReadInputTokens", 0), usage.get("cacheWriteInputTokens", 0)
    assert response.usage.input == usage["inputTokens"] + cached + written
    assert (response.usage.output, response.usage.cached) == (usage["outputTokens"], cached)
    assert accumulate(response_events(response)) == response
    chat = OPENAI_CHAT.decode_response(OPENAI_CHAT.encode_response(response, envelope()), PLAIN)
    assert [p for p in chat.choices[0].parts if not isinstance(p, Reasoning)] == [
        p for p in choice.parts if not isinstance(p, Reasoning)
    ]
    assert (chat.choices[0].finish_reason, chat.usage) == (choice.finish_reason, response.usage)


def decoded(interaction: Interaction, pieces: list[bytes]) -> tuple[list[Event], str | None]:
    decoder = BEDROCK.stream_decoder(quirks_of(interaction))
    events: list[Event] = []
    try:
        for piece in [*pieces, b""]:
            events += decoder.feed(piece)
        return events + decoder.close(), None
    except UpstreamError as error:
        return events, error.message


@pytest.mark.parametrize("interaction", STREAMED, ids=name)
def test_streams_cut_anywhere(interaction: Interaction) -> None:
    """Whole = byte by byte = random splits."""
    dice, body = random.Random(7), interaction.body
    told = decoded(interaction, [body])
    assert told[0]
    for _ in range(5):
        assert decoded(interaction, cut(body, sorted(dice.choices(range(len(body)), k=40)))) == told
    assert decoded(interaction, [body[start:end] for start, end in pairwise(range(len(body) + 1))]) == told


@pytest.mark.parametrize("interaction", [i for i in FOUND if i.request_json], ids=name)
def test_the_sandbox_reads_what_was_asked(interaction: Interaction) -> None:
    """Its strictness is not stricter than the service, which took these requests. An empty `system` is left out first."""
    if interaction.status == 200:
        body = {key: value for key, value in interaction.request_json.items() if value != []}
        decode(json.dumps(body).encode())


@pytest.mark.parametrize("interaction", REFUSED, ids=name)
def test_refusals(interaction: Interaction) -> None:
    error = BEDROCK.decode_error(interaction.status, interaction.body, quirks_of(interaction))
    assert error.status >= 400


def test_there_are_recordings() -> None:
    assert WHOLE
