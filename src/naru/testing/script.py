"""Answers written down as data, for `RawServer`: what to send, in which pieces, and how it ends."""

from __future__ import annotations

from itertools import chain, repeat
from typing import Literal

import msgspec

from naru.testing.http import Exchange, Handler, Headers, head

JSON_HEADERS: Headers = (("content-type", "application/json"),)
STREAM_HEADERS: Headers = (("content-type", "text/event-stream; charset=utf-8"),)


class Script(msgspec.Struct, frozen=True, kw_only=True):
    """One answer.

    `pieces` are written one by one, each after `pause_s` seconds. `framing` "length" states the sum of the pieces, or
    `stated_length` when that is to be a lie; "chunked" makes each piece a chunk; "close" gives no framing at all.
    `ending`: "end" completes the answer; "fin" and "reset" close without completing it; "hang" sends nothing more.
    `is_silent` sends nothing, head included, before the ending. `delay_s` is the wait before the head, in seconds.
    """

    status: int = 200
    headers: Headers = JSON_HEADERS
    pieces: tuple[bytes, ...] = ()
    pause_s: float = 0.0
    delay_s: float = 0.0
    framing: Literal["length", "chunked", "close"] = "length"
    stated_length: int | None = None
    ending: Literal["end", "fin", "reset", "hang"] = "end"
    is_silent: bool = False


def scripted(first: Script, *more: Script) -> Handler:
    """A handler that plays the scripts in the order the requests come; the last one repeats."""
    scripts = chain((first, *more), repeat((first, *more)[-1]))
    return lambda exchange: play(exchange, next(scripts))


async def play(exchange: Exchange, script: Script) -> None:
    """Sends one script. Raises ConnectionResetError when the peer leaves on the way."""
    if script.delay_s:
        await exchange.pause(script.delay_s)
    if not script.is_silent:
        _start(exchange, script)
        for piece in script.pieces:
            await exchange.pause(script.pause_s)  # 0 still lets the peer read: every piece is a write of its own
            exchange.send(piece)
            await exchange.drained()
    if script.ending == "hang":
        await exchange.hang()
    elif script.ending == "reset":
        await exchange.drained()
        exchange.reset()
    elif script.ending == "fin" or script.framing == "close":
        exchange.close()
    else:
        exchange.end()


def _start(exchange: Exchange, script: Script) -> None:
    if script.framing == "close":
        exchange.write(head(script.status, (*script.headers, ("connection", "close"))))
    elif script.framing == "chunked":
        exchange.start(script.status, script.headers)
    else:
        stated = script.stated_length
        exchange.start(script.status, script.headers, sum(map(len, script.pieces)) if stated is None else stated)
