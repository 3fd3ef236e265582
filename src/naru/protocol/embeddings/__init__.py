"""Embeddings: OpenAI's shape towards callers and most servers (EMBEDDINGS); Gemini and CLOVA have their own."""

from __future__ import annotations

from naru.errors import NaruError, UpstreamError
from naru.protocol.dialect import Envelope, Forwarded, HeaderPairs, Quirks, WholeAnswer
from naru.protocol.embeddings import openai
from naru.protocol.embeddings.clova import ClovaEmbeddings
from naru.protocol.embeddings.gemini import GeminiEmbeddings
from naru.protocol.embeddings.middle import EmbeddingRequest, EmbeddingResponse
from naru.protocol.embeddings.read import NAME, decode_request, read
from naru.protocol.openai_chat.errors import decode_error, encode_error, encode_stream_error

__all__ = ["EMBEDDINGS", "EMBEDDINGS_CLOVA", "EMBEDDINGS_GEMINI", "Embeddings"]


class Embeddings:
    """See dialect.PlainDialect. Stateless: each method is the function of its name in this package."""

    name = NAME
    stream_type = b"application/json"
    passed_headers: frozenset[bytes] = frozenset()

    def read(self, body: bytes, path: str = "", headers: HeaderPairs = ()) -> Envelope:
        return read(body)

    def decode_request(self, envelope: Envelope) -> EmbeddingRequest:
        return decode_request(envelope)

    def encode_request(self, request: EmbeddingRequest, quirks: Quirks) -> Forwarded:
        return openai.encode_request(request, quirks)

    def encode_response(self, response: EmbeddingResponse, envelope: Envelope) -> bytes:
        return openai.encode_response(response, envelope)

    def decode_response(self, body: bytes, quirks: Quirks) -> EmbeddingResponse:
        return openai.decode_response(body, quirks)

    def encode_error(self, error: NaruError) -> tuple[int, bytes]:
        return encode_error(error)

    def encode_stream_error(self, error: NaruError) -> bytes:
        return encode_stream_error(error)

    def decode_error(self, status: int, body: bytes, quirks: Quirks) -> UpstreamError:
        return decode_error(status, body, quirks)

    def forward(self, envelope: Envelope, model: str, quirks: Quirks) -> Forwarded:
        return openai.forward(envelope, model, quirks)

    def relay_whole(self, body: bytes, envelope: Envelope, quirks: Quirks) -> WholeAnswer:
        return openai.relay_whole(body, envelope, quirks)


EMBEDDINGS = Embeddings()
EMBEDDINGS_GEMINI = GeminiEmbeddings()
EMBEDDINGS_CLOVA = ClovaEmbeddings()
