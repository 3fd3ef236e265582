"""A request from the client's socket to the ledger and back, through both ways in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from naru.testing.http import Exchange, RawServer
from tests.harness import Gateway, another_key, running


@pytest.fixture(params=["fast", "asgi"])
async def gateway(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Gateway]:
    """A gateway with nothing but the sandbox."""
    async with running(tmp_path, way=request.param) as made:
        yield made


async def test_a_whole_answer(gateway: Gateway) -> None:
    """Text, usage, the promised headers, and one ledger entry that says the same."""
    raw = await gateway.openai.chat.completions.with_raw_response.create(
        model="sandbox/echo", messages=[{"role": "user", "content": "안녕하세요"}]
    )
    answer = raw.parse()
    assert answer.choices[0].message.content == "안녕하세요"
    assert raw.headers["x-request-id"].startswith("req_")
    assert raw.headers["x-naru-deployment"] == "sandbox/echo"
    assert (raw.headers["x-naru-attempts"], raw.headers["x-naru-cache"]) == ("1", "off")
    (entry,) = await gateway.entries()
    assert answer.usage is not None
    assert (entry.input, entry.output) == (answer.usage.prompt_tokens, answer.usage.completion_tokens)
    assert (entry.outcome, entry.status, entry.request_id) == ("completed", 200, raw.headers["x-request-id"])
    assert entry.cost_nano > 0
    assert raw.headers["x-naru-cost-usd"] == f"{entry.cost_nano / 1e9:.9f}"


async def test_a_stream(gateway: Gateway) -> None:
    """Pieces arrive, the usage chunk carries the cost, the ledger has tokens and TTFT."""
    stream = await gateway.openai.chat.completions.create(
        model="sandbox/echo",
        messages=[{"role": "user", "content": "one two three"}],
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "one two three"
    assert chunks[-1].usage is not None
    (entry,) = await gateway.entries()
    assert chunks[-1].usage.model_extra is not None
    assert chunks[-1].usage.model_extra["naru"]["cost_usd"] == pytest.approx(entry.cost_nano / 1e9)
    assert (entry.input, entry.output) == (chunks[-1].usage.prompt_tokens, chunks[-1].usage.completion_tokens)
    assert (entry.is_stream, entry.outcome) == (True, "completed")
    assert entry.ttft_us is not None


async def test_a_stream_without_usage_asked_for(gateway: Gateway) -> None:
    """The client that did not ask sees no usage chunk; the ledger has the figures all the same."""
    stream = await gateway.openai.chat.completions.create(
        model="sandbox/echo", messages=[{"role": "user", "content": "one two"}], stream=True
    )
    chunks = [chunk async for chunk in stream]
    assert all(chunk.choices and chunk.usage is None for chunk in chunks)
    (entry,) = await gateway.entries()
    assert entry.output > 0
    assert not entry.is_estimated


@pytest.mark.parametrize(
    ("key", "code", "hint"),
    [
        ("", "missing_api_key", "naru keys create"),
        ("sk-1234", "invalid_api_key", "not a Naru key"),
        ("nk-000000000000-" + "a" * 49, "invalid_api_key", "mistyped"),
    ],
)
async def test_keys_that_are_refused(gateway: Gateway, key: str, code: str, hint: str) -> None:
    """401 in OpenAI's shape, saying what to do; nothing reaches the ledger."""
    status, _, body = await gateway.post(b'{"model":"sandbox/echo"}', authorization=f"Bearer {key}" if key else "")
    error = msgspec.json.decode(body)["error"]
    assert (status, error["code"], set(error)) == (401, code, {"message", "type", "param", "code"})
    assert hint in error["message"]
    assert await gateway.entries() == []


async def test_a_revoked_key_stops_at_once(gateway: Gateway) -> None:
    """The next request after revocation is refused."""
    text = await another_key(gateway, name="leaving")
    body = b'{"model":"sandbox/echo","messages":[{"role":"user","content":"hi"}]}'
    assert (await gateway.post(body, authorization=f"Bearer {text}"))[0] == 200
    await gateway.app.control.revoke_key("leaving")
    status, _, answer = await gateway.post(body, authorization=f"Bearer {text}")
    assert status == 401
    assert b"revoked" in answer


