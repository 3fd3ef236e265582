"""Embeddings, rerank and text completions from the client's socket to the ledger and back, by the official client."""

from __future__ import annotations

import base64
import contextlib
import json
import struct
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import openai
import pytest

from naru.testing.http import Exchange, RawServer
from naru.testing.sandbox import Sandbox
from tests.harness import Gateway, running

STREAM = (("content-type", "text/event-stream"),)
VECTOR = [0.5, -0.25, 0.125]
VLLM_EMBEDDINGS = {
    "id": "embd-1",
    "object": "list",
    "created": 1,
    "model": "bge",
    "data": [{"index": 0, "object": "embedding", "embedding": VECTOR}],
    "usage": {"prompt_tokens": 4, "total_tokens": 4, "completion_tokens": 0, "prompt_tokens_details": None},
}
VLLM_RERANK = {
    "id": "rerank-1",
    "model": "bge-reranker",
    "usage": {"prompt_tokens": 56, "total_tokens": 56},
    "results": [
        {"index": 1, "document": {"text": "b", "multi_modal": None}, "relevance_score": 0.99},
        {"index": 0, "document": {"text": "a", "multi_modal": None}, "relevance_score": 0.05},
    ],
}
TEXT_USAGE = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}


def text_chunk(text: str, finish: str | None = None, **more: Any) -> bytes:
    choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": finish, "stop_reason": None}
    chunk = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "m", "choices": [choice], **more}
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


@pytest.fixture(params=["fast", "asgi"])
async def gateway(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Gateway]:
    """A gateway with nothing but the sandbox."""
    async with running(tmp_path, way=request.param) as made:
        yield made


def table(kind: str, origin: str, base: str = "/v1", price: str = "{ input = 1, output = 2 }") -> str:
    priced = f"price = {price}" if price else ""
    return f"""
    [providers.up]
    kind = "{kind}"
    base_url = "{origin}{base}"
    api_key = "secret"
    allow_private = true
    {priced}
    """


@contextlib.asynccontextmanager
async def upstream(handler: Callable[[Exchange], Any]) -> AsyncIterator[tuple[RawServer, str]]:
    server = RawServer(handler)
    try:
        yield server, await server.start()
    finally:
        await server.stop()


def answering(told: Any, status: int = 200) -> Callable[[Exchange], None]:
    return lambda exchange: exchange.answer(status, json.dumps(told).encode())


async def posted(gateway: Gateway, path: str, /, **body: Any) -> tuple[int, dict[str, str], Any]:
    status, headers, answer = await gateway.post(json.dumps(body).encode(), path)
    return status, headers, json.loads(answer)


# --- The sandbox ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", [None, "float", "base64"])
async def test_embeddings_by_the_official_client(gateway: Gateway, encoding: Any) -> None:
    """In base64, which it asks for by itself, and in floats: the same numbers; one entry with tokens and cost."""
    asked = {} if encoding is None else {"encoding_format": encoding}
    raw = await gateway.openai.embeddings.with_raw_response.create(
        model="sandbox/embed", input=["one two", "two one", "three"], dimensions=16, **asked
    )
    answer = raw.parse()
    if encoding == "base64":
        vectors = [struct.unpack("<16f", base64.b64decode(str(each.embedding))) for each in answer.data]
    else:
        vectors = [tuple(each.embedding) for each in answer.data]
    assert [len(vector) for vector in vectors] == [16, 16, 16]
    assert vectors[0] == pytest.approx(vectors[1], abs=1e-6)
    assert sum(a * b for a, b in zip(vectors[0], vectors[0], strict=True)) == pytest.approx(1, abs=1e-5)
    assert sum(a * b for a, b in zip(vectors[0], vectors[2], strict=True)) < 0.99
    (entry,) = await gateway.entries()
    assert (entry.input, entry.output, answer.usage.prompt_tokens) == (5, 0, 5)
    assert (entry.dialect, entry.deployment, entry.outcome) == ("embeddings", "sandbox/embed", "completed")
    assert entry.cost_nano == 500
    assert raw.headers["x-naru-cost-usd"] == "0.000000500"
    assert raw.headers["x-naru-deployment"] == "sandbox/embed"


async def test_token_ids_are_inputs_too(gateway: Gateway) -> None:
    answer = await gateway.openai.embeddings.create(model="sandbox/embed", input=[[1, 2, 3], [4]])
    assert len(answer.data) == 2
    assert answer.usage.prompt_tokens == 4


