"""Anthropic's Messages API, as Claude Code and the official SDKs speak it. One object: ANTHROPIC_MESSAGES."""

from __future__ import annotations

from naru.errors import NaruError, UpstreamError
from naru.protocol.anthropic_messages.counting import count_tokens
from naru.protocol.anthropic_messages.decoder import MessagesStreamDecoder
from naru.protocol.anthropic_messages.encoder import MessagesStreamEncoder
from naru.protocol.anthropic_messages.errors import decode_error, encode_error, encode_stream_error
from naru.protocol.anthropic_messages.forward import forward
from naru.protocol.anthropic_messages.read import read
from naru.protocol.anthropic_messages.relay import MessagesStreamRelay, relay_whole
from naru.protocol.anthropic_messages.request_in import decode_request
from naru.protocol.anthropic_messages.request_out import encode_request
from naru.protocol.anthropic_messages.response import decode_response, encode_response
from naru.protocol.anthropic_messages.wire import NAME
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

__all__ = ["ANTHROPIC_MESSAGES", "AnthropicMessages"]


class AnthropicMessages:
    """See dialect.Dialect. Stateless: each method is the function of its name in this package."""

    name = NAME
    stream_type = b"text/event-stream; charset=utf-8"
    passed_headers: frozenset[bytes] = frozenset({b"anthropic-beta", b"anthropic-version"})

    def read(self, body: bytes, path: str, headers: HeaderPairs = ()) -> Envelope:
        return read(body, path)

    def decode_request(self, envelope: Envelope) -> Request:
        return decode_request(envelope)

    def encode_request(self, request: Request, quirks: Quirks) -> Forwarded:
        return encode_request(request, quirks)

    def encode_response(self, response: Response, envelope: Envelope) -> bytes:
        return encode_response(response, envelope)

    def decode_response(self, body: bytes, quirks: Quirks) -> Response:
        return decode_response(body, quirks)

    def stream_encoder(self, envelope: Envelope, price: Pricer) -> StreamEncoder:
        return MessagesStreamEncoder(envelope, price)

    def stream_decoder(self, quirks: Quirks) -> StreamDecoder:
        return MessagesStreamDecoder(quirks)

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
        return MessagesStreamRelay(envelope, quirks, price)

    def count_tokens(self, envelope: Envelope) -> bytes:
        """The answer to a count_tokens request, estimated here: `{"input_tokens": n}`."""
        return count_tokens(envelope)


ANTHROPIC_MESSAGES = AnthropicMessages()
