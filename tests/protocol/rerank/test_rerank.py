"""Rerank: both spellings in, one shape out that Cohere's and Jina's clients read, and the providers with their own."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from naru.errors import BadRequest, UpstreamAuth, UpstreamBroken, UpstreamError, UpstreamRefused
from naru.protocol.bridge import Dialects, Upstream
from naru.protocol.dialect import Envelope, Quirks
from naru.protocol.messages import Usage
from naru.protocol.rerank import RERANK, RERANK_CLOVA, RERANK_DASHSCOPE
from naru.protocol.rerank.middle import Ranked, RerankRequest, RerankResponse
from naru.protocol.tokens import estimate_tokens_bytes

PLAIN = Quirks()
LAW = settings(max_examples=60, deadline=None)
DOCUMENTS = ["zero", "one", "two"]


def body(**fields: Any) -> bytes:
    given = {"model": "m", "query": "q", "documents": DOCUMENTS, **fields}
    return json.dumps({name: value for name, value in given.items() if value is not ...}, ensure_ascii=False).encode()


def read(**fields: Any) -> Envelope:
    return RERANK.read(body(**fields))


def relayed(told: Any, quirks: Quirks = PLAIN, **fields: Any) -> Any:
    data = told if isinstance(told, bytes) else json.dumps(told).encode()
    return json.loads(RERANK.relay_whole(data, read(**fields), quirks).body)


def result(index: int, score: float, **fields: Any) -> dict[str, Any]:
    return {"index": index, "relevance_score": score, **fields}


# --- Reading ----------------------------------------------------------------------------------------------------------


def test_other_spellings_become_the_usual_ones() -> None:
    """TEI's texts and return_text, Voyage's top_k."""
    envelope = RERANK.read(b'{"model":"m","query":"q","texts":["a","b"],"top_k":1,"return_text":true}')
    request = RERANK.decode_request(envelope)
    assert (request.documents, request.top_n, request.return_documents) == (("a", "b"), 1, True)
    forwarded = json.loads(RERANK.forward(envelope, "up", PLAIN).body)
    assert forwarded == {"model": "up", "query": "q", "documents": ["a", "b"], "top_n": 1, "return_documents": True}


def test_documents_as_texts_or_objects() -> None:
    envelope = read(documents=["a", {"text": "b", "id": 7}])
    assert RERANK.decode_request(envelope).documents == ("a", "b")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"documents": []}, "documents"),
        ({"documents": "a"}, "documents"),
        ({"documents": ...}, "documents"),
        ({"query": ...}, "query"),
        ({"query": 5}, "query"),
        ({"top_n": 0}, "top_n"),
        ({"top_n": "2"}, "top_n"),
        ({"return_documents": 1}, "return_documents"),
        ({"stream": True}, "stream"),
        ({"model": None}, "model"),
        ({"base_url": "http://evil"}, "base_url"),
    ],
)
def test_bad_fields_are_refused_by_name(fields: Any, param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        read(**fields)
    assert caught.value.param == param


def test_the_query_is_read_once_with_each_document() -> None:
    """So an estimate counts it as often."""
    one, two = read(query="x" * 400, documents=["a"]), read(query="x" * 400, documents=["a", "a"])
    assert estimate_tokens_bytes(one.input_bytes) > 100
    assert two.input_bytes - one.input_bytes > 400


@LAW
@given(st.binary(max_size=200))
def test_any_body_is_read_or_refused(data: bytes) -> None:
    for given_body in (data, b'{"model":"m","query":' + data + b',"documents":' + data + b"}"):
        try:
            RERANK.decode_request(RERANK.read(given_body))
        except BadRequest:
            pass


# --- Passing on -------------------------------------------------------------------------------------------------------


def test_only_the_model_changes() -> None:
    given_body = b'{"model":"m","query":"\\ud55c","documents":[{"image":"http://a"},"b"],"rank_fields":["x"],"top_n":1}'
    forwarded = RERANK.forward(RERANK.read(given_body), "up", PLAIN)
    assert forwarded.body == given_body.replace(b'"model":"m"', b'"model":"up"')


def test_more_documents_than_the_provider_takes_are_refused() -> None:
    with pytest.raises(BadRequest, match="at most 2 documents in one request; there are 3") as caught:
        RERANK.forward(read(), "up", Quirks(max_inputs=2))
    assert (caught.value.code, caught.value.param) == ("too_many_inputs", "documents")


COHERE = {"id": "c1", "results": [result(2, 0.9), result(0, 0.1)], "meta": {"billed_units": {"search_units": 1}}}
JINA = {
    "model": "jina",
    "usage": {"total_tokens": 15},
    "results": [result(2, 0.9, document={"text": "two"}), result(0, 0.1, document={"text": "zero"})],
}
VLLM = {**JINA, "id": "rerank-1", "usage": {"total_tokens": 15, "prompt_tokens": 15}}
LLAMACPP = {
    "object": "list",
    "results": [result(0, 0.1), result(2, 0.9)],
    "usage": {"prompt_tokens": 15, "total_tokens": 15},
}
VOYAGE = {"object": "list", "data": [result(2, 0.9), result(0, 0.1)], "usage": {"total_tokens": 15}}
TEI = [{"index": 2, "score": 0.9, "text": "two"}, {"index": 0, "score": 0.1}]
SGLANG = [{"index": 0, "score": 0.1, "document": "zero"}, {"index": 2, "score": 0.9, "document": "two"}]


@pytest.mark.parametrize("told", [COHERE, JINA, VLLM, LLAMACPP, VOYAGE, TEI, SGLANG])
def test_every_shape_becomes_the_one_that_both_clients_read(told: Any) -> None:
    """Falling scores; Jina's `usage.total_tokens`, Cohere's `meta.billed_units`; documents as objects."""
    found = relayed(told)
    assert [(each["index"], each["relevance_score"]) for each in found["results"]] == [(2, 0.9), (0, 0.1)]
    assert found["usage"]["total_tokens"] > 0
    assert found["meta"]["billed_units"]
    assert isinstance(found["model"], str)
    assert all(set(each.get("document", {"text": ""})) == {"text"} for each in found["results"])
    if isinstance(told, dict):
        kept = told.keys() - {"results", "data", "usage"}
        assert {name: found[name] for name in kept} == {name: told[name] for name in kept}


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (JINA, 15),
        (VLLM, 15),
        ({**COHERE, "meta": {"tokens": {"input_tokens": 21}}}, 21),
        ({**COHERE, "meta": {"billed_units": {"input_tokens": 22}}}, 22),
        (COHERE, None),
        (TEI, None),
        ({**JINA, "usage": {"total_tokens": 0}}, None),
    ],
)
def test_tokens_as_reported_or_estimated(told: Any, expected: int | None) -> None:
    envelope = read()
    whole = RERANK.relay_whole(json.dumps(told).encode(), envelope, PLAIN)
    assert whole.usage == (None if expected is None else Usage(input=expected))
    usage = json.loads(whole.body)["usage"]
    assert usage["total_tokens"] == (expected or estimate_tokens_bytes(envelope.input_bytes))
    assert usage.get("naru") == (None if expected else {"estimated": True})


def test_documents_come_back_when_asked_for() -> None:
    """In the caller's own form, where the provider left them out; not otherwise."""
    documents = [{"text": "zero", "id": 1}, "one", "two"]
    found = relayed(COHERE, documents=documents, return_documents=True)
    assert [each["document"] for each in found["results"]] == [{"text": "two"}, {"text": "zero", "id": 1}]
    assert "document" not in relayed(COHERE)["results"][0]


