"""Recorded provider traffic replayed behind the gateway: the official client gets what was recorded.

Every chat-shaped interaction (a POST to …/chat/completions) of NARU_TRANSCRIPTS, or of ../shared/transcripts, runs three ways:
whole, byte by byte, and cut at random places. What is expected is read from the recording by this file alone, with none of
the product's code. `make test-transcripts` runs just these and lists what was left out, with the reason.
"""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import openai
import pytest

from naru.providers import load_providers
from naru.testing.replay import Interaction, ReplayServer, Skipped, load_interactions
from tests.harness import Gateway, running
from tests.places import transcripts_folder

FOLDER = transcripts_folder()
#: Host -> our provider, whose quirks then apply; others are taken as `custom`.
KINDS = {
    "api.openai.com": "openai",
    "api.deepseek.com": "deepseek",
    "api.groq.com": "groq",
    "api.mistral.ai": "mistral",
    "openrouter.ai": "openrouter",
    "api.z.ai": "zai",
    "router.huggingface.co": "huggingface",
    "api.cerebras.ai": "cerebras",
    "ollama.com": "ollama",
    "localhost": "ollama",
}
SEED = 20261121
MAX_PIECES = 4096


def is_chat(interaction: Interaction) -> bool:
    path = urlsplit(interaction.uri).path
    return (
        interaction.method == "POST"
        and path.endswith("/chat/completions")
        and isinstance(interaction.request_json, dict)
    )


def kind_of(interaction: Interaction) -> str:
    host = urlsplit(interaction.uri).hostname or ""
    return "azure-openai" if host.endswith(".openai.azure.com") else KINDS.get(host, "custom")


def why_not(interaction: Interaction) -> str | None:
    """What cannot pass, and why. Everything else must."""
    body = interaction.request_json
    if not isinstance(body.get("messages"), list) or not body["messages"]:
        return "the recording's request has no messages (its body was not kept)"
    if not interaction.body:
        return "the recording's answer was not kept"
    if interaction.status in (401, 403):
        return "the provider refused the recorder's own credential; the gateway shows that as its own 502 upstream_auth"
    return None


SKIPPED: list[Skipped] = []
FOUND = [i for i in load_interactions(FOLDER, SKIPPED) if is_chat(i)] if FOLDER else []
CASES = [i for i in FOUND if why_not(i) is None]

pytestmark = [
    pytest.mark.transcripts,
    pytest.mark.skipif(FOLDER is None, reason="no transcripts folder; set NARU_TRANSCRIPTS"),
]


def test_what_is_left_out_is_known() -> None:
    """Every chat interaction is replayed or named with its reason; files of other forms are counted, not hidden."""
    left_out = [f"{i.file}[{i.index}]: {reason}" for i in FOUND if (reason := why_not(i)) is not None]
    print(f"\n{len(CASES)} chat interactions replayed; left out: {left_out or 'none'}; not HTTP: {len(SKIPPED)}")
    assert CASES, f"no chat-shaped recording under {FOLDER}"
    assert len(CASES) + len(left_out) == len(FOUND)


# --- What the recording says ------------------------------------------------------------------------------------------


class Said(msgspec.Struct):
    """One choice, as any client should see it."""

    text: str = ""
    reasoning: str = ""
    calls: list[list[str]] = []
    finish: str | None = None


def recorded_events(body: bytes) -> Iterable[Any]:
    text = body.decode("utf-8").replace("\r\n", "\n")
    for block in text.split("\n\n"):
        data = "\n".join(line[5:].lstrip(" ") for line in block.split("\n") if line.startswith("data:"))
        if data and data != "[DONE]":
            yield json.loads(data)


def content_of(content: Any) -> tuple[str, str]:
    """(text, reasoning) of content that is a string or Mistral's list of typed chunks."""
    if isinstance(content, str):
        return content, ""
    text = reasoning = ""
    for part in content or []:
        if part.get("type") == "text":
            text += part["text"]
        elif part.get("type") == "thinking":
            thinking = part["thinking"]
            reasoning += thinking if isinstance(thinking, str) else "".join(t.get("text", "") for t in thinking)
    return text, reasoning


def split_think(text: str) -> tuple[str, str]:
    """Inline `<think>` at the head of an answer is reasoning, and the blank lines after it are nobody's."""
    head = text.lstrip()
    if head.startswith("<think>") and "</think>" in head:
        thought, _, rest = head.removeprefix("<think>").partition("</think>")
        return rest, thought
    return text, ""


def add(said: Said, message: dict[str, Any]) -> None:
    text, reasoning = content_of(message.get("content"))
    said.text += text
    said.reasoning += reasoning or message.get("reasoning_content") or message.get("reasoning") or ""
    for call in message.get("tool_calls") or []:
        function = call.get("function") or call.get("custom") or {}
        index = call.get("index", len(said.calls))
        while len(said.calls) <= index:
            said.calls.append(["", ""])
        said.calls[index][0] += function.get("name") or ""
        said.calls[index][1] += function.get("arguments") or function.get("input") or ""


def recorded(interaction: Interaction) -> tuple[dict[int, Said], dict[str, Any] | None]:
    """(choices, usage) of a recorded success."""
    events = list(recorded_events(interaction.body)) if interaction.is_stream else [json.loads(interaction.body)]
    said: dict[int, Said] = {}
    usage = None
    for event in events:
        usage = event.get("usage") or usage
        for choice in event.get("choices") or []:
            one = said.setdefault(choice.get("index", 0), Said(calls=[]))
            add(one, choice.get("delta") or choice.get("message") or {})
            one.finish = choice.get("finish_reason") or one.finish
    return said, usage


