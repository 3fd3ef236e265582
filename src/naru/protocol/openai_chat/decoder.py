"""A chat stream to events. Repairs and errors are chunks.py's; this is only the naming of what is in a chunk."""

from __future__ import annotations

from msgspec import Raw
from msgspec.structs import replace

from naru.errors import UpstreamBroken, UpstreamError
from naru.protocol.dialect import Quirks
from naru.protocol.messages import (
    Event,
    ExtraDelta,
    Finish,
    FinishReason,
    LogprobsDelta,
    ReasoningDelta,
    RefusalDelta,
    Start,
    TextDelta,
    ToolCallDelta,
    ToolCallStart,
    UsageReport,
)
from naru.protocol.openai_chat.chunks import ChunkReader
from naru.protocol.openai_chat.errors import error_inside
from naru.protocol.openai_chat.relay import cut_off
from naru.protocol.openai_chat.repair import mint_call_id
from naru.protocol.openai_chat.response import (
    CHOICE_KEYS,
    CHOICE_PREFIX,
    MESSAGE_KEYS,
    RESPONSE_KEYS,
    call_extra,
    created_of,
    finish_of,
    reasoning_blocks,
)
from naru.protocol.openai_chat.wire import NAME, CallFragment, ChunkChoice
from naru.protocol.sse import Frame, SseSplitter
from naru.protocol.wire import Fields, decode_fields, decode_list, first_byte, is_list, is_null, rest_of, text_of

#: Random padding against traffic analysis, different in every chunk and meaningless at the other end.
_PADDING = frozenset({"obfuscation"})


class _ChoiceState:
    """`pending` is a call whose name may still go on in the next fragment (reliability.md A27)."""

    __slots__ = ("block_text", "calls", "extra", "function_call", "part", "pending")

    def __init__(self) -> None:
        self.calls: dict[int, int] = {}  # the stream's index -> ours, from 0 in the order they start
        self.function_call = -1
        self.part = 0
        self.block_text = ""
        self.pending: ToolCallStart | None = None
        self.extra: Fields = {}


