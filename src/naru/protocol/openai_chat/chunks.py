"""One stream's chunks, read one by one: passed as they are, repaired, or refused. Shared by the relay and the decoder.

The chunk that keeps to the dialect costs one decode into a small struct and a few comparisons. Only what does not is
taken apart, and then only as deep as the fault lies (repair.py).
"""

from __future__ import annotations

import msgspec
from msgspec import UNSET, Raw
from msgspec.structs import replace

from naru.protocol.dialect import Quirks
from naru.protocol.messages import Usage
from naru.protocol.openai_chat.calls import CallSlots
from naru.protocol.openai_chat.repair import index_of, object_fields, put_think, repair_reason, repair_texts
from naru.protocol.openai_chat.think import ThinkSplitter
from naru.protocol.openai_chat.usage import is_sane, repair_usage, usage_of
from naru.protocol.openai_chat.whole import check_bare_error, check_error
from naru.protocol.openai_chat.wire import STANDARD_REASONS, CallFragment, Chunk, ChunkChoice, decode_chunk, tier_in
from naru.protocol.wire import (
    BAD_JSON,
    NULL,
    Fields,
    decode_fields,
    decode_list,
    encode,
    is_list,
    is_null,
    is_object,
    raw_of,
    text_of,
    unreadable,
)

_EMPTY_LIST = Raw(b"[]")