async def test_a_key_limited_to_models(gateway: Gateway) -> None:
    """Other models are refused by name, and the list of models shows only what may be used."""
    text = await another_key(gateway, models=["sandbox/echo"])
    body = b'{"model":"sandbox/think","messages":[{"role":"user","content":"hi"}]}'
    status, _, answer = await gateway.post(body, authorization=f"Bearer {text}")
    assert (status, msgspec.json.decode(answer)["error"]["code"]) == (403, "model_not_allowed")


async def test_other_headers_carry_keys_too(gateway: Gateway) -> None:
    """x-api-key and x-goog-api-key are read like Authorization."""
    body = b'{"model":"sandbox/echo","messages":[{"role":"user","content":"hi"}]}'
    for name in ("x_api_key", "x_goog_api_key"):
        assert (await gateway.post(body, authorization="", **{name: gateway.key}))[0] == 200


async def test_an_unknown_model_names_the_nearest(gateway: Gateway) -> None:
    """404 model_not_found with a suggestion."""
    status, _, answer = await gateway.chat(model="sandbox/ecco")
    assert (status, answer["error"]["code"], answer["error"]["param"]) == (404, "model_not_found", "model")
    assert "sandbox/echo" in answer["error"]["message"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xef\xbb\xbf{}",
        '{"model":"sandbox/echo"}'.encode("utf-16"),
        b'{"model":"sandbox/echo","messages":[]}',
        b'{"model":"sandbox/echo","messages":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"model":"sandbox/echo","messages":[{"role":"user","content":"x"}],"temperature":NaN}',
        b'{"model":"sandbox/echo","model":"sandbox/tools","messages":[{"role":"user","content":"x"}]}',
        b'{"model":"sandbox/echo","mode\\u006c":"sandbox/tools","messages":[{"role":"user","content":"x"}]}',
        b'{"model":"sandbox/echo","messages":[{"role":"user","content":"x"}],"n":1000000000}',
        b'{"model":"sandbox/echo","messages":[{"role":"user","content":"x"}],"max_tokens":-1}',
        b'{"model":"sandbox/echo","messages":[{"role":"user","content":"x"}],"max_tokens":1e12}',
        b'{"model":"sandbox/echo","messages":[{"role":"user","content":"x"}],"max_tokens":' + b"9" * 5000 + b"}",
        b'{"model":5,"messages":[{"role":"user","content":"x"}]}',
        b'{"messages":[{"role":"user","content":"x"}]}',
        b'{"model":"sandbox/echo","messages":[{"role":"user","content":"\xff"}]}',
        b'{"model":"sandbox/echo","messages":[{"role":"user","content":"x"}],"base_url":"http://evil"}',
    ],
    ids=lambda body: repr(body[:40]) if isinstance(body, bytes) else None,
)
async def test_bad_bodies_are_a_clear_400(gateway: Gateway, body: bytes) -> None:
    """Never a 500, nothing sent upstream, and the connection and the next request are fine."""
    sandbox = gateway.app._sandbox
    assert sandbox is not None
    before = sandbox.requests
    status, _, answer = await gateway.post(body)
    error = msgspec.json.decode(answer)["error"]
    assert (status, error["type"]) == (400, "invalid_request_error")
    assert len(error["message"]) > 20
    assert sandbox.requests == before
    assert (await gateway.chat(model="sandbox/echo"))[0] == 200


async def test_header_injection_through_the_model_name(gateway: Gateway) -> None:
    """A model name with line breaks ends in no header line of its own."""
    status, headers, _ = await gateway.chat(model="sandbox/echo?text=a\r\nx-evil: 1\r\n\r\n")
    assert status in (200, 400, 404)
    assert "x-evil" not in headers


async def test_a_body_over_the_limit_is_refused_early(gateway: Gateway) -> None:
    """413 with the limit in it, before the whole body is read."""
    limit = gateway.app.settings.server.max_body_bytes
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {gateway.key}\r\ncontent-length: {limit * 2}\r\n\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(head.encode())
    sent = 0
    try:
        while sent <= limit + 4 * 65_536:
            writer.write(b" " * 65_536)
            sent += 65_536
            await writer.drain()
        first = await asyncio.wait_for(reader.readline(), 10)
    finally:
        writer.close()
    assert first.startswith(b"HTTP/1.1 413")