async def test_rerank(gateway: Gateway) -> None:
    """Documents by the words they share with the query, in the shape of Cohere's and Jina's answers."""
    documents = ["rain in Seoul", {"text": "the sun in Busan"}, "a cat"]
    status, headers, answer = await posted(
        gateway, "/v1/rerank", model="sandbox/rerank", query="sun in Busan", documents=documents, top_n=2,
        return_documents=True,
    )  # fmt: skip
    assert status == 200, answer
    assert [each["index"] for each in answer["results"]] == [1, 0]
    assert answer["results"][0]["document"] == {"text": "the sun in Busan"}
    scores = [each["relevance_score"] for each in answer["results"]]
    assert 1 > scores[0] > scores[1] >= 0
    assert answer["usage"]["total_tokens"] == answer["meta"]["billed_units"]["input_tokens"] == 18
    (entry,) = await gateway.entries()
    assert (entry.input, entry.output, entry.dialect, entry.cost_nano) == (18, 0, "rerank", 1800)
    assert headers["x-naru-cost-usd"] == "0.000001800"


async def test_text_completions_of_a_chat_model(gateway: Gateway) -> None:
    """Plain and streamed, by the official client; the usage chunk has the cost."""
    answer = await gateway.openai.completions.create(model="sandbox/echo", prompt="one two three", max_tokens=2)
    assert (answer.choices[0].text, answer.choices[0].finish_reason) == ("one two", "length")
    assert answer.object == "text_completion"
    stream = await gateway.openai.completions.create(
        model="sandbox/echo", prompt="one two three", stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices) == "one two three"
    streamed, plain = await gateway.entries()
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.model_extra is not None
    assert chunks[-1].usage.model_extra["naru"]["cost_usd"] == pytest.approx(streamed.cost_nano / 1e9)
    assert (streamed.output, streamed.is_stream, streamed.dialect) == (3, True, "openai_completions")
    assert (plain.output, plain.is_stream, plain.dialect) == (2, False, "openai_completions")


BODIES = {
    "/v1/embeddings": {"model": "sandbox/embed", "input": "hi"},
    "/v1/rerank": {"model": "sandbox/rerank", "query": "q", "documents": ["d"]},
    "/v1/completions": {"model": "sandbox/echo", "prompt": "hi"},
}
each_path = pytest.mark.parametrize("path", BODIES)


@each_path
async def test_without_a_key_nothing_is_served(gateway: Gateway, path: str) -> None:
    status, _, answer = await gateway.post(json.dumps(BODIES[path]).encode(), path, authorization="")
    assert (status, json.loads(answer)["error"]["code"]) == (401, "missing_api_key")
    assert await gateway.entries() == []


@each_path
async def test_faults_come_in_openais_shape(gateway: Gateway, path: str) -> None:
    """Whatever the provider does, nothing is billed for it and the entry says that it failed."""
    body = BODIES[path]
    for query, expected in (
        ("status=429&retry_after=7", 429),
        ("status=401", 502),
        ("garbage=1", 502),
        ("error_200=1", 500),
    ):
        status, headers, answer = await posted(gateway, path, **{**body, "model": f"{body['model']}?{query}"})
        assert status == expected, answer
        assert set(answer["error"]) == {"message", "type", "param", "code"}
        if expected == 429:
            assert headers["retry-after"] == "7"
    entries = await gateway.entries()
    assert {(entry.outcome, entry.cost_nano) for entry in entries} == {("failed", 0)}
    assert len(entries) == 4


@each_path
async def test_bad_bodies_are_a_clear_400(gateway: Gateway, path: str) -> None:
    sandbox = gateway.app._sandbox
    assert sandbox is not None
    model = BODIES[path]["model"]
    bodies = (b"", b"[]", b"{", b'{"model":"%s"}' % model.encode(), b'{"model":5}', b'{"model":"a","model":"b"}')
    for body in bodies:
        status, _, answer = await gateway.post(body, path)
        error = json.loads(answer)["error"]
        assert (status, error["type"]) == (400, "invalid_request_error")
        assert len(error["message"]) > 20
    assert sandbox.requests == 0


