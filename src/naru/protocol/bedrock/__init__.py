"""Amazon Bedrock's Converse API, which every model there answers. One object: BEDROCK.

It faces upstreams only: nobody's client speaks it. Same-dialect short cuts are therefore not here either.
Facts: the API's own description (bedrock-runtime, 2023-09-30) and its reference.
"""

from __future__ import annotations

from naru.errors import UpstreamError
from naru.protocol.bedrock.decoder import ConverseStreamDecoder
from naru.protocol.bedrock.errors import decode_error
from naru.protocol.bedrock.request_out import encode_request
from naru.protocol.bedrock.response import decode_response
from naru.protocol.bedrock.wire import NAME
from naru.protocol.dialect import Forwarded, Quirks, StreamDecoder
from naru.protocol.eventstream import CONTENT_TYPE
from naru.protocol.messages import Request, Response

__all__ = ["BEDROCK", "Bedrock"]


class Bedrock:
    """The upstream half of dialect.Dialect. Stateless: each method is the function of its name in this package."""

    name = NAME
    stream_type = CONTENT_TYPE

    def encode_request(self, request: Request, quirks: Quirks) -> Forwarded:
        return encode_request(request, quirks)

    def decode_response(self, body: bytes, quirks: Quirks) -> Response:
        return decode_response(body, quirks)

    def stream_decoder(self, quirks: Quirks) -> StreamDecoder:
        return ConverseStreamDecoder(quirks)

    def decode_error(self, status: int, body: bytes, quirks: Quirks) -> UpstreamError:
        return decode_error(status, body, quirks)


BEDROCK = Bedrock()