class ChatStreamDecoder:
    """See dialect.StreamDecoder. Events that came before an error are returned; the error is raised by the next call.

    `error` shows it at once, to whoever wants to stop reading early.
    """

    __slots__ = ("_choices", "_head", "_id", "_is_done", "_quirks", "_reader", "_splitter", "error")

    def __init__(self, quirks: Quirks) -> None:
        self._quirks = quirks
        self._reader = ChunkReader(quirks)
        self._splitter = SseSplitter()
        self._choices: dict[int, _ChoiceState] = {}
        self._head: Fields | None = None
        self._id = ""
        self._is_done = False
        self.error: UpstreamError | None = None

    def feed(self, data: bytes) -> list[Event]:
        self._raise_if_failed()
        events: list[Event] = []
        if not self._is_done:
            try:
                self._read(self._splitter.feed(data), events)
            except UpstreamError as error:
                self.error = error
        if not events:
            self._raise_if_failed()
        return events

    def close(self) -> list[Event]:
        """Raises UpstreamBroken (`upstream_incomplete`) where the stream was cut."""
        self._raise_if_failed()
        events: list[Event] = []
        if self._is_done:
            return events
        try:
            self._read(self._splitter.close(), events)
        except UpstreamBroken:
            raise cut_off() from None
        if not self._is_done and not self._reader.is_complete:
            raise cut_off()
        self._end(events)
        return events

    def _raise_if_failed(self) -> None:
        if self.error is not None:
            raise self.error

    def _read(self, frames: list[Frame], events: list[Event]) -> None:
        for frame in frames:
            data = frame.data
            if data is None:
                continue
            if data.strip() == b"[DONE]":
                self._end(events)
                return
            if frame.event == b"error":
                raise error_inside(data, self._quirks)
            self._chunk(self._reader.read(data), events)

    def _end(self, events: list[Event]) -> None:
        if self._is_done:
            return
        self._is_done = True
        for state in self._choices.values():
            _flush(state, events)
        for choice, reasoning, content in self._reader.held_back():
            if reasoning:
                events.append(ReasoningDelta(reasoning, choice, self._state(choice).part))
            if content:
                events.append(TextDelta(content, choice))

    def _chunk(self, data: bytes, events: list[Event]) -> None:
        fields = decode_fields(data)
        self._start(fields, events)
        chunk = self._reader.chunk
        if chunk.choices:
            raws = decode_list(fields["choices"])
            for choice, raw in zip(chunk.choices, raws, strict=True):
                self._choice(choice, decode_fields(raw), events)
        if chunk.usage is not None and self._reader.usage is not None:
            events.append(UsageReport(self._reader.usage))

    def _start(self, fields: Fields, events: list[Event]) -> None:
        extra = rest_of(fields, RESPONSE_KEYS | _PADDING)
        tier = fields.get("service_tier")
        if self._head is None:
            self._id = text_of(fields.get("id")) or ""
            events.append(
                Start(self._id, text_of(fields.get("model")) or "", created_of(fields), extra, text_of(tier), NAME)
            )
        else:
            changed = {name: raw for name, raw in extra.items() if self._head.get(name) != raw}
            if tier is not None and text_of(tier) is not None and tier != self._head.get("service_tier"):
                changed["service_tier"] = tier
            if changed:
                events.append(ExtraDelta(changed))
            extra = {**self._head, **changed}
        if tier is not None:
            extra = {**extra, "service_tier": tier}
        self._head = extra

    def _state(self, index: int) -> _ChoiceState:
        state = self._choices.get(index)
        if state is None:
            state = self._choices[index] = _ChoiceState()
        return state

    def _choice(self, choice: ChunkChoice, fields: Fields, events: list[Event]) -> None:
        index = choice.index
        state = self._state(index)
        delta = choice.delta
        delta_fields = decode_fields(fields["delta"])
        if state.pending is not None and not delta.tool_calls:
            _flush(state, events)
        if delta.reasoning_content:
            events.append(ReasoningDelta(delta.reasoning_content, index, state.part))
            state.block_text += delta.reasoning_content
        if "thinking_blocks" in delta_fields:
            self._blocks(delta_fields["thinking_blocks"], index, state, events)
        if delta.content:
            events.append(TextDelta(delta.content, index))
        if delta.refusal:
            events.append(RefusalDelta(delta.refusal, index))
        if delta.tool_calls:
            raws = decode_list(delta_fields["tool_calls"])
            for fragment, raw in zip(delta.tool_calls, raws, strict=True):
                self._call(fragment, raw, index, events)
        if delta.function_call is not None:
            self._function_call(choice, state, events)
        self._extras(fields, delta_fields, index, state, events)
        logprobs = fields.get("logprobs")
        if logprobs is not None and not is_null(logprobs):
            events.append(LogprobsDelta(logprobs, index))
        if choice.finish_reason is not None:
            _flush(state, events)
            reason: FinishReason = finish_of(choice.finish_reason)
            events.append(Finish(reason, index, text_of(fields.get("stop_reason"))))

    def _extras(
        self, fields: Fields, delta_fields: Fields, index: int, state: _ChoiceState, events: list[Event]
    ) -> None:
        extra = rest_of(delta_fields, MESSAGE_KEYS)
        extra |= {CHOICE_PREFIX + name: raw for name, raw in rest_of(fields, CHOICE_KEYS).items()}
        if text_of(fields.get("stop_reason")) is not None:
            del extra[CHOICE_PREFIX + "stop_reason"]
        # What is repeated in every chunk is told once; lists and objects may be pieces of a whole.
        new = {name: raw for name, raw in extra.items() if first_byte(raw) in b"[{" or state.extra.get(name) != raw}
        if new:
            state.extra |= new
            events.append(ExtraDelta(new, index))

    def _blocks(self, raw: Raw, index: int, state: _ChoiceState, events: list[Event]) -> None:
        """Whole blocks, each after its text has come as reasoning_content: what is new in them is the signature."""
        for block in reasoning_blocks(raw) if is_list(raw) else ():
            text = "" if state.block_text else block.text
            if text or block.signature is not None or block.encrypted is not None or block.extra:
                events.append(ReasoningDelta(text, index, state.part, block.signature, block.encrypted, block.extra))
            state.part += 1
            state.block_text = ""

    def _function_call(self, choice: ChunkChoice, state: _ChoiceState, events: list[Event]) -> None:
        fragment = choice.delta.function_call
        if fragment is None:
            return
        if state.function_call < 0:
            state.function_call = len(state.calls)
            name = fragment.name or ""
            minted = mint_call_id(self._id, choice.index, 0, name)
            events.append(ToolCallStart(state.function_call, minted, name, choice.index, "function_call"))
        if fragment.arguments:
            events.append(ToolCallDelta(state.function_call, fragment.arguments, choice.index))

    def _call(self, fragment: CallFragment, raw: Raw, choice: int, events: list[Event]) -> None:
        if fragment.index is None:
            return
        state = self._state(choice)
        is_custom = fragment.custom is not None and fragment.function is None
        if is_custom and fragment.custom is not None:
            name, text = fragment.custom.name, fragment.custom.input
        else:
            name, text = (fragment.function.name, fragment.function.arguments) if fragment.function else (None, None)
        index = state.calls.get(fragment.index)
        if index is None:
            _flush(state, events)
            index = state.calls[fragment.index] = len(state.calls)
            kind = "custom" if is_custom else "function"
            extra = call_extra(decode_fields(raw), kind)
            state.pending = ToolCallStart(index, fragment.id or "", name or "", choice, kind, extra)
        elif name and state.pending is not None and name != state.pending.name:
            state.pending = replace(state.pending, name=state.pending.name + name)
        if text:
            _flush(state, events)
            events.append(ToolCallDelta(index, text, choice))


def _flush(state: _ChoiceState, events: list[Event]) -> None:
    if state.pending is not None:
        events.append(state.pending)
        state.pending = None
