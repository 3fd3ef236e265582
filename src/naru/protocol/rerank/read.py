"""A caller's rerank body to an Envelope, and to the typed request. Spellings of others become Cohere's and Jina's."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Raw, Struct

from naru.errors import BadRequest
from naru.protocol.body import MODEL_RULE, invalid, read_fields, refused
from naru.protocol.dialect import Envelope
from naru.protocol.plain import cannot
from naru.protocol.rerank.middle import RerankRequest
from naru.protocol.wire import (
    BAD_JSON,
    TRUE,
    Fields,
    decode_fields,
    decode_list,
    encode,
    is_list,
    is_null,
    is_object,
    text_of,
)

NAME = "rerank"

#: Text Embeddings Inference's and Voyage's names, taken where the usual one is absent.
_SPELLINGS = (("texts", "documents"), ("return_text", "return_documents"), ("top_k", "top_n"))


class _Probe(Struct, gc=False):
    model: Annotated[str, Meta(min_length=1, max_length=512)]
    query: Raw
    documents: Raw
    top_n: Annotated[int, Meta(ge=1)] | None = None
    return_documents: bool | None = None
    instruct: str | None = None
    stream: Literal[False] | None = None


_decode_probe = msgspec.json.Decoder(_Probe).decode

_RULES = {
    "model": MODEL_RULE,
    "query": "`query` must be a text.",
    "documents": "`documents` must be a list with at least one document: a text, or an object with `text`.",
    "top_n": "`top_n` must be a whole number of at least 1.",
    "return_documents": "`return_documents` must be true or false.",
    "instruct": "`instruct` must be a string.",
    "stream": "Rankings come in one piece. Leave `stream` out.",
}
_TYPED = frozenset({"model", "query", "documents", "top_n", "return_documents", "instruct", "stream"})


def read(body: bytes) -> Envelope:
    """Raises BadRequest, with `param` set to the field at fault."""
    fields = read_fields(body)
    is_spelled = False
    for theirs, usual in _SPELLINGS:
        if theirs in fields and usual not in fields:
            fields[usual] = fields.pop(theirs)
            is_spelled = True
    try:
        probe = _decode_probe(encode(fields) if is_spelled else body)
        documents = decode_list(probe.documents) if is_list(probe.documents) else []
    except BAD_JSON as error:
        raise refused(error, _RULES) from None
    if not documents:
        raise invalid("documents", _RULES)
    if not is_object(probe.query) and text_of(probe.query) is None:
        raise invalid("query", _RULES)
    # A ranking model reads the query once with each document, and that is how tokens are counted.
    size = len(probe.query) * len(documents) + len(probe.documents)
    return Envelope(fields, probe.model, False, False, None, 1, size)


def decode_request(envelope: Envelope) -> RerankRequest:
    """Raises BadRequest for what is not text: pictures are only passed on to who speaks the same dialect."""
    fields = envelope.fields
    query = _text_in(fields["query"])
    if query is None:
        raise cannot("query", "This model's provider takes a text as `query`.")
    return RerankRequest(
        model=envelope.model,
        query=query,
        documents=tuple(_document(raw, place) for place, raw in enumerate(decode_list(fields["documents"]))),
        top_n=top_n_of(fields),
        return_documents=wants_documents(fields),
        instruct=text_of(fields.get("instruct")),
        extra={name: raw for name, raw in fields.items() if name not in _TYPED and not is_null(raw)},
        dialect=NAME,
    )


def top_n_of(fields: Fields) -> int | None:
    raw = fields.get("top_n")
    return None if raw is None or is_null(raw) else int(bytes(raw))


def wants_documents(fields: Fields) -> bool:
    return fields.get("return_documents") == TRUE


def _document(raw: Raw, place: int) -> str:
    text = _text_in(raw)
    if text is None:
        raise BadRequest(
            f"Document {place} is no text and has no `text`, and this model's provider ranks texts alone.",
            code="unsupported_content",
            param="documents",
        )
    return text


def _text_in(raw: Raw) -> str | None:
    """A text, or the `text` of an object; other keys of it are the caller's own."""
    return text_of(decode_fields(raw).get("text")) if is_object(raw) else text_of(raw)