def recorded_error(interaction: Interaction) -> str | None:
    """The message of an error that was recorded, as a status or inside a stream with 200."""
    if interaction.is_stream:
        errors = [e["error"] for e in recorded_events(interaction.body) if e.get("error")]
    else:
        try:
            answer = json.loads(interaction.body)
        except ValueError:
            return ""  # a proxy's page: an error it is, but its words are not for clients
        errors = (
            [answer.get("error")]
            if isinstance(answer, dict) and (answer.get("error") or interaction.status >= 400)
            else []
        )
    if not errors:
        return None
    return str(errors[0].get("message")) if isinstance(errors[0], dict) else str(errors[0])


def splits_think(interaction: Interaction) -> bool:
    """Whether the provider's data says that this model thinks inside its answer."""
    provider = load_providers()[kind_of(interaction)]
    return provider.quirks_for(str(interaction.request_json.get("model"))).think_tag == "inline"


def as_client_sees(said: Said, splits: bool) -> Said:
    """The repairs that Naru owes its clients, applied to the recording's own words."""
    text, reasoning = split_think(said.text) if splits else (said.text, "")
    finish = "tool_calls" if said.calls and said.finish == "stop" else said.finish
    return Said(text.strip(), (said.reasoning or reasoning).strip(), said.calls, finish)


# --- What the client gets ---------------------------------------------------------------------------------------------


@pytest.fixture
async def replay(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[Gateway, ReplayServer]]:
    """A gateway whose one deployment is the recording."""
    interaction: Interaction = request.getfixturevalue("interaction")
    server = ReplayServer([interaction])
    origin = await server.start()
    path = urlsplit(interaction.uri).path.removesuffix("/chat/completions")
    kind = kind_of(interaction)
    model = json.dumps(str(interaction.request_json.get("model") or "recorded"))
    config = f"""
    [providers.recorded]
    kind = "{kind}"
    base_url = "{origin}{path}"
    api_key = "x"
    allow_private = true
    [models.recorded]
    deployments = [{{ provider = "recorded", model = {model} }}]
    price = {{ input = 1, output = 2 }}
    """
    async with running(tmp_path, config) as gateway:
        yield gateway, server
    await server.stop()


def cuts_for(interaction: Interaction, way: str) -> Any:
    size = len(interaction.body)
    if way == "random":
        chosen = random.Random(f"{SEED}{interaction.file}{interaction.index}")
        return [chosen.randrange(1, max(2, size)) for _ in range(min(40, size))]
    # Byte by byte for what is small enough to send so; else the first bytes singly and the rest in small equal pieces.
    return way if way == "whole" or size <= MAX_PIECES else range(1, size, -(-size // MAX_PIECES))


async def ask(gateway: Gateway, body: dict[str, Any]) -> tuple[dict[int, Said], Any]:
    sent = {**body, "model": "recorded"}
    create: Any = gateway.openai.chat.completions.create
    names = ("model", "messages", "stream", "tools", "stream_options")
    known = {name: sent.pop(name) for name in names if name in sent}
    if known.get("stream"):
        known["stream_options"] = {**(known.get("stream_options") or {}), "include_usage": True}
    answer = await create(**known, extra_body=sent)
    said: dict[int, Said] = {}
    usage = None
    if not known.get("stream"):
        for choice in answer.choices:
            add(said.setdefault(choice.index, Said(calls=[])), choice.message.model_dump())
            said[choice.index].finish = choice.finish_reason
        return said, answer.usage
    async for chunk in answer:
        usage = chunk.usage or usage
        for choice in chunk.choices:
            one = said.setdefault(choice.index, Said(calls=[]))
            add(one, choice.delta.model_dump())
            one.finish = choice.finish_reason or one.finish
    return said, usage


def stripped(said: Said) -> Said:
    return Said(said.text.strip(), said.reasoning.strip(), said.calls, said.finish)


@pytest.mark.parametrize("way", ["whole", "bytes", "random"])
@pytest.mark.parametrize("interaction", CASES, ids=lambda i: f"{i.file}[{i.index}]")
async def test_the_client_gets_what_was_recorded(
    interaction: Interaction, way: str, replay: tuple[Gateway, ReplayServer]
) -> None:
    """Text, tool calls, reasoning, finish reason and usage; errors with their status and message; billed as reported."""
    gateway, server = replay
    server.cuts = cuts_for(interaction, way)
    error = recorded_error(interaction)
    if error is not None:
        with pytest.raises(openai.APIError) as caught:
            await ask(gateway, interaction.request_json)
        assert error[:200] in str(caught.value)
        if interaction.status >= 400:
            assert isinstance(caught.value, openai.APIStatusError)
            # An empty account of the gateway's is no fault of the caller's, whatever the provider calls it.
            assert caught.value.status_code in {interaction.status} | (
                {503} if interaction.status in (402, 429) else set()
            )
        (entry,) = await gateway.entries()
        assert entry.outcome in ("failed", "partial")
        return
    expected, reported = recorded(interaction)
    got, usage = await ask(gateway, interaction.request_json)
    splits = splits_think(interaction)
    seen = {index: stripped(one) for index, one in got.items()}
    assert seen == {index: as_client_sees(one, splits) for index, one in expected.items()}
    (entry,) = await gateway.entries()
    assert entry.outcome == "completed"
    if reported is not None:
        prompt, completion = reported.get("prompt_tokens", 0), reported.get("completion_tokens", 0)
        assert (usage.prompt_tokens, usage.completion_tokens) == (prompt, completion)
        # Gemini's compatible endpoint leaves thinking out of completion_tokens, but not out of the total, nor of the bill.
        assert (entry.input, entry.output) == (prompt, max(completion, reported.get("total_tokens", 0) - prompt))
    else:
        assert entry.is_estimated
