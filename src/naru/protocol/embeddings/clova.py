"""CLOVA Studio's embedding v2, as an upstream: one text a call, 1,024 numbers, not normalised (providers.md A1.1).

Its tools (this and the reranker) answer in one envelope, {"status": {code, message}, "result": …}, read here for both.
"""

from __future__ import annotations

import msgspec
from msgspec import Raw, Struct

from naru.errors import UpstreamError
from naru.protocol.clova.errors import decode_error, error_inside, is_failure
from naru.protocol.clova.wire import WireStatus
from naru.protocol.dialect import Forwarded, Quirks
from naru.protocol.embeddings.middle import EmbeddingRequest, EmbeddingResponse, text_of_input
from naru.protocol.messages import Usage
from naru.protocol.plain import answer_fields, cannot
from naru.protocol.wire import BAD_JSON, encode, is_object, unreadable

NAME = "embeddings_clova"
DIMENSIONS = 1024


class _Enveloped(Struct, gc=False):
    status: WireStatus | None = None
    result: Raw = Raw(b"null")


class _Result(Struct, gc=False):
    embedding: tuple[float, ...]
    inputTokens: int | None = None


_decode_envelope = msgspec.json.Decoder(_Enveloped).decode
_decode_result = msgspec.json.Decoder(_Result).decode


def result_of(body: bytes, quirks: Quirks) -> Raw:
    """The `result` of a tool's answer. Raises UpstreamError for garbage and for an error in an answer of 200."""
    answer_fields(body, quirks)
    try:
        answer = _decode_envelope(body)
    except BAD_JSON:
        raise unreadable("it has no result") from None
    if answer.status is not None and is_failure(answer.status):
        raise error_inside(answer.status)
    if not is_object(answer.result):
        raise unreadable("it has no result")
    return answer.result


class ClovaEmbeddings:
    """See dialect.PlainUpstream."""

    name = NAME
    stream_type = b"application/json"  # never streamed

    def encode_request(self, request: EmbeddingRequest, quirks: Quirks) -> Forwarded:
        """Raises BadRequest for more than one text and for any length but 1,024."""
        if len(request.inputs) != 1:
            raise cannot("input", "This model's provider takes one text a request. Send several requests.")
        if request.dimensions not in (None, DIMENSIONS):
            raise cannot("dimensions", f"This model's vectors have {DIMENSIONS} numbers. Leave `dimensions` out.")
        given = (("user", request.user), ("task_type", request.task))
        dropped = [name for name, value in given if value is not None]
        return Forwarded(encode({"text": text_of_input(request.inputs[0])}), (*dropped, *request.extra))

    def decode_response(self, body: bytes, quirks: Quirks) -> EmbeddingResponse:
        raw = result_of(body, quirks)
        try:
            result = _decode_result(raw)
        except BAD_JSON:
            raise unreadable("it holds no embedding") from None
        count = result.inputTokens
        usage = Usage(input=count) if count is not None and count > 0 else None
        return EmbeddingResponse(vectors=(result.embedding,), usage=usage, dialect=NAME)

    def decode_error(self, status: int, body: bytes, quirks: Quirks) -> UpstreamError:
        return decode_error(status, body, quirks)
