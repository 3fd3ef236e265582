"""OpenAI's chat completions, as OpenAI writes them and as forty compatible servers do. One object: OPENAI_CHAT."""

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
from naru.protocol.openai_chat.decoder import ChatStreamDecoder
from naru.protocol.openai_chat.encoder import ChatStreamEncoder
from naru.protocol.openai_chat.errors import decode_error, encode_error, encode_stream_error
from naru.protocol.openai_chat.forward import forward
from naru.protocol.openai_chat.read import read
from naru.protocol.openai_chat.relay import ChatStreamRelay
from naru.protocol.openai_chat.request_in import decode_request
from naru.protocol.openai_chat.request_out import encode_request
from naru.protocol.openai_chat.response import decode_response, encode_response
from naru.protocol.openai_chat.whole import relay_whole
from naru.protocol.openai_chat.wire import NAME

__all__ = ["OPENAI_CHAT", "OpenAIChat"]


class OpenAIChat:
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

    def encode_response(self, response: Response, envelope: Envelope | None = None) -> bytes:
        return encode_response(response)

    def decode_response(self, body: bytes, quirks: Quirks) -> Response:
        return decode_response(body, quirks)

    def stream_encoder(self, envelope: Envelope, price: Pricer) -> StreamEncoder:
        return ChatStreamEncoder(envelope, price)

    def stream_decoder(self, quirks: Quirks) -> StreamDecoder:
        return ChatStreamDecoder(quirks)

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
        return ChatStreamRelay(envelope, quirks, price)


OPENAI_CHAT = OpenAIChat()
