"""The doors to Gemini: which address, which header, and what each model's quirks make of one request."""

from __future__ import annotations

import json
from typing import Any

import pytest

from naru.protocol.gemini import GEMINI
from naru.protocol.messages import Message, ReasoningPolicy, Request, Sampling, Text
from naru.providers import load_providers

PROVIDERS = load_providers()


@pytest.mark.parametrize(
    ("kind", "base"),
    [
        ("gemini", "https://generativelanguage.googleapis.com/v1beta"),
        ("vertex", "https://aiplatform.googleapis.com/v1/publishers/google"),
    ],
)
def test_addresses(kind: str, base: str) -> None:
    """Upstream streams are always server-sent events, and the key is never in the address."""
    provider = PROVIDERS[kind]
    assert provider.base_url() == base
    plain, stream = provider.call_paths("generate", "gemini-3.8-flash")
    assert plain == "/models/gemini-3.8-flash:generateContent"
    assert stream == "/models/gemini-3.8-flash:streamGenerateContent?alt=sse"
    assert provider.credential("k") == {"x-goog-api-key": "k"}


@pytest.mark.parametrize(
    ("model", "effort", "thinking"),
    [
        ("gemini-2.0-flash", "low", None),
        ("gemini-2.5-flash", "none", {"thinkingBudget": 0}),
        ("gemini-2.5-pro", "none", {"thinkingBudget": 128}),
        ("gemini-2.5-flash-lite", "minimal", {"thinkingBudget": 512, "includeThoughts": True}),
        ("gemini-3-pro-preview", "medium", {"thinkingLevel": "high", "includeThoughts": True}),
        ("gemini-3.1-pro-preview", "medium", {"thinkingLevel": "medium", "includeThoughts": True}),
        ("gemini-3-flash-preview", "none", {"thinkingLevel": "minimal", "includeThoughts": False}),
        ("gemini-3.8-flash", "none", {"thinkingLevel": "low", "includeThoughts": False}),
    ],
)
def test_thinking_by_model(model: str, effort: str, thinking: dict[str, Any] | None) -> None:
    assert _config(model, ReasoningPolicy(effort=effort))[0].get("thinkingConfig") == thinking


@pytest.mark.parametrize(("model", "is_dropped"), [("gemini-3.6-flash", True), ("gemini-3.5-flash", False)])
def test_sampling_by_model(model: str, is_dropped: bool) -> None:
    """Refused from 3.6 on (A6.2): left out, and named."""
    config, dropped = _config(model, ReasoningPolicy())
    assert ("temperature" in config) is not is_dropped
    assert ("temperature" in dropped) is is_dropped


def _config(model: str, policy: ReasoningPolicy) -> tuple[dict[str, Any], tuple[str, ...]]:
    message = Message("user", (Text("x"),))
    request = Request(model, (message,), reasoning=policy, sampling=Sampling(temperature=0.5))
    found = GEMINI.encode_request(request, PROVIDERS["vertex"].quirks_for(model))
    return json.loads(found.body).get("generationConfig", {}), found.dropped
