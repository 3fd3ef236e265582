"""Embeddings: what is read, what is sent on, the two forms of a vector, and the providers with a shape of their own."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from naru.errors import BadRequest, UpstreamAuth, UpstreamBroken, UpstreamError, UpstreamRefused
from naru.protocol.bridge import Dialects, Upstream
from naru.protocol.dialect import Envelope, Quirks
from naru.protocol.embeddings import EMBEDDINGS, EMBEDDINGS_CLOVA, EMBEDDINGS_GEMINI
from naru.protocol.embeddings.middle import EmbeddingRequest, EmbeddingResponse
from naru.protocol.embeddings.vectors import from_base64, to_base64
from naru.protocol.messages import Usage
from naru.protocol.tokens import estimate_tokens_bytes

PLAIN = Quirks()
LAW = settings(max_examples=60, deadline=None)
floats32 = st.floats(width=32, allow_nan=False, allow_infinity=False)
vectors = st.lists(floats32, min_size=1, max_size=8).map(tuple)


def body(**fields: Any) -> bytes:
    return json.dumps({"model": "m", "input": "hi", **fields}, ensure_ascii=False).encode()


def read(**fields: Any) -> Envelope:
    return EMBEDDINGS.read(body(**fields))


def answer(*data: Any, **fields: Any) -> bytes:
    items = [{"object": "embedding", "index": place, "embedding": each} for place, each in enumerate(data)]
    usage = {"prompt_tokens": 3, "total_tokens": 3}
    return json.dumps({"object": "list", "data": items, "model": "up", "usage": usage, **fields}).encode()


def packed(*numbers: float) -> str:
    return base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()


# --- Reading ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "inputs"),
    [
        ("안녕", ("안녕",)),
        (["a", "b"], ("a", "b")),
        ([1, 2, 3], ((1, 2, 3),)),
        ([[1, 2], [3]], ((1, 2), (3,))),
    ],
)
def test_the_four_forms_of_input(given: Any, inputs: Any) -> None:
    assert EMBEDDINGS.decode_request(read(input=given)).inputs == inputs


def test_space_inside_the_list_changes_nothing() -> None:
    envelope = EMBEDDINGS.read(b'{"model":"m","input":[' + b" \n" * 40 + b'"a", "b"]}')
    assert EMBEDDINGS.decode_request(envelope).inputs == ("a", "b")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": ["a", ""]}, "input"),
        ({"input": [[1], []]}, "input"),
        ({"input": [1, "a"]}, "input"),
        ({"input": {"text": "a"}}, "input"),
        ({"input": None}, "input"),
        ({"model": ""}, "model"),
        ({"encoding_format": "int8"}, "encoding_format"),
        ({"dimensions": 0}, "dimensions"),
        ({"dimensions": "64"}, "dimensions"),
        ({"stream": True}, "stream"),
        ({"api_base": "http://evil"}, "api_base"),
    ],
)
def test_bad_fields_are_refused_by_name(fields: Any, param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        read(**fields)
    assert caught.value.param == param


def test_a_field_given_twice_is_refused() -> None:
    with pytest.raises(BadRequest, match="more than once"):
        EMBEDDINGS.read(b'{"model":"m","input":"a","model":"n"}')


def test_token_ids_are_counted_and_texts_estimated() -> None:
    """An estimate from ids is exact, one from text goes by bytes; nothing is generated."""
    ids = read(input=[[1, 2, 3], [4, 5]])
    assert estimate_tokens_bytes(ids.input_bytes) == 5
    text = read(input="x" * 400)
    assert estimate_tokens_bytes(text.input_bytes) == 101
    assert (text.max_output_tokens, text.is_stream) == (0, False)


@LAW
@given(st.binary(max_size=200))
def test_any_body_is_read_or_refused(data: bytes) -> None:
    for given_body in (data, b'{"model":"m","input":' + data + b"}"):
        try:
            EMBEDDINGS.decode_request(EMBEDDINGS.read(given_body))
        except BadRequest:
            pass


# --- Passing on -------------------------------------------------------------------------------------------------------


def test_only_the_model_changes() -> None:
    given_body = b'{"model":"m","input":["a\\ud55c"],"dimensions":64,"x":1.50,"user":"u"}'
    forwarded = EMBEDDINGS.forward(EMBEDDINGS.read(given_body), "up", PLAIN)
    assert forwarded.body == given_body.replace(b'"model":"m"', b'"model":"up"')


def test_quirks_apply() -> None:
    """Fields dropped by name and renamed, base64 not asked of who has none."""
    quirks = Quirks(drops=frozenset({"user"}), renames=(("dimensions", "output_dimension"),), has_base64=False)
    forwarded = EMBEDDINGS.forward(read(user="u", dimensions=8, encoding_format="base64"), "up", quirks)
    assert json.loads(forwarded.body) == {
        "model": "up",
        "input": "hi",
        "encoding_format": "float",
        "output_dimension": 8,
    }
    assert forwarded.dropped == ("user",)


def test_more_inputs_than_the_provider_takes_are_refused() -> None:
    quirks = Quirks(max_inputs=10)
    EMBEDDINGS.forward(read(input=["a"] * 10), "up", quirks)
    with pytest.raises(BadRequest, match="at most 10 inputs in one request; there are 11") as caught:
        EMBEDDINGS.forward(read(input=["a"] * 11), "up", quirks)
    assert (caught.value.code, caught.value.param) == ("too_many_inputs", "input")


@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_an_answer_in_the_right_form_is_the_same_object(encoding: str) -> None:
    given_body = answer([0.1, 2], [3, 4]) if encoding == "float" else answer(packed(0.1, 2), packed(3, 4))
    whole = EMBEDDINGS.relay_whole(given_body, read(encoding_format=encoding), PLAIN)
    assert whole.body is given_body
    assert whole.usage == Usage(input=3)


def test_an_answer_in_the_other_form_is_converted() -> None:
    """And every other field stays."""
    to_text = EMBEDDINGS.relay_whole(answer([0.5, -2.0], x=1), read(encoding_format="base64"), PLAIN)
    found = json.loads(to_text.body)
    assert found["data"] == [{"object": "embedding", "index": 0, "embedding": packed(0.5, -2.0)}]
    assert (found["x"], found["model"]) == (1, "up")
    for asked in ({"encoding_format": "float"}, {}):
        back = EMBEDDINGS.relay_whole(answer(packed(0.5, -2.0)), read(**asked), PLAIN)
        assert json.loads(back.body)["data"][0]["embedding"] == [0.5, -2.0]


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"prompt_tokens": 8, "total_tokens": 8}, 8),
        ({"total_tokens": 9}, 9),
        ({"prompt_tokens": 0, "total_tokens": 7}, 7),
        ({"prompt_tokens": 0, "total_tokens": 0}, None),
        ({"prompt_tokens": -4}, None),
        ({"prompt_tokens": 10**12}, None),
        ({"prompt_tokens": "8"}, None),
        (None, None),
    ],
)
def test_usage_is_believed_or_estimated(usage: Any, expected: int | None) -> None:
    """What cannot be right is none: then the caller gets the estimate that the bill is made from, and is told so."""
    envelope = read(input="x" * 400)
    whole = EMBEDDINGS.relay_whole(answer([1.0], usage=usage), envelope, PLAIN)
    assert whole.usage == (None if expected is None else Usage(input=expected))
    if expected is None:
        tokens = estimate_tokens_bytes(envelope.input_bytes)
        told = {"prompt_tokens": tokens, "total_tokens": tokens, "naru": {"estimated": True}}
        assert json.loads(whole.body)["usage"] == told


@pytest.mark.parametrize(
    "given_body",
    [
        b"",
        b"<html>",
        b"[]",
        b"{}",
        b'{"data":{}}',
        b'{"data":[1]}',
        b'{"data":[{}]}',
        answer(None),
        answer(5),
        answer({"a": 1}),
        b'{"data":[{"embedding":[1]}],"x":"\xff"}',
    ],
)
def test_garbage_is_an_upstream_error(given_body: bytes) -> None:
    for encoding in ("float", "base64"):
        with pytest.raises(UpstreamError):
            EMBEDDINGS.relay_whole(given_body, read(encoding_format=encoding), PLAIN)


@pytest.mark.parametrize("vector", ["no base64!", packed(1.0)[:-4], packed(float("nan")), ["a"]])
def test_a_broken_vector_shows_when_its_form_is_changed(vector: Any) -> None:
    other = "float" if isinstance(vector, str) else "base64"
    with pytest.raises(UpstreamBroken, match="a vector"):
        EMBEDDINGS.relay_whole(answer(vector), read(encoding_format=other), PLAIN)


@pytest.mark.parametrize(
    "given_body",
    [
        b'{"error":{"message":"no such model","type":"invalid_request_error","param":null,"code":"model_not_found"}}',
        b'{"object":"error","message":"boom","type":"BadRequestError","param":null,"code":400}',
        b'{"code":"InvalidParameter","message":"bad","request_id":"r"}',
    ],
)
def test_an_error_in_an_answer_of_200(given_body: bytes) -> None:
    with pytest.raises(UpstreamError) as caught:
        EMBEDDINGS.relay_whole(given_body, read(), PLAIN)
    assert not isinstance(caught.value, UpstreamBroken)


# --- Vectors ----------------------------------------------------------------------------------------------------------


@LAW
@given(vectors)
def test_base64_of_32_bit_floats_there_and_back(vector: tuple[float, ...]) -> None:
    """As the official client decodes it: little-endian float32."""
    text = to_base64(vector)
    assert struct.unpack(f"<{len(vector)}f", base64.b64decode(text)) == vector
    assert from_base64(text) == vector


@LAW
@given(st.text(max_size=30))
def test_any_text_is_a_vector_or_an_upstream_error(text: str) -> None:
    try:
        from_base64(text)
    except UpstreamError:
        pass


# --- The typed middle -------------------------------------------------------------------------------------------------

requests = st.builds(
    EmbeddingRequest,
    model=st.just("m"),
    inputs=st.one_of(
        st.lists(st.text(min_size=1, max_size=9), min_size=1, max_size=4).map(tuple),
        st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=3).map(tuple), min_size=1, max_size=3).map(tuple),
    ),
    dimensions=st.none() | st.integers(1, 9),
    task=st.none() | st.just("RETRIEVAL_QUERY"),
    user=st.none() | st.text(max_size=5),
    extra=st.just({}) | st.just({"truncate": msgspec.Raw(b'"END"')}),
    dialect=st.just("embeddings"),
)


@LAW
@given(requests)
def test_a_request_survives_its_own_dialect(request: EmbeddingRequest) -> None:
    forwarded = EMBEDDINGS.encode_request(request, PLAIN)
    assert forwarded.dropped == ()
    assert EMBEDDINGS.decode_request(EMBEDDINGS.read(forwarded.body)) == request


@LAW
@given(st.lists(vectors, min_size=1, max_size=3).map(tuple), st.sampled_from(["float", "base64"]))
def test_a_response_survives_its_own_dialect(found: Any, encoding: str) -> None:
    response = EmbeddingResponse(vectors=found, model="up", usage=Usage(input=5), dialect="embeddings")
    told = EMBEDDINGS.encode_response(response, read(input=["a"] * len(found), encoding_format=encoding))
    assert EMBEDDINGS.decode_response(told, PLAIN) == response


def test_vectors_go_by_their_index() -> None:
    items = [{"index": 1, "embedding": [1]}, {"index": 0, "embedding": [0]}]
    response = EMBEDDINGS.decode_response(json.dumps({"data": items}).encode(), PLAIN)
    assert response.vectors == ((0.0,), (1.0,))
    items[0]["index"] = 5
    with pytest.raises(UpstreamBroken, match="numbered"):
        EMBEDDINGS.decode_response(json.dumps({"data": items}).encode(), PLAIN)


# --- Gemini and CLOVA -------------------------------------------------------------------------------------------------

DIALECTS = Dialects({"/v1/embeddings": EMBEDDINGS}, (), (EMBEDDINGS, EMBEDDINGS_GEMINI, EMBEDDINGS_CLOVA))


def towards_gemini(envelope: Envelope, quirks: Quirks = PLAIN) -> Any:
    bridge = DIALECTS.between(EMBEDDINGS, EMBEDDINGS_GEMINI)
    return bridge.request(envelope, Upstream("gemini-embedding-001", quirks), False)


def test_gemini_gets_one_request_for_each_text() -> None:
    """Each names the model again and has the options (providers.md A6.6); what Gemini has no word for is named."""
    forwarded = towards_gemini(read(input=["a", "b"], dimensions=768, task_type="RETRIEVAL_QUERY", user="u", x=1))
    options = {"outputDimensionality": 768, "taskType": "RETRIEVAL_QUERY"}
    assert json.loads(forwarded.body) == {
        "requests": [
            {"model": "models/gemini-embedding-001", "content": {"parts": [{"text": text}]}, **options}
            for text in ("a", "b")
        ]
    }
    assert forwarded.dropped == ("user", "x")


def test_gemini_refuses_ids_and_too_many_texts() -> None:
    with pytest.raises(BadRequest, match="not token ids") as caught:
        towards_gemini(read(input=[1, 2]))
    assert caught.value.param == "input"
    with pytest.raises(BadRequest, match="at most 2"):
        towards_gemini(read(input=["a", "b", "c"]), Quirks(max_inputs=2))


@pytest.mark.parametrize("usage", [None, {"promptTokenCount": 7}])
def test_geminis_answer_in_openais_shape(usage: Any) -> None:
    """In the form asked for; older models report no usage, so that the count is an estimate."""
    envelope = read(input=["a", "b"], encoding_format="base64")
    bridge = DIALECTS.between(EMBEDDINGS, EMBEDDINGS_GEMINI)
    told = {"embeddings": [{"values": [0.5]}, {"values": [1.0]}], **({"usageMetadata": usage} if usage else {})}
    whole = bridge.whole(json.dumps(told).encode(), envelope, PLAIN)
    found = json.loads(whole.body)
    assert [each["embedding"] for each in found["data"]] == [packed(0.5), packed(1.0)]
    assert [each["index"] for each in found["data"]] == [0, 1]
    assert found["model"] == "m"
    assert whole.usage == (Usage(input=7) if usage else None)
    assert ("naru" in found["usage"]) is (usage is None)


def test_a_vector_too_few_is_an_upstream_error() -> None:
    bridge = DIALECTS.between(EMBEDDINGS, EMBEDDINGS_GEMINI)
    with pytest.raises(UpstreamBroken, match="2 inputs with 1 vectors"):
        bridge.whole(b'{"embeddings":[{"values":[1]}]}', read(input=["a", "b"]), PLAIN)


def test_geminis_errors() -> None:
    bad_key = (
        b'{"error":{"code":400,"message":"API key not valid.","status":"INVALID_ARGUMENT",'
        b'"details":[{"@type":"t","reason":"API_KEY_INVALID"}]}}'
    )
    assert isinstance(EMBEDDINGS_GEMINI.decode_error(400, bad_key, PLAIN), UpstreamAuth)
    with pytest.raises(UpstreamAuth):
        EMBEDDINGS_GEMINI.decode_response(bad_key, PLAIN)


def test_clova_takes_one_text_of_its_own_length() -> None:
    bridge = DIALECTS.between(EMBEDDINGS, EMBEDDINGS_CLOVA)
    upstream = Upstream("bge-m3", PLAIN)
    forwarded = bridge.request(read(input="안녕", dimensions=1024, user="u"), upstream, False)
    assert json.loads(forwarded.body) == {"text": "안녕"}
    assert forwarded.dropped == ("user",)
    for fields, param in (
        ({"input": ["a", "b"]}, "input"),
        ({"dimensions": 64}, "dimensions"),
        ({"input": [1]}, "input"),
    ):
        with pytest.raises(BadRequest) as caught:
            bridge.request(read(**fields), upstream, False)
        assert caught.value.param == param


def test_clovas_answer_in_openais_shape() -> None:
    bridge = DIALECTS.between(EMBEDDINGS, EMBEDDINGS_CLOVA)
    told = b'{"status":{"code":"20000","message":"OK"},"result":{"embedding":[0.25,0.5],"inputTokens":4}}'
    whole = bridge.whole(told, read(), PLAIN)
    found = json.loads(whole.body)
    assert (found["data"][0]["embedding"], found["usage"]["prompt_tokens"]) == ([0.25, 0.5], 4)
    assert whole.usage == Usage(input=4)


@pytest.mark.parametrize(
    ("status", "code", "kind", "meaning"),
    [
        (400, "40003", UpstreamRefused, "context_length_exceeded"),
        (429, "42901", UpstreamRefused, "rate_limit_exceeded"),
        (401, "40100", UpstreamAuth, "upstream_auth"),
    ],
)
def test_clovas_errors(status: int, code: str, kind: type[UpstreamError], meaning: str) -> None:
    """The same from a failing status and from an answer of 200."""
    told = json.dumps({"status": {"code": code, "message": "no"}, "result": None}).encode()
    error = EMBEDDINGS_CLOVA.decode_error(status, told, PLAIN)
    assert (type(error), error.code) == (kind, meaning)
    with pytest.raises(kind) as caught:
        EMBEDDINGS_CLOVA.decode_response(told, PLAIN)
    assert caught.value.code == meaning


@LAW
@given(st.binary(max_size=120))
def test_any_answer_is_read_or_an_upstream_error(data: bytes) -> None:
    for dialect in (EMBEDDINGS, EMBEDDINGS_GEMINI, EMBEDDINGS_CLOVA):
        for given_body in (
            data,
            b'{"data":' + data + b"}",
            b'{"embeddings":' + data + b"}",
            b'{"result":' + data + b"}",
        ):
            try:
                dialect.decode_response(given_body, PLAIN)
            except UpstreamError:
                pass
            assert isinstance(dialect.decode_error(500, given_body, PLAIN), UpstreamError)


def test_embeddings_never_stream() -> None:
    for upstream in (EMBEDDINGS, EMBEDDINGS_GEMINI):
        with pytest.raises(BadRequest, match="one piece"):
            DIALECTS.between(EMBEDDINGS, upstream).stream(read(), PLAIN, lambda usage: 0)
