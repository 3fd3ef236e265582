"""Every recording, of every protocol, replayed to the official SDK of every other: equal text, calls, reasoning and usage.

What is expected is read from the recording by this file alone. `make test-transcripts` runs it too.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec
import pytest

from naru.testing.replay import Interaction, ReplayServer, load_interactions
from tests.conformance.asks import Ask, Seen
from tests.conformance.clients import CLIENTS
from tests.harness import Gateway, running
from tests.places import transcripts_folder
from tests.test_transcripts import kind_of, recorded, split_think, splits_think

FOLDER = transcripts_folder()

pytestmark = [
    pytest.mark.transcripts,
    pytest.mark.across,
    pytest.mark.skipif(FOLDER is None, reason="no transcripts folder; set NARU_TRANSCRIPTS"),
]


class Told(msgspec.Struct):
    """What a recording says, in common words. Tokens are None where it reports none."""

    text: str = ""
    reasoning: str = ""
    calls: list[tuple[str, Any]] = []
    input_tokens: int | None = None
    output_tokens: int | None = None


def dialect_of(interaction: Interaction) -> str | None:
    path = urlsplit(interaction.uri).path
    if interaction.method != "POST" or interaction.status != 200 or not interaction.body:
        return None
    if path.endswith("/chat/completions"):
        return "openai_chat"
    if path.endswith("/messages"):
        return "anthropic_messages"
    if path.endswith("/responses"):
        return "openai_responses"
    if path.endswith(("/converse", "/converse-stream")):
        return "bedrock_converse"
    return "gemini" if path.endswith((":generateContent", ":streamGenerateContent")) else None


def events(body: bytes) -> Iterator[Any]:
    for block in body.decode().replace("\r\n", "\n").split("\n\n"):
        data = "\n".join(line[5:].lstrip(" ") for line in block.split("\n") if line.startswith("data:"))
        if data and data != "[DONE]":
            yield json.loads(data)


# --- What each protocol's recording says ------------------------------------------------------------------------------


def told_chat(interaction: Interaction) -> Told:
    said, usage = recorded(interaction)
    first = said[min(said)]
    text, reasoning = split_think(first.text) if splits_think(interaction) else (first.text, "")
    told = Told(text, first.reasoning or reasoning, [(name, arguments_of(a)) for name, a in first.calls])
    if usage is not None:
        told.input_tokens = usage["prompt_tokens"]
        total = usage.get("total_tokens") or 0
        told.output_tokens = max(usage["completion_tokens"], total - usage["prompt_tokens"])
    return told


def arguments_of(text: Any) -> Any:
    if not isinstance(text, str):
        return text
    try:
        return json.loads(text or "{}")
    except ValueError:
        return text


def whole_message(interaction: Interaction) -> dict[str, Any]:
    """Anthropic's message, put together from its stream where it was one."""
    if not interaction.is_stream:
        return dict(json.loads(interaction.body))
    message: dict[str, Any] = {"content": [], "usage": {}}
    for event in events(interaction.body):
        if event["type"] == "message_start":
            message["usage"] |= event["message"]["usage"]
        elif event["type"] == "content_block_start":
            message["content"].append({**event["content_block"], "json": ""})
        elif event["type"] == "content_block_delta":
            block, delta = message["content"][event["index"]], event["delta"]
            for kind in ("text", "thinking"):
                block[kind] = block.get(kind, "") + delta.get(kind, "")
            block["json"] += delta.get("partial_json", "")
        elif event["type"] == "message_delta":
            message["usage"] |= {name: value for name, value in event["usage"].items() if value is not None}
    for block in message["content"]:
        if block["type"] == "tool_use":
            block["input"] = json.loads(block["json"] or "{}")
    return message


def told_messages(interaction: Interaction) -> Told:
    message = whole_message(interaction)
    told = Told(calls=[])
    for block in message["content"]:
        if block["type"] == "text":
            told.text += block["text"]
        elif block["type"] == "thinking":
            told.reasoning += block["thinking"]
        elif block["type"] == "tool_use":
            told.calls.append((block["name"], block["input"]))
    usage = message["usage"]
    cached = (usage.get("cache_read_input_tokens") or 0) + (usage.get("cache_creation_input_tokens") or 0)
    told.input_tokens, told.output_tokens = usage["input_tokens"] + cached, usage["output_tokens"]
    return told