@pytest.mark.parametrize(
    ("path", "body", "able"),
    [
        ("/v1/embeddings", {"model": "sandbox/echo", "input": "hi"}, "sandbox/embed"),
        ("/v1/rerank", {"model": "sandbox/embed", "query": "q", "documents": ["d"]}, "sandbox/rerank"),
        ("/v1/completions", {"model": "sandbox/rerank", "prompt": "hi"}, "sandbox/echo"),
        (
            "/v1/chat/completions",
            {"model": "sandbox/embed", "messages": [{"role": "user", "content": "hi"}]},
            "sandbox/echo",
        ),
    ],
)
async def test_a_model_of_another_kind_is_refused_with_those_that_can(
    gateway: Gateway, path: str, body: Any, able: str
) -> None:
    """400 before anything is sent, and the message names who can."""
    sandbox = gateway.app._sandbox
    assert sandbox is not None
    status, _, answer = await posted(gateway, path, **body)
    assert (status, answer["error"]["code"], answer["error"]["param"]) == (400, "wrong_endpoint", "model")
    assert able in answer["error"]["message"]
    assert sandbox.requests == 0
    (entry,) = await gateway.entries()
    assert (entry.outcome, entry.status, entry.cost_nano) == ("failed", 400, 0)


async def test_explain_knows_the_endpoints(gateway: Gateway) -> None:
    """An embedding's bound has no output in it; a model of another kind is told so."""
    status, _, found = await posted(
        gateway, "/v1/explain", path="/v1/embeddings", model="sandbox/embed", input="x" * 400
    )
    assert (status, found["max_output_tokens"]) == (200, 0)
    (attempt,) = found["attempts"]
    assert (attempt["dialect"], attempt["error"]) == ("embeddings", None)
    assert float(attempt["cost_usd_at_most"]) < 0.0001
    _, _, found = await posted(
        gateway, "/v1/explain", path="/v1/rerank", model="sandbox/echo", query="q", documents=["d"]
    )
    assert found["attempts"] == []
    assert "sandbox/rerank" in found["error"]
    assert found["refused"][0]["why"] == "it has no endpoint for such requests"


async def test_the_paths_take_post(gateway: Gateway) -> None:
    answer = await gateway.raw(b"GET /v1/embeddings HTTP/1.1\r\nhost: naru\r\nconnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 405")
    assert b"Use POST" in answer


# --- Servers as they answer in the field ------------------------------------------------------------------------------


async def test_floats_from_the_provider_base64_for_the_client(tmp_path: Path) -> None:
    """The official client asks for base64 and gets its numbers, whatever the server gives."""
    async with (
        upstream(answering(VLLM_EMBEDDINGS)) as (server, origin),
        running(tmp_path, table("vllm", origin)) as gateway,
    ):
        answer = await gateway.openai.embeddings.create(model="up/bge", input="hello")
        assert answer.data[0].embedding == VECTOR
        status, _, raw = await posted(
            gateway, "/v1/embeddings", model="up/bge", input="hello", encoding_format="base64"
        )
        assert status == 200
        assert raw["data"][0]["embedding"] == base64.b64encode(struct.pack("<3f", *VECTOR)).decode()
        assert {received.target for received in server.received} == {"/v1/embeddings"}
        assert server.received[0].header("authorization") == "Bearer secret"
        assert json.loads(server.received[0].body)["model"] == "bge"
        entries = await gateway.entries()
        assert [(entry.input, entry.output, entry.cost_nano) for entry in entries] == [(4, 0, 4000)] * 2


async def test_a_provider_that_counts_nothing_is_billed_by_estimate(tmp_path: Path) -> None:
    """LM Studio reports 0 tokens."""
    told = {**VLLM_EMBEDDINGS, "usage": {"prompt_tokens": 0, "total_tokens": 0}}
    async with upstream(answering(told)) as (_, origin), running(tmp_path, table("lmstudio", origin)) as gateway:
        answer = await gateway.openai.embeddings.create(model="up/bge", input="x" * 398)
        (entry,) = await gateway.entries()
        assert (entry.input, entry.output, entry.is_estimated, entry.cost_nano) == (100, 0, True, 100_000)
        assert answer.usage.prompt_tokens == 100


async def test_a_long_answer_passes_unchanged(tmp_path: Path) -> None:
    """Megabytes of vectors are handed over as they came, odd spacing and every digit included."""
    numbers = b", ".join(b"0.%015d" % number for number in range(1, 1537))
    items = b",\n".join(b'{"index":%d,"embedding":[%b]}' % (place, numbers) for place in range(64))
    told = b'{ "data": [%b], "usage": {"prompt_tokens": 9, "total_tokens": 9}, "x": 1.50 }' % items
    async with (
        upstream(lambda exchange: exchange.answer(200, told)) as (_, origin),
        running(tmp_path, table("vllm", origin)) as gateway,
    ):
        body = json.dumps({"model": "up/bge", "input": ["a"] * 64, "encoding_format": "float"}).encode()
        status, _, answer = await gateway.post(body, "/v1/embeddings")
        assert status == 200
        assert answer == told
        (entry,) = await gateway.entries()
        assert entry.input == 9


