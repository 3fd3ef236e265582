"""OpenAI's Responses API, for Codex, the Agents SDK and whoever else speaks it. One object: OPENAI_RESPONSES."""

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
from naru.protocol.messages import Request, Response
from naru.protocol.openai_chat.errors import decode_error, encode_error
from naru.protocol.openai_responses.decoder import ResponsesStreamDecoder
from naru.protocol.openai_responses.encoder import ResponsesStreamEncoder
from naru.protocol.openai_responses.errors import encode_stream_error
from naru.protocol.openai_responses.forward import forward
from naru.protocol.openai_responses.read import read
from naru.protocol.openai_responses.relay import ResponsesStreamRelay, relay_whole
from naru.protocol.openai_responses.request_in import decode_request
from naru.protocol.openai_responses.request_out import encode_request
from naru.protocol.openai_responses.response import decode_response, encode_response
from naru.protocol.openai_responses.wire import NAME

__all__ = ["OPENAI_RESPONSES", "OpenAIResponses"]


class OpenAIResponses:
    """See dialect.Dialect. Stateless: each method is the function of its name in this package."""

    name = NAME
    stream_type = b"text/event-stream; charset=utf-8"
    passed_headers: frozenset[bytes] = frozenset()

    def read(self, body: bytes, path: str = "", headers: HeaderPairs = ()) -> Envelope:
        return read(body)

    def decode_request(self, envelope: Envelope) -> Request:
        return decode_request(envelope)

    def encode_request(self, request: Request, quirks: Quirks) -> Forwarded:
        return encode_request(request, quirks)

    def encode_response(self, response: Response, envelope: Envelope) -> bytes:
        return encode_response(response, envelope)

    def decode_response(self, body: bytes, quirks: Quirks) -> Response:
        return decode_response(body, quirks)

    def stream_encoder(self, envelope: Envelope, price: Pricer) -> StreamEncoder:
        return ResponsesStreamEncoder(envelope, price)

    def stream_decoder(self, quirks: Quirks) -> StreamDecoder:
        return ResponsesStreamDecoder(quirks)

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
        return ResponsesStreamRelay(envelope, quirks, price)


OPENAI_RESPONSES = OpenAIResponses()
