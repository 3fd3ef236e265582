"""An answer as it comes over the wire of chat completions: events for who watches, and at its end what the loop has to know."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from naru.agent.loop import Said
from naru.agent.run import nano_of
from naru.agent.tool import Json
from naru.protocol.accumulate import Accumulator
from naru.protocol.dialect import Quirks
from naru.protocol.messages import Event, Response, Usage
from naru.protocol.openai_chat import OPENAI_CHAT
from naru.protocol.openai_chat.response import encode_response
from naru.protocol.sse import SseSplitter

QUIRKS = Quirks()


class AnswerReader:
    """Of one streamed answer. Raises UpstreamError for one that is broken, or reports an error."""

    def __init__(self) -> None:
        self._decoder = OPENAI_CHAT.stream_decoder(QUIRKS)
        self._gathered = Accumulator()
        self._frames = SseSplitter()
        self._cost_nano: int | None = None

    def feed(self, data: bytes) -> list[Event]:
        for frame in self._frames.feed(data):
            if frame.data is not None and b'"cost_usd"' in frame.data:
                self._cost_nano = _cost_of(frame.data)
        return self._added(self._decoder.feed(data))

    def close(self) -> list[Event]:
        return self._added(self._decoder.close())

    def said(self) -> Said:
        """After `close`."""
        return said(self._gathered.response(), self._cost_nano)

    def _added(self, events: list[Event]) -> list[Event]:
        for event in events:
            self._gathered.add(event)
        return events


def said(response: Response, cost_nano: int | None) -> Said:
    """An answer as the next turn has to repeat it: reasoning, signatures and whatever else came with it."""
    fields: Json = msgspec.json.decode(encode_response(response))
    choices: Sequence[Json] = fields["choices"]
    message: Json = choices[0]["message"] if choices else {"role": "assistant", "content": ""}
    kept = {name: value for name, value in message.items() if value is not None or name == "content"}
    reason = (choices[0]["finish_reason"] if choices else None) or "stop"
    return Said(kept, response.usage or Usage(), cost_nano, reason)


class _Naru(msgspec.Struct):
    cost_usd: msgspec.Raw


class _Usage(msgspec.Struct):
    naru: _Naru | None = None


class _Chunk(msgspec.Struct):
    usage: _Usage | None = None


def _cost_of(chunk: bytes) -> int | None:
    """Naru writes into a stream's usage what the answer cost. What only looks like it is none."""
    try:
        usage = msgspec.json.decode(chunk, type=_Chunk).usage
    except msgspec.DecodeError:
        return None
    return None if usage is None or usage.naru is None else nano_of(bytes(usage.naru.cost_usd).decode())