def test_never_more_than_top_n() -> None:
    """llama.cpp gives all of them, in the order of the request."""
    assert [each["index"] for each in relayed(LLAMACPP, top_n=1)["results"]] == [2]


def test_every_digit_of_a_score_is_kept() -> None:
    told = b'{"results":[{"index":0,"relevance_score":0.12345678901234567890}],"usage":{"total_tokens":1}}'
    assert b'"relevance_score":0.12345678901234567890' in RERANK.relay_whole(told, read(), PLAIN).body


@pytest.mark.parametrize(
    "told",
    [
        b"",
        b"<html>",
        b"5",
        b"{}",
        b'{"results":{}}',
        b'{"results":[1]}',
        b'{"results":[{}]}',
        b'{"results":[{"index":"0","relevance_score":1}]}',
        b'{"results":[{"index":0,"relevance_score":null}]}',
        b'{"results":[{"index":3,"relevance_score":1}]}',
        b'{"results":[{"index":-1,"relevance_score":1}]}',
    ],
)
def test_garbage_is_an_upstream_error(told: bytes) -> None:
    """A place that no document has is garbage too."""
    with pytest.raises(UpstreamBroken):
        relayed(told)


def test_an_error_in_an_answer_of_200() -> None:
    with pytest.raises(UpstreamRefused, match="no such model"):
        relayed({"code": "ModelNotFound", "message": "no such model", "request_id": "r"})


# --- The typed middle -------------------------------------------------------------------------------------------------

short = st.text(max_size=6)
requests = st.builds(
    RerankRequest,
    model=st.just("m"),
    query=short,
    documents=st.lists(short, min_size=1, max_size=4).map(tuple),
    top_n=st.none() | st.integers(1, 9),
    return_documents=st.booleans(),
    instruct=st.none() | st.text(min_size=1, max_size=5),
    extra=st.just({}) | st.just({"max_chunks_per_doc": msgspec.Raw(b"3")}),
    dialect=st.just("rerank"),
)


@LAW
@given(requests)
def test_a_request_survives_its_own_dialect(request: RerankRequest) -> None:
    forwarded = RERANK.encode_request(request, PLAIN)
    assert forwarded.dropped == ()
    assert RERANK.decode_request(RERANK.read(forwarded.body)) == request


