"""Gemini's batchEmbedContents, as an upstream: providers.md A6.6. One call holds many texts, each naming the model again."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw, Struct

from naru.errors import UpstreamError
from naru.protocol.dialect import Forwarded, Quirks
from naru.protocol.embeddings.middle import EmbeddingRequest, EmbeddingResponse, text_of_input
from naru.protocol.gemini.errors import decode_error, error_inside
from naru.protocol.plain import answer_fields, check_count, usage_of
from naru.protocol.wire import BAD_JSON, encode, unreadable

NAME = "embeddings_gemini"


class _Values(Struct, gc=False):
    values: tuple[float, ...]


class _Answer(Struct, gc=False):
    embeddings: list[_Values] | None = None
    embedding: _Values | None = None
    usageMetadata: Raw = Raw(b"null")


_decode_answer = msgspec.json.Decoder(_Answer).decode


class GeminiEmbeddings:
    """See dialect.PlainUpstream."""

    name = NAME
    stream_type = b"application/json"  # never streamed

    def encode_request(self, request: EmbeddingRequest, quirks: Quirks) -> Forwarded:
        """Raises BadRequest for token ids, which Gemini does not take, and for too many texts."""
        check_count(len(request.inputs), quirks, "input", "inputs")
        options: dict[str, Any] = {}
        if request.dimensions is not None:
            options["outputDimensionality"] = request.dimensions
        if request.task is not None:
            options["taskType"] = request.task
        model = f"models/{request.model.removeprefix('models/')}"
        requests = [
            {"model": model, "content": {"parts": [{"text": text_of_input(each)}]}, **options}
            for each in request.inputs
        ]
        dropped = (["user"] if request.user is not None else []) + list(request.extra)
        return Forwarded(encode({"requests": requests}), tuple(dropped))

    def decode_response(self, body: bytes, quirks: Quirks) -> EmbeddingResponse:
        """AI Studio reports no usage for older models; then there is none. Raises UpstreamError."""
        answer_fields(body, quirks, error_inside)
        try:
            answer = _decode_answer(body)
        except BAD_JSON:
            raise unreadable("it holds no embeddings") from None
        found = answer.embeddings if answer.embeddings is not None else [answer.embedding] if answer.embedding else None
        if found is None:
            raise unreadable("it holds no embeddings")
        return EmbeddingResponse(
            vectors=tuple(each.values for each in found), usage=usage_of(answer.usageMetadata), dialect=NAME
        )

    def decode_error(self, status: int, body: bytes, quirks: Quirks) -> UpstreamError:
        return decode_error(status, body, quirks)