async def test_failover_before_the_first_content(tmp_path: Path) -> None:
    """The first deployment fails, the second answers; the client sees one normal answer and two attempts."""
    config = """
    [models.m]
    deployments = [{ provider = "sandbox", model = "echo?status=500" }, { provider = "sandbox", model = "echo", priority = 2 }]
    """
    async with running(tmp_path, config) as gateway:
        status, headers, answer = await gateway.chat(model="m")
        assert (status, headers["x-naru-attempts"], headers["x-naru-deployment"]) == (200, "2", "sandbox/echo")
        assert answer["choices"][0]["message"]["content"] == "hello there"
        (entry,) = await gateway.entries()
        assert (entry.attempts, entry.deployment, entry.outcome) == (2, "sandbox/echo", "completed")


@pytest.mark.parametrize(
    ("model", "status", "code"),
    [
        ("sandbox/echo?status=429&retry_after=7", 429, None),
        ("sandbox/echo?status=500", 500, None),
        ("sandbox/echo?status=401", 502, "upstream_auth"),
        ("sandbox/echo?garbage=1", 502, None),
        ("sandbox/echo?reset=1", 502, None),
    ],
)
async def test_upstream_failures_in_openai_shape(gateway: Gateway, model: str, status: int, code: str | None) -> None:
    """The caller learns what happened; an upstream's 401 is never the caller's; nothing is billed."""
    got, headers, answer = await gateway.chat(model=model)
    assert got == status, answer
    assert set(answer["error"]) >= {"message", "type", "param", "code"}
    if code:
        assert answer["error"]["code"] == code
    if status == 429:
        assert headers["retry-after"] == "7"
    (entry,) = await gateway.entries()
    assert (entry.outcome, entry.cost_nano) == ("failed", 0)


async def test_a_stream_cut_in_the_middle_ends_with_an_error(gateway: Gateway) -> None:
    """In-band error, no [DONE], and what was delivered is billed as partial."""
    body = msgspec.json.encode(
        {"model": "sandbox/echo?cut_after=2", "stream": True, "messages": [{"role": "user", "content": "a b c d e f"}]}
    )
    status, _, answer = await gateway.post(body)
    assert status == 200
    assert b"upstream_incomplete" in answer
    assert b"[DONE]" not in answer
    (entry,) = await gateway.entries()
    assert (entry.outcome, entry.is_estimated) == ("partial", True)
    assert entry.cost_nano > 0


async def test_a_client_that_leaves_mid_stream(gateway: Gateway) -> None:
    """The upstream is aborted, the entry says cancelled and bills what was generated."""
    sandbox = gateway.app._sandbox
    assert sandbox is not None
    body = msgspec.json.encode(
        {"model": "sandbox/echo?hang_after=2", "stream": True, "messages": [{"role": "user", "content": "a b c d"}]}
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer %b\r\ncontent-length: %d\r\n\r\n%b"
        % (gateway.key.encode(), len(body), body)
    )
    await reader.readuntil(b"data: ")
    writer.close()
    async with asyncio.timeout(1):
        while sandbox.open_streams:
            await asyncio.sleep(0.005)
    (entry,) = await gateway.entries()
    assert (entry.outcome, entry.status) == ("cancelled", 499)
    assert entry.cost_nano > 0
    assert not gateway.app.gateway.streams.flowing


async def test_an_unpriced_model_is_refused(tmp_path: Path) -> None:
    """402 model_unpriced with the way out; free only when the operator says so."""
    upstream = RawServer(
        lambda e: e.answer(200, b'{"choices":[{"index":0,"message":{"role":"assistant","content":"x"}}]}')
    )
    base = await upstream.start()
    provider = f'[providers.own]\nkind = "custom"\nbase_url = "{base}/v1"\napi_key = "x"\nallow_private = true\n'
    async with running(tmp_path, provider) as gateway:
        status, _, answer = await gateway.chat(model="own/thing")
        assert (status, answer["error"]["code"]) == (402, "model_unpriced")
        assert 'price = "free"' in answer["error"]["message"]
        assert upstream.requests == 0
    folder = tmp_path / "free"
    folder.mkdir()
    async with running(folder, provider + 'price = "free"\n') as gateway:
        assert (await gateway.chat(model="own/thing"))[0] == 200
        (entry,) = await gateway.entries()
        assert (entry.cost_nano, entry.is_estimated) == (0, True)
    await upstream.stop()