async def test_unpriced_models_are_refused(tmp_path: Path) -> None:
    async with (
        upstream(answering(VLLM_EMBEDDINGS)) as (server, origin),
        running(tmp_path, table("vllm", origin, price="")) as gateway,
    ):
        for path, body in BODIES.items():
            status, _, answer = await posted(gateway, path, **{**body, "model": "up/bge"})
            assert (status, answer["error"]["code"]) == (402, "model_unpriced")
        assert server.requests == 0
        assert {entry.error_code for entry in await gateway.entries()} == {"model_unpriced"}


async def test_the_providers_limit_of_inputs(tmp_path: Path) -> None:
    """DashScope takes ten texts a call: eleven are refused by name, and nothing is sent."""
    config = table("dashscope", "http://127.0.0.1:9", "/compatible-mode/v1")
    async with running(tmp_path, config) as gateway:
        with pytest.raises(openai.BadRequestError) as caught:
            await gateway.openai.embeddings.create(model="up/text-embedding-v4", input=["a"] * 11)
        assert (caught.value.code, caught.value.param) == ("too_many_inputs", "input")
        assert "at most 10" in caught.value.message


@pytest.mark.parametrize(
    ("model", "target", "told"),
    [
        (
            "qwen3-rerank",
            "/compatible-api/v1/reranks",
            {"results": [{"index": 0, "relevance_score": 0.98}], "usage": {"total_tokens": 79}, "request_id": "r"},
        ),
        (
            "gte-rerank-v2",
            "/api/v1/services/rerank/text-rerank/text-rerank",
            {
                "output": {"results": [{"index": 0, "relevance_score": 0.98, "document": {"text": "d"}}]},
                "usage": {"total_tokens": 79},
                "request_id": "r",
            },
        ),
    ],
)
async def test_dashscopes_two_reranks(tmp_path: Path, model: str, target: str, told: Any) -> None:
    """The compatible one where there is one, both from the root of the host; one shape for the caller."""
    async with (
        upstream(answering(told)) as (server, origin),
        running(tmp_path, table("dashscope", origin, "/compatible-mode/v1")) as gateway,
    ):
        status, _, answer = await posted(gateway, "/v1/rerank", model=f"up/{model}", query="q", documents=["d"])
        assert status == 200, answer
        assert server.received[0].target == target
        assert json.loads(server.received[0].body)["model"] == model
        assert [(each["index"], each["relevance_score"]) for each in answer["results"]] == [(0, 0.98)]
        (entry,) = await gateway.entries()
        assert (entry.input, entry.output, entry.cost_nano, entry.dialect) == (79, 0, 79_000, "rerank")


async def test_gemini_behind_openais_embeddings(tmp_path: Path) -> None:
    """Its own path, header and body; the price is the catalogue's."""
    told = {"embeddings": [{"values": VECTOR}, {"values": VECTOR}], "usageMetadata": {"promptTokenCount": 1000}}
    async with (
        upstream(answering(told)) as (server, origin),
        running(tmp_path, table("gemini", origin, "/v1beta", price="")) as gateway,
    ):
        answer = await gateway.openai.embeddings.create(model="gemini-embedding-001", input=["a", "b"], dimensions=3)
        assert [each.embedding for each in answer.data] == [VECTOR, VECTOR]
        received = server.received[0]
        assert received.target == "/v1beta/models/gemini-embedding-001:batchEmbedContents"
        assert (received.header("x-goog-api-key"), received.header("authorization")) == ("secret", None)
        assert len(json.loads(received.body)["requests"]) == 2
        (entry,) = await gateway.entries()
        assert (entry.input, entry.cost_nano) == (1000, 150_000)