class ChunkReader:
    """`read` gives a chunk's JSON back, the same object where nothing had to change; `chunk` is its typed view.

    Raises UpstreamError on garbage and on errors reported in the stream, and then counts nothing of that chunk.
    """

    __slots__ = (
        "_begun",
        "_finished",
        "_has_own_field",
        "_is_plain",
        "_quirks",
        "_slots",
        "_thinks",
        "_tier",
        "chunk",
        "has_content",
        "output_bytes",
        "output_chars",
        "usage",
    )

    def __init__(self, quirks: Quirks) -> None:
        self._quirks = quirks
        #: With a third name for reasoning every chunk has to be looked into; with inline tags those before the answer.
        self._has_own_field = quirks.thinking_field not in ("reasoning_content", "reasoning")
        self._is_plain = quirks.think_tag == "none" and not self._has_own_field
        self._slots: dict[int, CallSlots] = {}
        self._thinks: dict[int, ThinkSplitter] = {}
        self._begun: set[int] = set()
        self._tier: str | None = None
        self._finished: set[int] = set()
        self.chunk = Chunk([])
        self.has_content = False
        self.output_chars = 0
        self.output_bytes = 0
        self.usage: Usage | None = None

    @property
    def is_complete(self) -> bool:
        """Every choice that was begun has its finish reason."""
        return bool(self._finished) and self._begun <= self._finished

    def takes_text(self, data: bytes) -> bool:
        """Whether the chunk is one more piece of text of one choice and nothing else, as nearly all are; it is then counted.

        A short cut for `read`: False says only that `read` has to look.
        """
        try:
            if not data.isascii():
                data.decode()
            chunk = decode_chunk(data)
        except BAD_JSON:
            return False
        if len(chunk.choices) != 1 or chunk.usage is not None or chunk.error is not UNSET:
            return False
        choice = chunk.choices[0]
        delta, text = choice.delta, choice.delta.content
        if not text or choice.finish_reason is not None or choice.index not in self._begun:
            return False
        if delta.reasoning_content or delta.tool_calls or delta.reasoning is not None or delta.refusal:
            return False
        if delta.function_call is not None or delta.audio is not UNSET:
            return False
        if not self._is_plain and not self._is_past_thinking(choice.index):
            return False
        self.chunk = chunk
        self._count(text)
        return True

    def read(self, data: bytes) -> bytes:
        try:
            if not data.isascii():
                data.decode()  # msgspec does not look into the strings that it skips
            chunk = decode_chunk(data)
        except msgspec.ValidationError:
            return self._read_repaired(data)
        except BAD_JSON:
            raise unreadable("a stream event is not JSON") from None
        if chunk.error is not UNSET:
            check_error(chunk.error, self._quirks)
        if not self._is_clean(chunk):
            return self._read_repaired(data)
        self._note(chunk)
        self._note_tier(chunk, data)
        return data

    def held_back(self) -> list[tuple[int, str, str]]:
        """(choice, reasoning, content) that the tag splitter still holds when the stream ends without saying so."""
        rests = [(index, *think.close()) for index, think in self._thinks.items()]
        return [rest for rest in rests if rest[1] or rest[2]]

    def _is_clean(self, chunk: Chunk) -> bool:
        if chunk.usage is not None and not is_sane(chunk.usage):
            return False
        for choice in chunk.choices:
            delta, reason = choice.delta, choice.finish_reason
            if reason is not None and (
                reason not in STANDARD_REASONS or (reason in ("stop", "function_call") and self._has_calls(choice))
            ):
                return False
            if delta.reasoning is not None and delta.reasoning_content is None:
                return False
            if delta.tool_calls and not self._are_fragments_clean(choice.index, delta.tool_calls):
                return False
            if not self._is_plain and not self._is_past_thinking(choice.index):
                return False
        return True

    def _is_past_thinking(self, choice: int) -> bool:
        think = self._thinks.get(choice)
        return think is not None and think.is_past and not self._has_own_field

    def _has_calls(self, choice: ChunkChoice) -> bool:
        return choice.index in self._slots or bool(choice.delta.tool_calls)

    def _are_fragments_clean(self, choice: int, fragments: list[CallFragment]) -> bool:
        slots = self._slots.get(choice)
        if slots is None:
            slots = CallSlots()
        # Two fragments of one call in one chunk: rare enough to be taken the long way.
        return (len(fragments) == 1 or len({each.index for each in fragments}) == len(fragments)) and all(
            slots.is_clean(fragment) for fragment in fragments
        )

    def _note_tier(self, chunk: Chunk, data: bytes) -> None:
        """Looked for at the beginning and beside the usage: whoever names a tier does so in every chunk."""
        if self._tier is not None and chunk.usage is None:
            return
        self._tier = tier_in(data) or self._tier or ""
        if self.usage is not None and self._tier:
            self.usage = replace(self.usage, tier=self._tier)

    def _note(self, chunk: Chunk) -> None:
        """Counts what the client is going to see."""
        self.chunk = chunk
        if chunk.usage is not None:
            self.usage = usage_of(chunk.usage)
        for choice in chunk.choices:
            delta = choice.delta
            if choice.finish_reason is not None:
                self._finished.add(choice.index)
            elif choice.index not in self._begun:
                self._begun.add(choice.index)
            if delta.content:
                self._count(delta.content)
            if delta.reasoning_content:
                self._count(delta.reasoning_content)
            if delta.refusal:
                self._count(delta.refusal)
            if delta.tool_calls:
                self._note_calls(choice.index, delta.tool_calls)
            if delta.function_call is not None:
                self.has_content = True
                self._count(delta.function_call.arguments or "")
            if delta.audio is not UNSET and not is_null(delta.audio):
                self.has_content = True

    def _count(self, text: str) -> None:
        if text:
            self.has_content = True
            size = len(text)
            self.output_chars += size
            self.output_bytes += size if text.isascii() else len(text.encode())

    def _note_calls(self, choice: int, fragments: list[CallFragment]) -> None:
        slots = self._slots.get(choice)
        if slots is None:
            slots = self._slots[choice] = CallSlots()
        self.has_content = True
        for fragment in fragments:
            slots.note(fragment)
            if fragment.function is not None:
                self._count(fragment.function.arguments or "")
            elif fragment.custom is not None:
                self._count(fragment.custom.input or "")

    # --- The long way -----------------------------------------------------------------------------------------

    def _read_repaired(self, data: bytes) -> bytes:
        fields = object_fields(data)
        check_error(fields.get("error", UNSET), self._quirks)
        check_bare_error(fields, self._quirks)
        try:
            data = self._repaired(fields)
            chunk = decode_chunk(data)
        except BAD_JSON:
            raise unreadable("a stream event has fields of types that chat completions do not know") from None
        self._note(chunk)
        self._note_tier(chunk, data)
        return data

    def _repaired(self, fields: Fields) -> bytes:
        answer_id = text_of(fields.get("id")) or ""
        raw_choices = fields.get("choices")
        choices = decode_list(raw_choices) if is_list(raw_choices) else []
        repaired = [self._repaired_choice(raw, place, answer_id) for place, raw in enumerate(choices)]
        fields["choices"] = raw_of(repaired) if repaired else _EMPTY_LIST
        usage = fields.get("usage")
        if usage is not None and not is_null(usage):
            fields["usage"] = repair_usage(usage) or NULL
        return encode(fields)

    def _repaired_choice(self, raw: Raw, place: int, answer_id: str) -> Fields:
        if not is_object(raw):
            raise unreadable("a choice that is not an object")
        choice = decode_fields(raw)
        index = index_of(choice, place)
        raw_delta = choice.get("delta")
        delta = decode_fields(raw_delta) if is_object(raw_delta) else {}
        is_last = bool(text_of(choice.get("finish_reason")))
        self._repair_texts(delta, index, is_last)
        has_calls = self._repair_calls(delta, index, answer_id)
        repair_reason(choice, has_calls)
        choice["delta"] = raw_of(delta)
        return choice

    def _repair_texts(self, delta: Fields, index: int, is_last: bool) -> None:
        think: ThinkSplitter | None = None
        if self._quirks.think_tag != "none":
            think = self._thinks.get(index)
            if think is None:
                think = self._thinks[index] = ThinkSplitter(self._quirks.think_tag)
        repair_texts(delta, self._quirks, think)
        if think is not None and is_last:
            reasoning, rest = think.close()
            if reasoning or rest:
                put_think(delta, reasoning, (text_of(delta.get("content")) or "") + rest)

    def _repair_calls(self, delta: Fields, index: int, answer_id: str) -> bool:
        raw_call = delta.get("function_call")
        if raw_call is not None and not is_object(raw_call):
            del delta["function_call"]
        raw_calls = delta.get("tool_calls")
        if is_object(raw_calls):
            raw_calls = Raw(b"[%b]" % bytes(raw_calls))
        if is_list(raw_calls) and (fragments := decode_list(raw_calls)):
            slots = self._slots.get(index)
            if slots is None:
                slots = self._slots[index] = CallSlots()
            delta["tool_calls"] = raw_of([slots.repaired(raw, index, answer_id) for raw in fragments])
        elif raw_calls is not None:
            delta.pop("tool_calls")
        return index in self._slots