async def test_the_gateway_never_follows_redirects(tmp_path: Path) -> None:
    """A 302 to somewhere else is an upstream error, and nobody is asked there."""

    def redirect(exchange: Exchange) -> None:
        exchange.answer(302, b"", (("location", "http://169.254.169.254/"),))

    upstream = RawServer(redirect)
    base = await upstream.start()
    config = f'[providers.own]\nkind="custom"\nbase_url="{base}/v1"\napi_key="x"\nallow_private=true\nprice="free"\n'
    async with running(tmp_path, config) as gateway:
        status, _, answer = await gateway.chat(model="own/thing")
        assert status == 502
        assert "redirect" in answer["error"]["message"]
    await upstream.stop()


async def test_pipelined_requests_are_answered_in_order(gateway: Gateway) -> None:
    """Two requests in one packet get two answers, the first one first."""

    def request(text: str, more: str) -> bytes:
        body = msgspec.json.encode({"model": "sandbox/echo", "messages": [{"role": "user", "content": text}]})
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {gateway.key}\r\n{more}"
        return head.encode() + b"content-length: %d\r\n\r\n" % len(body) + body

    answer = await gateway.raw(request("first", "") + request("second", "connection: close\r\n"))
    assert answer.count(b"HTTP/1.1 200 OK") == 2
    assert answer.index(b"first") < answer.index(b"second")


async def test_other_paths_and_methods(gateway: Gateway) -> None:
    """404 and 405 in the same shape, naming what there is; health needs no key; admin needs an admin key."""
    assert (await gateway.post(b"{}", "/v1/nothing"))[0] == 404
    status, _, body = await gateway.post(b"{}", "/v1/models")
    assert (status, msgspec.json.decode(body)["error"]["code"]) == (405, "method_not_allowed")
    get = f"GET {{}} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {gateway.key}\r\n\r\n"
    assert b" 405 " in (await gateway.raw(get.format("/v1/chat/completions").encode())).split(b"\r\n")[0]
    assert b" 200 " in (await gateway.raw(get.format("/readyz").encode())).split(b"\r\n")[0]
    assert b" 403 " in (await gateway.raw(get.format("/admin/keys").encode())).split(b"\r\n")[0]
    metrics = await gateway.raw(get.format("/metrics").encode())
    assert b"naru_open_permits 0.0" in metrics
    models = await gateway.openai.models.list()
    assert "sandbox/echo" in [model.id for model in models.data]
    assert (await gateway.openai.models.retrieve("sandbox/echo")).owned_by == "sandbox"


async def test_explain_sends_nothing(gateway: Gateway) -> None:
    """The plan, the price's source and the bound, and no upstream request."""
    sandbox = gateway.app._sandbox
    assert sandbox is not None
    body = msgspec.json.encode(
        {"model": "sandbox/echo", "messages": [{"role": "user", "content": "x"}], "max_tokens": 1000}
    )
    status, _, answer = await gateway.post(body, "/v1/explain")
    found = msgspec.json.decode(answer)
    assert (status, found["attempts"][0]["deployment"]) == (200, "sandbox/echo")
    assert float(found["attempts"][0]["cost_usd_at_most"]) >= 1000 * 0.4e-6
    assert sandbox.requests == 0


async def test_who_closes_the_sending_side_still_gets_a_plain_answer(tmp_path: Path) -> None:
    """As `nc -N` does. A stream's client that leaves looks just the same, and there the upstream is dropped."""
    async with running(tmp_path) as gateway:
        body = b'{"model":"sandbox/echo?ttft_ms=50","messages":[{"role":"user","content":"hi"}]}'
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {gateway.key}\r\n"
        writer.write(head.encode() + b"content-length: %d\r\n\r\n" % len(body) + body)
        writer.write_eof()
        async with asyncio.timeout(5):
            answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 200")
        assert b'"hi"' in answer
        assert b"connection: close" in answer
        writer.close()


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("application/json", 200),
        ("application/json; charset=utf-8", 200),
        ("application/vnd.api+json", 200),
        ("text/plain", 200),
        ("", 200),
        ("text/xml", 415),
        ("application/x-www-form-urlencoded", 415),
        ("multipart/form-data; boundary=x", 415),
    ],
)
async def test_a_body_is_what_it_says(tmp_path: Path, kind: str, status: int) -> None:
    """What says it is something else than JSON is refused with words that help."""
    async with running(tmp_path) as gateway:
        body = b'{"model":"sandbox/echo","messages":[{"role":"user","content":"hi"}]}'
        found, _, told = await gateway.post(body, content_type=kind)
        assert found == status
        if status == 415:
            assert b"content-type: application/json" in told