async def test_clovas_tools(tmp_path: Path) -> None:
    def handler(exchange: Exchange) -> None:
        ok = {"code": "20000", "message": "OK"}
        if exchange.received.path.endswith("/embedding/v2"):
            result: Any = {"embedding": VECTOR, "inputTokens": 3}
        else:
            usage = {"promptTokens": 30, "completionTokens": 12, "totalTokens": 42}
            result = {
                "result": "답",
                "citedDocuments": [{"id": "1", "doc": "b"}],
                "suggestedQueries": [],
                "usage": usage,
            }
        exchange.answer(200, json.dumps({"status": ok, "result": result}).encode())

    async with upstream(handler) as (server, origin), running(tmp_path, table("clova", origin, "/v3")) as gateway:
        vector = await gateway.openai.embeddings.create(model="up/bge-m3", input="안녕")
        assert vector.data[0].embedding == VECTOR
        status, _, ranked = await posted(gateway, "/v1/rerank", model="up/reranker", query="q", documents=["a", "b"])
        assert status == 200, ranked
        assert [each["index"] for each in ranked["results"]] == [1]
        assert ranked["answer"] == "답"
        assert [received.target for received in server.received] == [
            "/v1/api-tools/embedding/v2",
            "/v1/api-tools/reranker",
        ]
        entries = await gateway.entries()
        assert [(entry.input, entry.output, entry.cost_nano) for entry in entries] == [(30, 12, 54_000), (3, 0, 3000)]


async def test_vllms_rerank(tmp_path: Path) -> None:
    """What its answer has besides is kept."""
    async with (
        upstream(answering(VLLM_RERANK)) as (server, origin),
        running(tmp_path, table("vllm", origin)) as gateway,
    ):
        status, _, answer = await posted(gateway, "/v1/rerank", model="up/r", query="q", documents=["a", "b"])
        assert status == 200
        assert server.received[0].target == "/v1/rerank"
        assert answer == {**VLLM_RERANK, "meta": {"billed_units": {"input_tokens": 56}}}
        (entry,) = await gateway.entries()
        assert (entry.input, entry.output, entry.cost_nano) == (56, 0, 56_000)


async def test_text_completions_where_the_provider_has_them(tmp_path: Path) -> None:
    """Passed on as they are, what a chat cannot do included; the usage chunk only for who asked."""

    def handler(exchange: Exchange) -> None:
        if json.loads(exchange.received.body).get("stream"):
            pieces = text_chunk("Once") + text_chunk(" upon", "stop")
            usage = b"data: " + json.dumps({"id": "cmpl-1", "choices": [], "usage": TEXT_USAGE}).encode() + b"\n\n"
            exchange.start(200, STREAM)
            exchange.send(pieces + usage + b"data: [DONE]\n\n")
            exchange.end()
        else:
            whole = text_chunk("Once upon", "stop", usage=TEXT_USAGE)
            exchange.answer(200, whole.removeprefix(b"data: ").strip())

    async with upstream(handler) as (server, origin), running(tmp_path, table("vllm", origin)) as gateway:
        answer = await gateway.openai.completions.create(model="up/m", prompt=["a"], suffix="z", echo=True, best_of=2)
        assert (answer.choices[0].text, answer.choices[0].model_extra) == ("Once upon", {"stop_reason": None})
        stream = await gateway.openai.completions.create(model="up/m", prompt="a", stream=True)
        chunks = [chunk async for chunk in stream]
        assert [chunk.choices[0].text for chunk in chunks] == ["Once", " upon"]
        assert {received.target for received in server.received} == {"/v1/completions"}
        first, second = (json.loads(received.body) for received in server.received)
        assert first == {"model": "m", "prompt": ["a"], "suffix": "z", "echo": True, "best_of": 2}
        assert second["stream_options"] == {"include_usage": True}
        assert [(entry.input, entry.output, entry.cost_nano) for entry in await gateway.entries()] == [(5, 2, 9000)] * 2


async def test_a_cut_stream_of_texts_ends_with_an_error(tmp_path: Path) -> None:
    """In the stream, without [DONE]; what was delivered is billed."""

    def handler(exchange: Exchange) -> None:
        exchange.start(200, STREAM)
        exchange.send(text_chunk("Once"))
        exchange.close()

    async with upstream(handler) as (_, origin), running(tmp_path, table("vllm", origin)) as gateway:
        status, _, answer = await gateway.post(b'{"model":"up/m","prompt":"a","stream":true}', "/v1/completions")
        assert status == 200
        assert b'"Once"' in answer
        assert b"[DONE]" not in answer
        assert b'"error"' in answer
        (entry,) = await gateway.entries()
        assert (entry.outcome, entry.is_estimated) == ("partial", True)
        assert entry.cost_nano > 0


