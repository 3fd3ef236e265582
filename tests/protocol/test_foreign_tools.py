"""Tools of a provider that the model's own does not have: left out and named, or refused where the answer depends on them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from naru.errors import BadRequest
from naru.protocol.anthropic_messages import ANTHROPIC_MESSAGES
from naru.protocol.bridge import Translation, Upstream
from naru.protocol.clova import CLOVA
from naru.protocol.dialect import Dialect, Quirks
from naru.protocol.gemini import GEMINI
from naru.protocol.openai_chat import OPENAI_CHAT
from naru.protocol.openai_responses import OPENAI_RESPONSES

SCHEMA = {"type": "object", "properties": {}}
CODEX = [
    {"type": "function", "name": "mine", "parameters": SCHEMA},
    {"type": "web_search"},
    {"type": "image_generation"},
]
CLAUDE = [{"name": "mine", "input_schema": SCHEMA}, {"type": "web_search_20250305", "name": "web_search"}]
GENAI = [{"functionDeclarations": [{"name": "mine"}]}, {"googleSearch": {}}]

BODIES: dict[str, tuple[Dialect, dict[str, Any], tuple[str, ...]]] = {
    "responses": (OPENAI_RESPONSES, {"input": "hi", "tools": CODEX}, ("tools.web_search", "tools.image_generation")),
    "messages": (
        ANTHROPIC_MESSAGES,
        {"max_tokens": 9, "messages": [{"role": "user", "content": "hi"}], "tools": CLAUDE},
        ("tools.web_search_20250305",),
    ),
    "gemini": (GEMINI, {"contents": [{"parts": [{"text": "hi"}]}], "tools": GENAI}, ("tools.googleSearch",)),
}
UPSTREAMS = {dialect.name: dialect for dialect in (OPENAI_CHAT, OPENAI_RESPONSES, ANTHROPIC_MESSAGES, GEMINI, CLOVA)}
PAIRS = [(asked, name) for asked, (client, _, _) in BODIES.items() for name in UPSTREAMS if name != client.name]


def translated(client: Dialect, upstream: Any, body: dict[str, Any]) -> tuple[str, tuple[str, ...]]:
    """(the upstream's body, what was left out)."""
    data = json.dumps(body if client is GEMINI else {"model": "m", **body}).encode()
    envelope = client.read(data, "/v1beta/models/m:generateContent")
    made = Translation(client, upstream).request(envelope, Upstream("m", Quirks()), False)
    return made.body.decode(), made.dropped


@pytest.mark.parametrize(("asked", "upstream"), PAIRS)
def test_offered_beside_others_they_are_left_out_and_named(asked: str, upstream: str) -> None:
    """Codex offers a web search with every request: no reason to refuse it, and none to stay silent."""
    client, body, names = BODIES[asked]
    sent, dropped = translated(client, UPSTREAMS[upstream], body)
    assert "mine" in sent
    assert "earch" not in sent
    assert set(names) <= set(dropped)


@pytest.mark.parametrize("asked", BODIES)
def test_offered_alone_they_are_refused(asked: str) -> None:
    """A request that has nothing but a web search is about the web search."""
    client, body, _ = BODIES[asked]
    with pytest.raises(BadRequest) as caught:
        translated(client, OPENAI_CHAT, {**body, "tools": body["tools"][1:]})
    assert (caught.value.code, caught.value.param) == ("unsupported_tool", "tools")


def test_one_that_must_be_called_is_refused() -> None:
    client, body, _ = BODIES["messages"]
    with pytest.raises(BadRequest) as caught:
        translated(client, OPENAI_CHAT, {**body, "tool_choice": {"type": "tool", "name": "web_search"}})
    assert caught.value.code == "unsupported_tool"


def test_a_custom_tool_is_the_callers_own() -> None:
    """Chat's custom tools are never left out: Responses has them too, and others refuse them by name."""
    custom = {"type": "custom", "custom": {"name": "grammar"}}
    function = {"type": "function", "function": {"name": "mine", "parameters": SCHEMA}}
    body = {"messages": [{"role": "user", "content": "hi"}], "tools": [function, custom]}
    sent, dropped = translated(OPENAI_CHAT, OPENAI_RESPONSES, body)
    assert ("grammar" in sent, dropped) == (True, ())
    with pytest.raises(BadRequest) as caught:
        translated(OPENAI_CHAT, ANTHROPIC_MESSAGES, body)
    assert caught.value.code == "unsupported_tool"
