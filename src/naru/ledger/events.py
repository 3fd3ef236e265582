"""What the journal says, one record each: a request was opened, it has come so far, it is closed. Pure.

The fields stand by position, so a record costs a microsecond to write. A field is only ever added at the end, with a default:
an older journal stays readable.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

from naru.storage.records import LedgerEntry


class Open(Struct, frozen=True, array_like=True, tag=1, gc=False):
    """Before anything goes upstream. `scopes` are what pays, whoever answers; `holds` what is held there, in nano-USD."""

    request_id: str
    at: float
    key_id: str
    model: str
    dialect: str
    is_stream: bool
    scopes: tuple[str, ...] = ()
    holds: tuple[int, ...] = ()
    user_hash: str = ""


class Progress(Struct, frozen=True, array_like=True, tag=2, gc=False):
    """A stream that has shown something: what it would cost if it ended here."""

    request_id: str
    deployment: str
    provider: str
    upstream_model: str
    price_version: str | None
    price_source: str | None
    input: int
    output: int
    cost_nano: int


class Closed(Struct, frozen=True, array_like=True, tag=3, gc=False):
    """How it ended. The entry names the scopes that it is charged to."""

    entry: LedgerEntry


Happening = Open | Progress | Closed

encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(Happening).decode