def told_gemini(interaction: Interaction) -> Told:
    answers = list(events(interaction.body)) if interaction.is_stream else json.loads(interaction.body)
    told = Told(calls=[])
    for answer in answers if isinstance(answers, list) else [answers]:
        usage = answer.get("usageMetadata")
        if usage and "promptTokenCount" in usage:
            told.input_tokens = usage["promptTokenCount"] + usage.get("toolUsePromptTokenCount", 0)
            told.output_tokens = usage.get("candidatesTokenCount", 0) + usage.get("thoughtsTokenCount", 0)
        for candidate in answer.get("candidates", [])[:1]:
            for part in candidate.get("content", {}).get("parts", []):
                if "functionCall" in part:
                    told.calls.append((part["functionCall"]["name"], part["functionCall"].get("args", {})))
                elif part.get("thought"):
                    told.reasoning += part.get("text", "")
                else:
                    told.text += part.get("text", "")
    return told


def told_responses(interaction: Interaction) -> Told:
    answer = json.loads(interaction.body) if not interaction.is_stream else {}
    if interaction.is_stream:
        for event in events(interaction.body):
            if event["type"] in ("response.completed", "response.incomplete"):
                answer = event["response"]
    told = Told(calls=[])
    for item in answer.get("output", []):
        if item["type"] == "message":
            told.text += "".join(part.get("text", "") for part in item["content"] if part["type"] == "output_text")
        elif item["type"] == "function_call":
            told.calls.append((item["name"], arguments_of(item["arguments"])))
        elif item["type"] == "reasoning":
            told.reasoning += "".join(
                part["text"] for part in [*(item.get("summary") or []), *(item.get("content") or [])]
            )
    usage = answer.get("usage")
    if usage:
        told.input_tokens, told.output_tokens = usage["input_tokens"], usage["output_tokens"]
    return told


def converse_events(body: bytes) -> Iterator[dict[str, Any]]:
    """The payloads of AWS's frames, whose lengths are believed here."""
    while body:
        size, headers = int.from_bytes(body[:4]), int.from_bytes(body[4:8])
        yield json.loads(body[12 + headers : size - 4])
        body = body[size:]


def told_converse(interaction: Interaction) -> Told:
    told = Told(calls=[])
    pieces: dict[int, list[str]] = {}
    if interaction.is_stream:
        usage: dict[str, Any] = {}
        for event in converse_events(interaction.body):
            usage = event.get("usage") or usage
            delta, use = event.get("delta", {}), event.get("start", {}).get("toolUse")
            if use and use.get("type") != "server_tool_use":
                pieces[event["contentBlockIndex"]] = [use["name"], ""]
            if "toolUse" in delta and event["contentBlockIndex"] in pieces:
                pieces[event["contentBlockIndex"]][1] += delta["toolUse"]["input"]
            told.text += delta.get("text", "")
            told.reasoning += delta.get("reasoningContent", {}).get("text", "")
        told.calls = [(name, arguments_of(text)) for name, text in pieces.values()]
    else:
        answer = json.loads(interaction.body)
        usage = answer["usage"]
        for block in answer["output"]["message"]["content"]:
            told.text += block.get("text", "")
            told.reasoning += block.get("reasoningContent", {}).get("reasoningText", {}).get("text", "")
            told.text += "".join(part["text"] for part in block.get("citationsContent", {}).get("content", []))
            if "toolUse" in block and block["toolUse"].get("type") != "server_tool_use":
                told.calls.append((block["toolUse"]["name"], block["toolUse"]["input"]))
    cached = usage.get("cacheReadInputTokens", 0) + usage.get("cacheWriteInputTokens", 0)
    told.input_tokens, told.output_tokens = usage["inputTokens"] + cached, usage["outputTokens"]
    return told


TOLD = {
    "bedrock_converse": told_converse,
    "openai_chat": told_chat,
    "anthropic_messages": told_messages,
    "gemini": told_gemini,
    "openai_responses": told_responses,
}
#: A dialect -> the provider it is replayed as, and what its path ends in. Chat keeps the recorded provider's quirks.
PROVIDERS = {
    "anthropic_messages": ("anthropic", "/messages"),
    "gemini": ("gemini", "/models"),
    "openai_responses": ("openai", "/responses"),
    "bedrock_converse": ("bedrock", "/model/"),
}


