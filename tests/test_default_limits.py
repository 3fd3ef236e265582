"""A caller who names no limit gets the model's own, which the catalogue knows and Anthropic has to be told."""

from __future__ import annotations

import json
from pathlib import Path

import openai
import pytest

from naru.testing.http import Exchange, RawServer
from tests.harness import MESSAGES, running


def handle(exchange: Exchange) -> None:
    exchange.answer(500, b'{"type":"error","error":{"type":"api_error","message":"enough seen"}}')


@pytest.mark.parametrize(
    ("model", "is_stream", "limit"),
    [("claude-haiku-4-5", True, 64_000), ("claude-haiku-4-5", False, 21_333), ("claude-of-tomorrow", True, 4_096)],
)
async def test_the_limit_that_anthropic_is_told(tmp_path: Path, model: str, is_stream: bool, limit: int) -> None:
    server = RawServer(handle)
    config = f"""
    [providers.anthropic]
    base_url = "{await server.start()}/v1"
    allow_private = true
    api_key = "x"
    price = {{ input = 1, output = 2 }}
    """
    async with running(tmp_path, config) as gateway:
        with pytest.raises(openai.APIStatusError):
            await gateway.openai.chat.completions.create(
                model=f"anthropic/{model}", messages=MESSAGES, stream=is_stream
            )
    assert json.loads(server.received[-1].body)["max_tokens"] == limit
    await server.stop()
