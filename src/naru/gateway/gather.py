"""Small changes of form on the way: body defaults of a deployment, and whole answers from upstreams that only stream."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from msgspec import Raw

from naru.protocol.accumulate import accumulate
from naru.protocol.dialect import Dialect, Envelope, Quirks, WholeAnswer


def with_defaults(envelope: Envelope, defaults: Mapping[str, Raw]) -> Envelope:
    """The envelope with `defaults` where the caller set nothing."""
    return msgspec.structs.replace(envelope, fields={**defaults, **envelope.fields})


def as_stream(envelope: Envelope) -> Envelope:
    fields = {**envelope.fields, "stream": Raw(b"true")}
    return msgspec.structs.replace(envelope, fields=fields, is_stream=True, wants_usage=True)


def whole(dialect: Dialect, body: bytes, quirks: Quirks) -> WholeAnswer:
    """One whole answer from the bytes of a stream. Raises UpstreamError if the stream was cut or broken."""
    decoder = dialect.stream_decoder(quirks)
    response = accumulate([*decoder.feed(body), *decoder.close()])
    encoded = dialect.encode_response(response)
    answer = dialect.relay_whole(encoded, quirks)
    return WholeAnswer(encoded, response.usage, answer.output_chars)
