"""Rerank: Cohere's and Jina's shape towards callers and most servers (RERANK); DashScope and CLOVA have their own."""

from __future__ import annotations

from naru.errors import NaruError, UpstreamError
from naru.protocol.dialect import Envelope, Forwarded, HeaderPairs, Quirks, WholeAnswer
from naru.protocol.openai_chat.errors import decode_error, encode_error, encode_stream_error
from naru.protocol.rerank import cohere
from naru.protocol.rerank.clova import ClovaRerank
from naru.protocol.rerank.dashscope import DashscopeRerank
from naru.protocol.rerank.middle import RerankRequest, RerankResponse
from naru.protocol.rerank.read import NAME, decode_request, read

__all__ = ["RERANK", "RERANK_CLOVA", "RERANK_DASHSCOPE", "Rerank"]


class Rerank:
    """See dialect.PlainDialect. Stateless: each method is the function of its name in this package."""

    name = NAME
    stream_type = b"application/json"
    passed_headers: frozenset[bytes] = frozenset()

    def read(self, body: bytes, path: str = "", headers: HeaderPairs = ()) -> Envelope:
        return read(body)

    def decode_request(self, envelope: Envelope) -> RerankRequest:
        return decode_request(envelope)

    def encode_request(self, request: RerankRequest, quirks: Quirks) -> Forwarded:
        return cohere.encode_request(request, quirks)

    def encode_response(self, response: RerankResponse, envelope: Envelope) -> bytes:
        return cohere.encode_response(response, envelope)

    def decode_response(self, body: bytes, quirks: Quirks) -> RerankResponse:
        return cohere.decode_response(body, quirks)

    def encode_error(self, error: NaruError) -> tuple[int, bytes]:
        return encode_error(error)

    def encode_stream_error(self, error: NaruError) -> bytes:
        return encode_stream_error(error)

    def decode_error(self, status: int, body: bytes, quirks: Quirks) -> UpstreamError:
        return decode_error(status, body, quirks)

    def forward(self, envelope: Envelope, model: str, quirks: Quirks) -> Forwarded:
        return cohere.forward(envelope, model, quirks)

    def relay_whole(self, body: bytes, envelope: Envelope, quirks: Quirks) -> WholeAnswer:
        return cohere.relay_whole(body, envelope, quirks)


RERANK = Rerank()
RERANK_DASHSCOPE = DashscopeRerank()
RERANK_CLOVA = ClovaRerank()
