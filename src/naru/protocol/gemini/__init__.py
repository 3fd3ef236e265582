"""Google's generateContent, as the Gemini API and Vertex AI speak it. One object: GEMINI."""

from __future__ import annotations

from naru.errors import NaruError, UpstreamError
from naru.protocol.dialect import (
    Envelope,
    Forwarded,
    HeaderPairs,
    Pricer,
    Quirks,
    StreamDecoder,
    StreamEncoder,
    StreamRelay,
    WholeAnswer,
)
from naru.protocol.gemini.decoder import GeminiStreamDecoder
from naru.protocol.gemini.encoder import GeminiStreamEncoder
from naru.protocol.gemini.errors import decode_error, encode_error, encode_stream_error
from naru.protocol.gemini.forward import forward
from naru.protocol.gemini.read import read
from naru.protocol.gemini.relay import GeminiStreamRelay
from naru.protocol.gemini.request_in import decode_request
from naru.protocol.gemini.request_out import encode_request
from naru.protocol.gemini.whole import decode_response, encode_response, relay_whole
from naru.protocol.gemini.wire import NAME
from naru.protocol.messages import Request, Response

__all__ = ["GEMINI", "Gemini"]


class Gemini:
    """See dialect.Dialect. Stateless: each method is the function of its name in this package."""

    name = NAME
    stream_type = b"text/event-stream"
    passed_headers: frozenset[bytes] = frozenset()

    def read(self, body: bytes, path: str, headers: HeaderPairs = ()) -> Envelope:
        return read(body, path)

    def decode_request(self, envelope: Envelope) -> Request:
        return decode_request(envelope)

    def encode_request(self, request: Request, quirks: Quirks) -> Forwarded:
        return encode_request(request, quirks)

    def encode_response(self, response: Response, envelope: Envelope) -> bytes:
        return encode_response(response)

    def decode_response(self, body: bytes, quirks: Quirks) -> Response:
        return decode_response(body, quirks)

    def stream_encoder(self, envelope: Envelope, price: Pricer) -> StreamEncoder:
        return GeminiStreamEncoder(envelope, price)

    def stream_decoder(self, quirks: Quirks) -> StreamDecoder:
        return GeminiStreamDecoder(quirks)

    def encode_error(self, error: NaruError) -> tuple[int, bytes]:
        return encode_error(error)

    def encode_stream_error(self, error: NaruError) -> bytes:
        return encode_stream_error(error)

    def decode_error(self, status: int, body: bytes, quirks: Quirks) -> UpstreamError:
        return decode_error(status, body, quirks)

    def forward(self, envelope: Envelope, model: str, quirks: Quirks) -> Forwarded:
        return forward(envelope, model, quirks)

    def relay_whole(self, body: bytes, quirks: Quirks) -> WholeAnswer:
        return relay_whole(body, quirks)

    def stream_relay(self, envelope: Envelope, quirks: Quirks, price: Pricer) -> StreamRelay:
        return GeminiStreamRelay(envelope, quirks, price)


GEMINI = Gemini()
