"""NAVER CLOVA Studio's native API, which HyperCLOVA X answers. One object: CLOVA.

It faces upstreams only: nobody's client speaks it. Same-dialect short cuts are therefore not here either.
"""

from __future__ import annotations

from naru.errors import UpstreamError
from naru.protocol.clova.decoder import ClovaStreamDecoder
from naru.protocol.clova.errors import decode_error
from naru.protocol.clova.request_out import encode_request
from naru.protocol.clova.response import decode_response
from naru.protocol.clova.wire import NAME
from naru.protocol.dialect import Forwarded, Quirks, StreamDecoder
from naru.protocol.messages import Request, Response

__all__ = ["CLOVA", "Clova"]


class Clova:
    """The upstream half of dialect.Dialect. Stateless: each method is the function of its name in this package."""

    name = NAME
    stream_type = b"text/event-stream"

    def encode_request(self, request: Request, quirks: Quirks) -> Forwarded:
        return encode_request(request, quirks)

    def decode_response(self, body: bytes, quirks: Quirks) -> Response:
        return decode_response(body, quirks)

    def stream_decoder(self, quirks: Quirks) -> StreamDecoder:
        return ClovaStreamDecoder(quirks)

    def decode_error(self, status: int, body: bytes, quirks: Quirks) -> UpstreamError:
        return decode_error(status, body, quirks)


CLOVA = Clova()
