"""DashScope's own rerank, as an upstream: {"input", "parameters"} in, {"output", "usage", "request_id"} out.

Its compatible endpoint has one model; the others are here alone (Alibaba's docs, text-rerank-api). Errors are
{"code", "message", "request_id"} (providers.md A3.4).
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw, Struct

from naru.errors import UpstreamError
from naru.protocol.dialect import Forwarded, Quirks
from naru.protocol.openai_chat.errors import decode_error
from naru.protocol.plain import answer_fields, check_count, no_answer, usage_of
from naru.protocol.rerank.middle import Ranked, RerankRequest, RerankResponse
from naru.protocol.wire import BAD_JSON, decode_fields, encode, is_object, text_of, unreadable

NAME = "rerank_dashscope"


class _Result(Struct, gc=False):
    index: int
    relevance_score: float
    document: Raw = Raw(b"null")


class _Output(Struct, gc=False):
    results: list[_Result]


_decode_output = msgspec.json.Decoder(_Output).decode


class DashscopeRerank:
    """See dialect.PlainUpstream."""

    name = NAME
    stream_type = b"application/json"  # never streamed

    def encode_request(self, request: RerankRequest, quirks: Quirks) -> Forwarded:
        """Raises BadRequest for more documents than the provider takes."""
        check_count(len(request.documents), quirks, "documents", "documents")
        parameters: dict[str, Any] = {"return_documents": request.return_documents}
        if request.top_n is not None:
            parameters["top_n"] = request.top_n
        if request.instruct is not None:
            parameters["instruct"] = request.instruct
        given = {"query": request.query, "documents": request.documents}
        fields = {"model": request.model, "input": given, "parameters": parameters}
        return Forwarded(encode(fields), tuple(request.extra))

    def decode_response(self, body: bytes, quirks: Quirks) -> RerankResponse:
        fields = answer_fields(body, quirks)
        output = fields.get("output")
        if not is_object(output):
            raise no_answer(fields, body, quirks, "it has no output")
        try:
            results = _decode_output(output).results
        except BAD_JSON:
            raise unreadable("its results are not rankings") from None
        return RerankResponse(
            results=tuple(Ranked(each.index, each.relevance_score, _text(each.document)) for each in results),
            id=text_of(fields.get("request_id")) or "",
            usage=usage_of(fields.get("usage")),
            dialect=NAME,
        )

    def decode_error(self, status: int, body: bytes, quirks: Quirks) -> UpstreamError:
        return decode_error(status, body, quirks)


def _text(document: Raw) -> str | None:
    return text_of(decode_fields(document).get("text")) if is_object(document) else text_of(document)