@LAW
@given(st.permutations([0, 1, 2]), st.booleans())
def test_a_response_survives_its_own_dialect(order: list[int], has_documents: bool) -> None:
    ranked = tuple(
        Ranked(place, 1.0 - rank / 4, DOCUMENTS[place] if has_documents else None) for rank, place in enumerate(order)
    )
    response = RerankResponse(results=ranked, id="i", model="up", usage=Usage(input=5), dialect="rerank")
    assert RERANK.decode_response(RERANK.encode_response(response, read()), PLAIN) == response


# --- DashScope and CLOVA ----------------------------------------------------------------------------------------------

DIALECTS = Dialects({"/v1/rerank": RERANK}, (), (RERANK, RERANK_DASHSCOPE, RERANK_CLOVA))


def test_dashscopes_envelope() -> None:
    bridge = DIALECTS.between(RERANK, RERANK_DASHSCOPE)
    forwarded = bridge.request(read(top_n=2, return_documents=True, rank=1), Upstream("gte-rerank-v2", PLAIN), False)
    assert json.loads(forwarded.body) == {
        "model": "gte-rerank-v2",
        "input": {"query": "q", "documents": DOCUMENTS},
        "parameters": {"return_documents": True, "top_n": 2},
    }
    assert forwarded.dropped == ("rank",)
    told = {
        "output": {"results": [result(1, 0.5, document={"text": "one"}), result(0, 0.75, document={"text": "zero"})]},
        "usage": {"total_tokens": 79},
        "request_id": "r-1",
    }
    whole = bridge.whole(json.dumps(told).encode(), read(), PLAIN)
    found = json.loads(whole.body)
    assert [each["index"] for each in found["results"]] == [0, 1]
    assert (found["id"], found["model"], found["usage"]["total_tokens"]) == ("r-1", "m", 79)
    assert whole.usage == Usage(input=79)


def test_dashscopes_errors() -> None:
    told = b'{"code":"InvalidApiKey","message":"Invalid API-key provided.","request_id":"r"}'
    assert isinstance(RERANK_DASHSCOPE.decode_error(401, told, PLAIN), UpstreamAuth)
    with pytest.raises(UpstreamAuth):
        RERANK_DASHSCOPE.decode_response(told, PLAIN)


def test_clova_cites() -> None:
    """The cited documents, in that order, each with a score of 1; what it writes and how much is kept."""
    bridge = DIALECTS.between(RERANK, RERANK_CLOVA)
    forwarded = bridge.request(read(), Upstream("reranker", PLAIN), False)
    assert json.loads(forwarded.body) == {
        "query": "q",
        "documents": [{"id": str(place), "doc": text} for place, text in enumerate(DOCUMENTS)],
    }
    told = {
        "status": {"code": "20000", "message": "OK"},
        "result": {
            "result": "두 번째입니다.",
            "citedDocuments": [{"id": "2", "doc": "two"}, {"id": "0", "doc": "zero"}],
            "suggestedQueries": [],
            "usage": {"promptTokens": 30, "completionTokens": 12, "totalTokens": 42},
        },
    }
    whole = bridge.whole(json.dumps(told).encode(), read(return_documents=True), PLAIN)
    found = json.loads(whole.body)
    assert found["results"] == [result(2, 1.0, document={"text": "two"}), result(0, 1.0, document={"text": "zero"})]
    assert found["answer"] == "두 번째입니다."
    assert found["usage"] == {"prompt_tokens": 30, "completion_tokens": 12, "total_tokens": 42}
    assert found["meta"]["billed_units"] == {"input_tokens": 30, "output_tokens": 12}
    assert whole.usage == Usage(input=30, output=12)
    told["result"]["citedDocuments"][0]["id"] = "9"  # type: ignore[index]
    with pytest.raises(UpstreamBroken):
        bridge.whole(json.dumps(told).encode(), read(), PLAIN)


def test_clova_takes_text_alone_and_no_instruction() -> None:
    bridge = DIALECTS.between(RERANK, RERANK_CLOVA)
    upstream = Upstream("reranker", PLAIN)
    for fields, param in (
        ({"instruct": "be strict"}, "instruct"),
        ({"documents": [{"image": "http://a"}]}, "documents"),
        ({"query": {"image": "http://a"}}, "query"),
    ):
        with pytest.raises(BadRequest) as caught:
            bridge.request(read(**fields), upstream, False)
        assert caught.value.param == param


@LAW
@given(st.binary(max_size=120))
def test_any_answer_is_read_or_an_upstream_error(data: bytes) -> None:
    for dialect in (RERANK, RERANK_DASHSCOPE, RERANK_CLOVA):
        for given_body in (
            data,
            b'{"results":' + data + b"}",
            b'{"output":' + data + b"}",
            b'{"result":' + data + b"}",
        ):
            try:
                dialect.decode_response(given_body, PLAIN)
            except UpstreamError:
                pass
            assert isinstance(dialect.decode_error(500, given_body, PLAIN), UpstreamError)
