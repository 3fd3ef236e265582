"""The common rerank: Cohere's and Jina's body, which vLLM, llama.cpp and others speak, with the variants that are met.

An answer leaves here in one shape that Cohere's and Jina's clients both read: results by falling score, at most `top_n`,
`usage.total_tokens` and `meta.billed_units`. A bare list (TEI, SGLang), `data` (Voyage), `score` and documents as plain
texts are understood. What else an answer holds is kept.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw

from naru.errors import UpstreamBroken
from naru.protocol.dialect import Envelope, Forwarded, Quirks, WholeAnswer
from naru.protocol.messages import Usage
from naru.protocol.openai_chat.forward import drop_and_rename
from naru.protocol.plain import answer_fields, check_count, no_answer, usage_fields, usage_of
from naru.protocol.rerank.middle import Ranked, RerankRequest, RerankResponse
from naru.protocol.rerank.read import NAME, top_n_of, wants_documents
from naru.protocol.wire import (
    BAD_JSON,
    Fields,
    decode_fields,
    decode_list,
    decode_objects,
    encode,
    is_list,
    is_null,
    is_object,
    raw_of,
    text_of,
    unreadable,
)

_decode_index = msgspec.json.Decoder(int).decode
_decode_score = msgspec.json.Decoder(float).decode
_KNOWN = frozenset({"id", "model", "results", "data", "usage", "meta", "object"})


def forward(envelope: Envelope, model: str, quirks: Quirks) -> Forwarded:
    """The caller's own body. Raises BadRequest for more documents than the upstream takes."""
    fields: dict[str, Any] = envelope.fields.copy()
    check_count(len(decode_list(envelope.fields["documents"])), quirks, "documents", "documents")
    fields["model"] = model
    fields.pop("stream", None)
    dropped = drop_and_rename(fields, quirks)
    return Forwarded(encode(fields), tuple(dropped))


def relay_whole(body: bytes, envelope: Envelope, quirks: Quirks) -> WholeAnswer:
    """Raises UpstreamError for garbage and for an error in an answer of 200."""
    fields, results = _read(body, quirks)
    usage = _usage_of(fields)
    return WholeAnswer(_told(fields, results, usage, envelope), usage, 0)


def encode_request(request: RerankRequest, quirks: Quirks) -> Forwarded:
    check_count(len(request.documents), quirks, "documents", "documents")
    fields: dict[str, Any] = {"model": request.model, "query": request.query, "documents": request.documents}
    options = {
        "top_n": request.top_n,
        "return_documents": request.return_documents or None,
        "instruct": request.instruct,
    }
    fields |= {name: value for name, value in options.items() if value is not None}
    dropped = []
    if request.dialect == NAME:
        fields = {**request.extra, **fields}
    else:
        dropped += list(request.extra)
    dropped += drop_and_rename(fields, quirks)
    return Forwarded(encode(fields), tuple(dropped))


def decode_response(body: bytes, quirks: Quirks) -> RerankResponse:
    fields, results = _read(body, quirks)
    return RerankResponse(
        results=tuple(_ranked(result) for result in results),
        id=text_of(fields.get("id")) or "",
        model=text_of(fields.get("model")) or "",
        usage=_usage_of(fields),
        extra={name: raw for name, raw in fields.items() if name not in _KNOWN and not is_null(raw)},
        dialect=NAME,
    )


def encode_response(response: RerankResponse, envelope: Envelope) -> bytes:
    """Raises UpstreamBroken for a place that no document has."""
    results = []
    for each in response.results:
        fields: Fields = {"index": raw_of(each.index), "relevance_score": raw_of(each.score)}
        if each.document is not None:
            fields["document"] = raw_of({"text": each.document})
        results.append(fields)
    told: Fields = dict(response.extra) if response.dialect == NAME else {}
    for name, value in (("id", response.id), ("model", response.model), ("answer", response.answer)):
        if value:
            told[name] = raw_of(value)
    return _told(told, results, response.usage, envelope)


# --- In -----------------------------------------------------------------------------------------------------------


def _read(body: bytes, quirks: Quirks) -> tuple[Fields, list[Fields]]:
    """The answer's fields, and its results with Cohere's names."""
    if body.lstrip()[:1] == b"[":
        body = b'{"results":%b}' % body
    fields = answer_fields(body, quirks)
    raw = fields.get("results", fields.get("data"))
    if not is_list(raw):
        raise no_answer(fields, body, quirks, "it has no results")
    try:
        results = [_usual(result) for result in decode_objects(raw)]
        for result in results:
            _ranked(result)
    except BAD_JSON:
        raise unreadable("its results are not rankings") from None
    return fields, results


def _usual(result: Fields) -> Fields:
    """A result under the usual names."""
    if "relevance_score" not in result and "score" in result:
        result["relevance_score"] = result.pop("score")
    if "document" not in result and "text" in result:
        result["document"] = result.pop("text")
    if (text := text_of(result.get("document"))) is not None:
        result["document"] = raw_of({"text": text})
    return result


def _ranked(result: Fields) -> Ranked:
    document = result.get("document")
    text = text_of(decode_fields(document).get("text")) if is_object(document) else None
    absent = Raw(b"null")  # which no decoder takes for a number
    index = _decode_index(result.get("index", absent))
    return Ranked(index, _decode_score(result.get("relevance_score", absent)), text)


def _usage_of(fields: Fields) -> Usage | None:
    """Of the usage, else of Cohere's meta, which counts tokens for some models alone."""
    usage = usage_of(fields.get("usage"))
    meta = fields.get("meta")
    if usage is not None or not is_object(meta):
        return usage
    inner = decode_fields(meta)
    return usage_of(inner.get("billed_units")) or usage_of(inner.get("tokens"))


# --- Out ----------------------------------------------------------------------------------------------------------


def _told(fields: Fields, results: list[Fields], usage: Usage | None, envelope: Envelope) -> bytes:
    documents = decode_list(envelope.fields["documents"])
    ranked = sorted(results, key=lambda result: -_decode_score(result["relevance_score"]))
    ranked = ranked[: top_n_of(envelope.fields)]
    for result in ranked:
        place = _decode_index(result["index"])
        if not 0 <= place < len(documents):
            raise UpstreamBroken(f"The provider ranked a document {place} that was not sent. Try again.")
        if is_null(result.get("document")) and wants_documents(envelope.fields):
            given = documents[place]
            result["document"] = given if is_object(given) else raw_of({"text": text_of(given)})
    counts = usage_fields(usage, envelope)
    told: dict[str, Any] = {"model": raw_of(envelope.model), **fields}
    told.pop("data", None)
    told["results"] = ranked
    told["usage"] = {**counts, **_given(fields, "usage")} if usage is not None else counts
    told["meta"] = {"billed_units": _billed(counts), **_given(fields, "meta")}
    return encode(told)


def _given(fields: Fields, name: str) -> Fields:
    return decode_fields(raw) if is_object(raw := fields.get(name)) else {}


def _billed(counts: dict[str, Any]) -> dict[str, int]:
    output = {"output_tokens": counts["completion_tokens"]} if "completion_tokens" in counts else {}
    return {"input_tokens": counts["prompt_tokens"], **output}