async def test_openais_chat_models_are_asked_as_chats(tmp_path: Path) -> None:
    """Only its old models have text completions."""
    message = {"role": "assistant", "content": "hi"}
    chat = {
        "id": "c",
        "created": 1,
        "model": "gpt-4o",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
    }

    def handler(exchange: Exchange) -> None:
        is_chat = exchange.received.path == "/v1/chat/completions"
        told = {**chat, "usage": TEXT_USAGE} if is_chat else json.loads(text_chunk("hi", "stop", usage=TEXT_USAGE)[6:])
        exchange.answer(200, json.dumps(told).encode())

    async with upstream(handler) as (server, origin), running(tmp_path, table("openai", origin)) as gateway:
        for model in ("gpt-4o", "gpt-3.5-turbo-instruct"):
            answer = await gateway.openai.completions.create(model=f"up/{model}", prompt="a")
            assert answer.choices[0].text == "hi"
        assert [received.target for received in server.received] == ["/v1/chat/completions", "/v1/completions"]
        with pytest.raises(openai.BadRequestError) as caught:
            await gateway.openai.completions.create(model="up/gpt-4o", prompt="a", suffix="z")
        assert caught.value.param == "suffix"


# --- Routes -----------------------------------------------------------------------------------------------------------


async def test_failover_of_embeddings(tmp_path: Path) -> None:
    """The first deployment fails, the second answers; the entry is the second's."""
    config = """
    [models.e]
    deployments = [{ provider = "sandbox", model = "embed?status=500" }, { provider = "sandbox", model = "embed", priority = 2 }]
    """
    async with running(tmp_path, config) as gateway:
        status, headers, _ = await posted(gateway, "/v1/embeddings", model="e", input="hi")
        assert (status, headers["x-naru-attempts"], headers["x-naru-deployment"]) == (200, "2", "sandbox/embed")
        (entry,) = await gateway.entries()
        assert (entry.attempts, entry.outcome) == (2, "completed")


async def test_deployments_of_another_kind_are_passed_over(tmp_path: Path) -> None:
    """One name for text and vectors: each request goes to who can answer it, without an attempt at the other."""
    config = """
    [models.both]
    deployments = [{ provider = "sandbox", model = "echo" }, { provider = "sandbox", model = "embed", priority = 2 }]
    """
    async with running(tmp_path, config) as gateway:
        for path, body, expected in (
            ("/v1/embeddings", {"input": "hi"}, "sandbox/embed"),
            ("/v1/completions", {"prompt": "hi"}, "sandbox/echo"),
        ):
            status, headers, _ = await posted(gateway, path, model="both", **body)
            assert (status, headers["x-naru-attempts"], headers["x-naru-deployment"]) == (200, "1", expected)


async def test_naming_the_chat_endpoint_leaves_the_others(tmp_path: Path) -> None:
    """`endpoint` chooses among the ways to converse alone."""
    config = """
    [models.m]
    deployments = [{ provider = "up", model = "m", endpoint = "chat" }]
    """
    async with (
        upstream(answering(VLLM_EMBEDDINGS)) as (server, origin),
        running(tmp_path, table("vllm", origin) + config) as gateway,
    ):
        assert (await posted(gateway, "/v1/embeddings", model="m", input="hi"))[0] == 200
        await posted(gateway, "/v1/completions", model="m", prompt="hi")
        targets = [received.target for received in server.received]
        assert targets == ["/v1/embeddings", "/v1/chat/completions"]


async def test_a_limit_beyond_the_model_is_cut_and_named(tmp_path: Path) -> None:
    """A client of another protocol asks for what its own models can write: HCX-005 stops at 4,096."""
    upstream = Sandbox()
    origin = (await upstream.start()).removesuffix("/v1")
    config = f"""
    [providers.clova]
    base_url = "{origin}/v3"
    api_key = "nv-x"
    allow_private = true
    price = {{ input = 1, output = 1 }}
    [models.m]
    deployments = [{{ provider = "clova", model = "HCX-005-echo" }}]
    """
    async with running(tmp_path, config) as gateway:
        status, headers, _ = await gateway.chat(model="m", max_tokens=32_000)
        assert (status, headers["x-naru-dropped"]) == (200, "max_tokens above 4096")
        status, headers, _ = await gateway.chat(model="m", max_tokens=4_096)
        assert (status, headers.get("x-naru-dropped")) == (200, None)
    await upstream.stop()
