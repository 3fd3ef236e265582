"""Events to a Messages stream, for a caller who speaks it to a model that does not.

The order is strict and one block is open at a time (providers.md B1.3), while events may interleave: fragments of parallel
calls, text between them. So blocks queue up: the first is written as it grows, the others wait until it can be ended. A call
can be once its arguments are a whole JSON object; text and thinking always can. Usage often comes after the finish, so
message_delta is written at the close.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from naru.protocol.anthropic_messages.messages_out import thinking_block
from naru.protocol.anthropic_messages.response import message_head, sealed, stop_fields, wants_thinking
from naru.protocol.anthropic_messages.usage import USAGE_PREFIX, priced_fields, usage_fields
from naru.protocol.anthropic_messages.wire import NAME, is_input
from naru.protocol.dialect import Envelope, Pricer
from naru.protocol.messages import (
    Event,
    Extra,
    ExtraDelta,
    Finish,
    Opaque,
    Reasoning,
    ReasoningDelta,
    RefusalDelta,
    Start,
    TextDelta,
    ToolCallDelta,
    ToolCallStart,
    Usage,
    UsageReport,
    WholePart,
)
from naru.protocol.sse import write_event
from naru.protocol.tokens import estimate_tokens_bytes
from naru.protocol.wire import decode_list, encode, is_list

_Key = tuple[str, int]
_TEXT: _Key = ("text", 0)

#: Kind of block -> (type of its delta, name of the delta's field).
_DELTAS = {
    "text": (b"text_delta", b"text"),
    "thinking": (b"thinking_delta", b"thinking"),
    "tool_use": (b"input_json_delta", b"partial_json"),
}
_STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'


class _Block:
    """A block on its way out. `waiting` are its pieces while another block is being written."""

    __slots__ = ("citations", "encrypted", "head", "key", "pieces", "signature", "start", "waiting")

    def __init__(self, key: _Key, start: Any) -> None:
        self.key = key
        self.start = start
        self.head = b""
        self.pieces: list[str] = []  # of a call: what its arguments are so far
        self.waiting: list[str] = []
        self.citations: list[Any] = []
        self.signature: str | None = None
        self.encrypted: str | None = None

    def can_end(self) -> bool:
        if self.key[0] != "tool_use":
            return True
        return bool(self.pieces) and self.pieces[-1].rstrip().endswith("}") and is_input("".join(self.pieces))


class MessagesStreamEncoder:
    """See dialect.StreamEncoder. `close` writes message_delta and message_stop; after an error, don't call it.

    Only the first choice is written. Thinking is shown to who asked for it. Media has no blocks here and is left out.
    """

    __slots__ = (
        "_count",
        "_dialect",
        "_envelope",
        "_extra",
        "_finish",
        "_has_calls",
        "_has_refusal",
        "_is_begun",
        "_output_bytes",
        "_price",
        "_queue",
        "_shows_thinking",
        "_start",
        "_stop_reason",
        "_usage",
    )

    def __init__(self, envelope: Envelope, price: Pricer) -> None:
        self._envelope = envelope
        self._price = price
        self._start = Start("", "", 0)
        self._dialect = ""
        self._shows_thinking = wants_thinking(envelope)
        self._is_begun = False
        self._queue: deque[_Block] = deque()
        self._count = 0
        self._output_bytes = 0
        self._usage: Usage | None = None
        self._finish: Finish | None = None
        self._has_calls = False
        self._has_refusal = False
        self._extra: Extra = {}
        self._stop_reason: Any = None

    def event(self, event: Event) -> bytes:
        if isinstance(event, TextDelta):
            queue = self._queue
            if queue and queue[0].key == _TEXT and len(queue) == 1 and not event.extra and event.choice == 0:
                return self._live(queue[0], event.text)
            return self._text(event.text, event.extra) if event.choice == 0 else b""
        if isinstance(event, Start):
            self._start = event
            self._dialect = event.dialect
            self._shows_thinking = self._shows_thinking or event.dialect == NAME
            return b""
        if isinstance(event, UsageReport):
            self._usage = event.usage
            return b""
        if getattr(event, "choice", 0):
            return b""
        return self._other(event)

    def close(self) -> bytes:
        out = self._begin() + self._flush()
        finish = self._finish or Finish("tool_calls" if self._has_calls else "stop")
        usage = self._usage or Usage(
            input=estimate_tokens_bytes(self._envelope.input_bytes),
            output=estimate_tokens_bytes(self._output_bytes),
            is_estimated=True,
        )
        fields, top, wire = self._owned()
        fields |= stop_fields(finish.reason, finish.stop_sequence, self._has_refusal)
        if self._stop_reason is not None:
            fields["stop_reason"] = self._stop_reason
        wire |= priced_fields(usage, self._price(usage))
        out += write_event(encode({"type": "message_delta", "delta": fields, **top, "usage": wire}), b"message_delta")
        return out + _STOP

    def _owned(self) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        """Late fields of an answer of this very dialect: of the delta, of the event itself, of the usage."""
        fields: dict[str, Any] = {}
        top: dict[str, Any] = {}
        wire: dict[str, Any] = {}
        for name, raw in self._extra.items() if self._dialect == NAME else ():
            if name.startswith(USAGE_PREFIX):
                wire[name.removeprefix(USAGE_PREFIX)] = raw
            elif name == "context_management":
                top[name] = raw
            elif name != "service_tier":
                fields[name] = raw
        return fields, top, wire

    def _begin(self) -> bytes:
        if self._is_begun:
            return b""
        self._is_begun = True
        start = self._start
        usage = self._usage or Usage(input=estimate_tokens_bytes(self._envelope.input_bytes), is_estimated=True)
        wire = usage_fields(usage)
        message = message_head(start.id, start.model or self._envelope.model)
        if start.service_tier is not None:
            wire["service_tier"] = start.service_tier
        if start.dialect == NAME:
            wire |= {
                name[len(USAGE_PREFIX) :]: raw for name, raw in start.extra.items() if name.startswith(USAGE_PREFIX)
            }
            message = {**{n: raw for n, raw in start.extra.items() if not n.startswith(USAGE_PREFIX)}, **message}
        message |= {"content": [], "stop_reason": None, "stop_sequence": None, "usage": wire}
        return write_event(encode({"type": "message_start", "message": message}), b"message_start")

    def _other(self, event: Event) -> bytes:
        if isinstance(event, ReasoningDelta):
            return self._reasoning(event) if self._shows_thinking else b""
        if isinstance(event, ToolCallDelta):
            return self._piece(("tool_use", event.index), event.arguments)
        if isinstance(event, ToolCallStart):
            self._has_calls = True
            extra = event.extra if self._dialect == NAME else {}
            start = {**extra, "type": "tool_use", "id": event.id, "name": event.name, "input": {}}
            return self._open(_Block(("tool_use", event.index), start))
        if isinstance(event, RefusalDelta):
            self._has_refusal = True
            return self._text(event.text, {})
        if isinstance(event, Finish):
            self._finish = event
            return self._begin() + self._flush()
        if isinstance(event, WholePart) and isinstance(event.part, Opaque) and event.part.dialect == NAME:
            return self._open(_Block(("opaque", self._count + len(self._queue)), event.part.raw))
        if isinstance(event, ExtraDelta):
            if event.choice is None:
                self._extra = {**self._extra, **event.fields}
            elif self._dialect == NAME:
                self._stop_reason = event.fields.get("stop_reason")
        return b""

    # --- What blocks are made of ------------------------------------------------------------------------------------

    def _text(self, text: str, extra: Extra) -> bytes:
        """Text goes on in the last block if that is one."""
        owned = extra if self._dialect == NAME else {}
        if not text and not owned:
            return b""
        out = b""
        if not self._queue or self._queue[-1].key != _TEXT:
            more = {name: raw for name, raw in owned.items() if name != "citations"}
            out = self._open(_Block(_TEXT, {**more, "type": "text", "text": ""}))
        block = self._queue[-1]
        if text:
            out += self._live(block, text) if block is self._queue[0] else self._wait(block, text)
        if is_list(citations := owned.get("citations")):
            block.citations += decode_list(citations)
        return out

    def _reasoning(self, event: ReasoningDelta) -> bytes:
        key = ("thinking", event.part)
        block = next((each for each in self._queue if each.key == key), None)
        if block is None and (event.signature or event.encrypted is not None) and not event.text:
            part = Reasoning("", event.signature, event.encrypted, event.extra)
            return self._open(_Block(key, self._thinking_start(part)))
        out = b""
        if block is None:
            block = _Block(key, self._thinking_start(Reasoning("", extra=event.extra)))
            out = self._open(block)
        block.signature = event.signature or block.signature
        block.encrypted = event.encrypted or block.encrypted
        return out + self._piece(key, event.text) if event.text else out

    def _thinking_start(self, part: Reasoning) -> dict[str, Any]:
        """A redacted block is whole at once; of others the signature is told at their end."""
        extra = part.extra if self._dialect == NAME else {}
        return {**extra, **thinking_block(sealed(part, self._dialect))}

    # --- The queue --------------------------------------------------------------------------------------------------

    def _open(self, block: _Block) -> bytes:
        out = self._begin()
        self._queue.append(block)
        if len(self._queue) == 1:
            return out + self._write_start(block)
        return out + self._advance()

    def _piece(self, key: _Key, text: str) -> bytes:
        for block in self._queue:
            if block.key == key:
                if block is not self._queue[0]:
                    return self._wait(block, text)
                out = self._live(block, text)
                return out + self._advance() if len(self._queue) > 1 else out
        return b""

    def _wait(self, block: _Block, text: str) -> bytes:
        block.waiting.append(text)
        return b""

    def _advance(self) -> bytes:
        """Ends the first block while another waits and it can be ended."""
        out = b""
        while len(self._queue) > 1 and self._queue[0].can_end():
            out += self._end_first()
        return out

    def _flush(self) -> bytes:
        out = b""
        while self._queue:
            out += self._end_first()
        return out

    def _end_first(self) -> bytes:
        out = self._write_stop(self._queue.popleft())
        if self._queue:
            block = self._queue[0]
            out += self._write_start(block)
            for text in block.waiting:
                out += self._live(block, text)
        return out

    # --- Bytes ------------------------------------------------------------------------------------------------------

    def _write_start(self, block: _Block) -> bytes:
        index = self._count
        self._count += 1
        delta = _DELTAS.get(block.key[0])
        if delta is not None:
            head = (
                b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":{"type":"%b","%b":'
            )
            block.head = head % (index, *delta)
        fields = {"type": "content_block_start", "index": index, "content_block": block.start}
        return write_event(encode(fields), b"content_block_start")

    def _live(self, block: _Block, text: str) -> bytes:
        if not text:
            return b""
        if block.key[0] == "tool_use":
            block.pieces.append(text)
        self._output_bytes += len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
        return b"%b%b}}\n\n" % (block.head, encode(text))

    def _write_stop(self, block: _Block) -> bytes:
        index = self._count - 1
        out = b""
        deltas = [{"type": "citations_delta", "citation": citation} for citation in block.citations]
        whole = sealed(Reasoning("", block.signature, block.encrypted), self._dialect)
        if whole.signature:
            deltas.append({"type": "signature_delta", "signature": whole.signature})
        for delta in deltas:
            fields = {"type": "content_block_delta", "index": index, "delta": delta}
            out += write_event(encode(fields), b"content_block_delta")
        stop = b'event: content_block_stop\ndata: {"type":"content_block_stop","index":%d}\n\n'
        return out + stop % index
