"""The sandbox's embeddings and rankings: by shared words, the same every time, and never broken by what is sent."""

from __future__ import annotations

import asyncio
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from naru.errors import BadRequest
from naru.testing import Sandbox
from naru.testing.sandbox.behaviour import parse_model
from naru.testing.sandbox.vectors import cosine, embeddings, rankings, read, vector

ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["text", "x"]), inner, max_size=2),
    max_leaves=6,
)


def test_shared_words_bring_texts_together() -> None:
    """Order and case of the words change nothing, further words lead away; every text's vector has length 1."""
    whole = vector("the cat sat")
    assert vector("THE cat sat") == whole
    assert cosine(whole, vector("sat the cat")) == pytest.approx(1)
    assert cosine(whole, vector("the cat ran")) > cosine(whole, vector("a dog ran"))
    assert math.hypot(*vector("안녕 세계", 1000)) == pytest.approx(1)
    assert vector("", 3) == [0, 0, 0]


def test_rankings_fall_and_count_the_query_each_time() -> None:
    request = read("rerank", b'{"model":"rerank","query":"one two","documents":["x y z","two one","one"]}')
    results, tokens = rankings(request)
    assert [each["index"] for each in results] == [1, 2, 0]
    assert tokens == 3 * 2 + 6


@given(st.sampled_from(["embed", "rerank"]), ANY, ANY)
def test_whatever_is_sent_is_answered_or_refused(kind: str, one: Any, other: Any) -> None:
    body = {"model": kind, "input": one, "query": one, "documents": other, "dimensions": 4}
    try:
        request = read(kind, json.dumps(body).encode())
        rows, tokens = embeddings(request) if kind == "embed" else rankings(request)
    except BadRequest:
        return
    assert rows
    assert tokens >= 0


@pytest.mark.parametrize("model", ["embed", "sandbox/rerank?status=500"])
def test_each_model_is_served_at_its_own_path(model: str) -> None:
    with pytest.raises(BadRequest, match="is served at /v1/"):
        parse_model(model)


async def test_faults_strike_there_too() -> None:
    """Usage that is not told, and a body that is cut."""
    sandbox = Sandbox()
    await sandbox.start()
    try:
        assert b'"usage"' in await asked(sandbox, "")
        assert b'"usage"' not in await asked(sandbox, "?usage=none")
        assert len(await asked(sandbox, "?cut_after=20")) == 20
        assert (sandbox.requests, sandbox.failed, sandbox.tokens_in) == (3, 1, 3)
    finally:
        await sandbox.stop()


async def asked(sandbox: Sandbox, query: str) -> bytes:
    """The body of the answer to an embeddings request of one word."""
    body = json.dumps({"model": f"sandbox/embed{query}", "input": "a"}).encode()
    reader, writer = await asyncio.open_connection(sandbox._server.host, sandbox._server.port)
    try:
        head = b"POST /v1/embeddings HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: %d\r\n\r\n"
        writer.write(head % len(body) + body)
        return (await reader.read()).partition(b"\r\n\r\n")[2]
    finally:
        writer.close()