def why_not(interaction: Interaction, dialect: str) -> str | None:
    """What cannot reach a client of another protocol, and why. Everything else must."""
    if dialect == "openai_chat" and any(
        event.get("error") for event in events(interaction.body) if interaction.is_stream
    ):
        return "the recorded stream ends in an error"
    if dialect == "openai_responses":
        body = json.loads(interaction.body) if not interaction.is_stream else {}
        if body.get("status") in ("queued", "in_progress", "failed", "cancelled") or (
            not body.get("output") and not interaction.is_stream
        ):
            return "the recorded response has no answer (a background job, a failure or a compaction)"
    return None


def verdict(interaction: Interaction, dialect: str) -> str | None:
    """Why a recording is left out, or None. A form that this file cannot read is named too, never hidden."""
    try:
        reason = why_not(interaction, dialect)
        told = Told() if reason else TOLD[dialect](interaction)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        return f"this test cannot read it ({type(error).__name__}: {error})"
    return reason or (None if told.text.strip() or told.calls else "the recorded answer has neither text nor calls")


FOUND = [
    (interaction, dialect)
    for interaction in (load_interactions(FOLDER) if FOLDER else [])
    if (dialect := dialect_of(interaction)) is not None
]
LEFT_OUT = {f"{i.file}[{i.index}]": reason for i, dialect in FOUND if (reason := verdict(i, dialect)) is not None}
CASES = [(i, dialect) for i, dialect in FOUND if f"{i.file}[{i.index}]" not in LEFT_OUT]


def test_what_is_left_out_is_known() -> None:
    """Every recorded answer is replayed or named with its reason."""
    print(f"\n{len(CASES)} recordings replayed to {len(CLIENTS)} clients; left out: {json.dumps(LEFT_OUT, indent=1)}")
    assert len(CASES) + len(LEFT_OUT) == len(FOUND)
    assert CASES


@pytest.fixture
async def replay(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Gateway]:
    interaction, dialect = request.getfixturevalue("case")
    server = ReplayServer([interaction])
    origin = await server.start()
    path = urlsplit(interaction.uri).path
    kind, ending = PROVIDERS.get(dialect, (kind_of(interaction), "/chat/completions"))
    kind = kind_of(interaction) if kind_of(interaction) == "azure-openai" else kind
    base = path[: path.rindex(ending)]
    named = unquote(path.split("/")[-2]) if dialect == "bedrock_converse" else None
    model = json.dumps(str(named or (interaction.request_json or {}).get("model") or "recorded"))
    # The provider may have several endpoints; the recording is of one.
    endpoint = {"openai_responses": 'endpoint = "responses"', "openai_chat": 'endpoint = "chat"'}.get(dialect, "")
    config = f"""
    [providers.recorded]
    kind = "{kind}"
    base_url = "{origin}{base}"
    api_key = "x"
    allow_private = true
    [models.recorded]
    deployments = [{{ provider = "recorded", model = {model}{", " + endpoint if endpoint else ""} }}]
    price = {{ input = 1, output = 2 }}
    """
    async with running(tmp_path, config) as gateway:
        yield gateway
    await server.stop()


def seen_calls(seen: Seen) -> list[tuple[str, Any]]:
    return [(call.name, arguments_of(call.arguments)) for call in seen.calls]


@pytest.mark.parametrize("client", sorted(CLIENTS))
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0].file}[{case[0].index}]")
async def test_a_recording_reaches_the_clients_of_every_protocol(
    case: tuple[Interaction, str], client: str, replay: Gateway
) -> None:
    """The same text, tool calls, reasoning and tokens, whichever SDK asks."""
    interaction, dialect = case
    told = TOLD[dialect](interaction)
    seen = await CLIENTS[client].ask(
        replay, "recorded", Ask("recorded", "hello", is_stream=interaction.is_stream, thinks=True)
    )
    assert seen.text.strip() == told.text.strip()
    assert seen_calls(seen) == told.calls
    # Protocols that have one text of thinking join the parts of those that have several with a blank line.
    assert "".join(seen.reasoning.split()) == "".join(told.reasoning.split())
    (entry,) = await replay.entries()
    assert entry.outcome == "completed"
    if told.input_tokens is not None:
        assert (entry.input, entry.output) == (told.input_tokens, told.output_tokens)
