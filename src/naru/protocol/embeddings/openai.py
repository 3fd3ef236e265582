"""OpenAI's embeddings, as most servers speak them: body and answer passed on, or to and from the typed middle.

A long answer is never decoded number by number unless the upstream gave another form than the caller asked for.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw, Struct

from naru.errors import UpstreamBroken
from naru.protocol.dialect import Envelope, Forwarded, Quirks, WholeAnswer
from naru.protocol.embeddings.middle import EmbeddingRequest, EmbeddingResponse
from naru.protocol.embeddings.read import NAME, inputs_of, wants_base64
from naru.protocol.embeddings.vectors import floats_of, is_base64, to_base64
from naru.protocol.openai_chat.forward import drop_and_rename
from naru.protocol.plain import answer_fields, check_count, no_answer, usage_fields, usage_of
from naru.protocol.wire import BAD_JSON, Fields, decode_objects, encode, is_list, is_null, raw_of, text_of, unreadable


class _Item(Struct, gc=False):
    embedding: Raw
    index: int | None = None


_decode_items = msgspec.json.Decoder(list[_Item]).decode
_KNOWN = frozenset({"object", "data", "model", "usage", "error"})


def forward(envelope: Envelope, model: str, quirks: Quirks) -> Forwarded:
    """The caller's own body. Raises BadRequest for more inputs than the upstream takes."""
    fields: dict[str, Any] = envelope.fields.copy()
    if quirks.max_inputs is not None:
        check_count(len(inputs_of(envelope.fields["input"])), quirks, "input", "inputs")
    fields["model"] = model
    if not quirks.has_base64 and wants_base64(envelope):
        fields["encoding_format"] = "float"
    fields.pop("stream", None)
    dropped = drop_and_rename(fields, quirks)
    return Forwarded(encode(fields), tuple(dropped))


def relay_whole(body: bytes, envelope: Envelope, quirks: Quirks) -> WholeAnswer:
    """The upstream's own bytes where the vectors have the form that was asked for. Raises UpstreamError."""
    fields, items = _read(body, quirks)
    usage = usage_of(fields.get("usage"))
    wanted = wants_base64(envelope)
    if all(is_base64(item.embedding) is wanted for item in items):
        if usage is not None:
            return WholeAnswer(body, usage, 0)
    else:
        fields["data"] = raw_of([_in_form(item, wanted) for item in decode_objects(fields["data"])])
    if usage is None:
        fields["usage"] = raw_of(usage_fields(None, envelope))
    return WholeAnswer(encode(fields), usage, 0)


def _in_form(item: Fields, wants_text: bool) -> Fields:
    raw = item["embedding"]
    if is_base64(raw) is not wants_text:
        floats = floats_of(raw)
        item["embedding"] = raw_of(to_base64(floats) if wants_text else floats)
    return item


def _read(body: bytes, quirks: Quirks) -> tuple[Fields, list[_Item]]:
    fields = answer_fields(body, quirks)
    data = fields.get("data")
    if not is_list(data):
        raise no_answer(fields, body, quirks, "it has no data")
    try:
        items = _decode_items(data)
    except BAD_JSON:
        raise unreadable("its data are not embeddings") from None
    if not all(is_base64(item.embedding) or is_list(item.embedding) for item in items):
        raise unreadable("its data are not embeddings")
    return fields, items


def encode_request(request: EmbeddingRequest, quirks: Quirks) -> Forwarded:
    """Raises BadRequest for more inputs than the upstream takes. Floats are asked for: they are decoded here anyway."""
    check_count(len(request.inputs), quirks, "input", "inputs")
    is_single = len(request.inputs) == 1
    fields: dict[str, Any] = {
        "model": request.model,
        "input": request.inputs[0] if is_single else request.inputs,
        "encoding_format": "float",
    }
    options = {"dimensions": request.dimensions, "user": request.user, "task_type": request.task}
    fields |= {name: value for name, value in options.items() if value is not None}
    dropped = []
    if request.dialect == NAME:
        fields = {**request.extra, **fields}
    else:
        dropped += list(request.extra)
    dropped += drop_and_rename(fields, quirks)
    return Forwarded(encode(fields), tuple(dropped))


def decode_response(body: bytes, quirks: Quirks) -> EmbeddingResponse:
    """Raises UpstreamError for garbage and for an error in an answer of 200."""
    fields, items = _read(body, quirks)
    order = [place if item.index is None else item.index for place, item in enumerate(items)]
    if sorted(order) != list(range(len(items))):
        raise unreadable("its vectors are not numbered from 0")
    vectors: list[tuple[float, ...]] = [()] * len(items)
    for place, item in zip(order, items, strict=True):
        vectors[place] = floats_of(item.embedding)
    return EmbeddingResponse(
        vectors=tuple(vectors),
        model=text_of(fields.get("model")) or "",
        usage=usage_of(fields.get("usage")),
        extra={name: raw for name, raw in fields.items() if name not in _KNOWN and not is_null(raw)},
        dialect=NAME,
    )


def encode_response(response: EmbeddingResponse, envelope: Envelope) -> bytes:
    """In the form that was asked for. Raises UpstreamBroken where there is not one vector for each input."""
    count = len(inputs_of(envelope.fields["input"]))
    if len(response.vectors) != count:
        raise UpstreamBroken(f"The provider answered {count} inputs with {len(response.vectors)} vectors. Try again.")
    wants_text = wants_base64(envelope)
    data = [
        {"object": "embedding", "index": place, "embedding": to_base64(vector) if wants_text else vector}
        for place, vector in enumerate(response.vectors)
    ]
    fields = {
        "object": "list",
        "data": data,
        "model": response.model or envelope.model,
        "usage": usage_fields(response.usage, envelope),
    }
    return encode({**response.extra, **fields} if response.dialect == NAME else fields)
