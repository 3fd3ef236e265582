"""One answer of Gemini's, whole or piece by piece, to events.

Every event of a stream is a GenerateContentResponse that holds only what is new, and a whole answer is one such piece
(providers.md A6.3, A6.4): one reader serves the decoder, the relay and whole answers, so that they cannot differ.
"""

from __future__ import annotations

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import replace

from naru.errors import UpstreamError, UpstreamRefused
from naru.protocol.dialect import Quirks
from naru.protocol.gemini.errors import error_inside
from naru.protocol.gemini.logprobs import shared_form
from naru.protocol.gemini.parts import arguments_of, kind_of, media_of, split_call
from naru.protocol.gemini.usage import WireUsage, grounding_of, usage_from, usage_of
from naru.protocol.gemini.wire import NAME, mint_call_id, rfc3339, unix_of
from naru.protocol.messages import (
    Event,
    ExtraDelta,
    Finish,
    FinishReason,
    LogprobsDelta,
    Opaque,
    ReasoningDelta,
    Start,
    TextDelta,
    ToolCallDelta,
    ToolCallStart,
    Usage,
    UsageReport,
    WholePart,
)
from naru.protocol.service import ServerTools, tier_of
from naru.protocol.wire import (
    BAD_JSON,
    TRUE,
    Fields,
    decode_fields,
    decode_list,
    is_list,
    is_null,
    is_object,
    raw_of,
    rest_of,
    text_of,
    unreadable,
)

#: providers.md A0.2. STOP is tool_calls where a call was made: Gemini has no reason of its own for that.
FINISH_REASONS: dict[str, FinishReason] = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "CONTINUATION": "length",
    **dict.fromkeys(
        (
            "SAFETY", "RECITATION", "LANGUAGE", "OTHER", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "ESCALATION",
            "MODEL_ARMOR", "NO_IMAGE", "IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT", "IMAGE_OTHER", "IMAGE_RECITATION",
        ),
        "content_filter",
    ),
}  # fmt: skip
#: The reasons that the encoder would write for the typed ones; any other is kept in the choice's `extra`.
PLAIN_REASONS = frozenset({"STOP", "MAX_TOKENS", "SAFETY"})
#: The model's own slips. Without any content there is no answer, and another attempt may have one.
_FAILED_REASONS = frozenset(
    {
        "MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS", "MALFORMED_RESPONSE",
        "MISSING_THOUGHT_SIGNATURE",
    }
)  # fmt: skip

_HEAD_KEYS = frozenset({"candidates", "usageMetadata", "modelVersion", "responseId", "createTime", "error"})
_CANDIDATE_KEYS = frozenset({"content", "finishReason", "index"})


class _PlainPart(Struct, gc=False, forbid_unknown_fields=True):
    text: str
    thought: bool = False


class _PlainContent(Struct, gc=False, forbid_unknown_fields=True):
    parts: list[_PlainPart]
    role: str = ""


class _PlainCandidate(Struct, gc=False, forbid_unknown_fields=True):
    content: _PlainContent
    index: int


class _PlainPiece(Struct, gc=False, forbid_unknown_fields=True):
    """The common piece of a stream: more text, and the usage so far. Any other field sends it the long way."""

    candidates: list[_PlainCandidate]
    usageMetadata: WireUsage | None = None
    modelVersion: str = ""
    responseId: str = ""
    createTime: str = ""


_decode_plain = msgspec.json.Decoder(_PlainPiece).decode


class _ChoiceState:
    __slots__ = ("calls", "extra", "finish", "is_thinking", "thoughts")

    def __init__(self) -> None:
        self.calls = 0
        self.thoughts = -1
        self.is_thinking = False
        self.finish: FinishReason | None = None
        self.extra: Fields = {}


class AnswerReader:
    """`read` turns a piece into events. Raises UpstreamError on garbage and on an error in an answer of 200.

    `output_bytes` is the UTF-8 size of what `output_chars` counts.
    """

    __slots__ = (
        "_choices",
        "_head",
        "_id",
        "_quirks",
        "_served",
        "_tier",
        "_tools",
        "has_content",
        "is_blocked",
        "model",
        "output_bytes",
        "output_chars",
        "usage",
    )

    def __init__(self, quirks: Quirks) -> None:
        self._quirks = quirks
        self._choices: dict[int, _ChoiceState] = {}
        self._head: Fields | None = None
        self._id = ""
        self._tier: str | None = None
        self.model = ""
        self.has_content = False
        self.is_blocked = False
        self.output_chars = 0
        self.output_bytes = 0
        self._served = ""
        self._tools: ServerTools = ()
        self.usage: Usage | None = None

    @property
    def answer_id(self) -> str:
        return self._id

    @property
    def has_candidates(self) -> bool:
        return bool(self._choices)

    @property
    def is_complete(self) -> bool:
        """Every candidate that was begun has its finish reason, or the prompt was refused."""
        if not self._choices:
            return self.is_blocked
        return all(state.finish is not None for state in self._choices.values())

    def read(self, data: bytes | Raw) -> list[Event]:
        try:
            if isinstance(data, bytes) and not data.isascii():
                data.decode()  # msgspec does not look into the strings that it skips
            if self._head is not None and (events := self._read_plain(data)) is not None:
                return events
            fields = decode_fields(data)
        except BAD_JSON:
            raise unreadable("it is not a JSON object") from None
        if "error" in fields and not is_null(fields["error"]):
            raise error_inside(data, self._quirks)
        events = []
        try:
            self._start(fields, events)
            if "candidates" in fields:
                self._candidates(fields["candidates"], events)
            if "promptFeedback" in fields and not self._choices:
                self._blocked(fields["promptFeedback"], events)
        except BAD_JSON:
            raise unreadable("its fields have types that the API does not know") from None
        return events

    def _read_plain(self, data: bytes | Raw) -> list[Event] | None:
        """None where the piece holds anything but text of known choices. Counts nothing then."""
        try:
            plain = _decode_plain(data)
        except msgspec.ValidationError:
            return None
        wire = plain.usageMetadata
        if wire is not None and wire.serviceTier != self._tier and wire.serviceTier is not None:
            return None
        if any(candidate.index not in self._choices for candidate in plain.candidates):
            return None
        events: list[Event] = []
        if wire is not None and self._is_news(usage_from(wire)) and self.usage is not None:
            events.append(UsageReport(self.usage))
        for candidate in plain.candidates:
            state = self._choices[candidate.index]
            for part in candidate.content.parts:
                self._text(part.text, part.thought, candidate.index, state, events)
        return events

    def _text(self, text: str, is_thought: bool, index: int, state: _ChoiceState, events: list[Event]) -> None:
        self._count(text)
        if is_thought:
            if not state.is_thinking:
                state.is_thinking = True
                state.thoughts += 1
            events.append(ReasoningDelta(text, index, state.thoughts))
        elif text:
            state.is_thinking = False
            events.append(TextDelta(text, index))

    def _start(self, fields: Fields, events: list[Event]) -> None:
        tier = self._tier
        self._tools = grounding_of(fields.get("candidates")) or self._tools
        has_news = self._note_usage(fields.get("usageMetadata"))
        extra = {name: raw for name, raw in fields.items() if name not in _HEAD_KEYS and not is_null(raw)}
        if self._head is None:
            self._head = extra
            self._id = text_of(fields.get("responseId")) or ""
            self.model = text_of(fields.get("modelVersion")) or ""
            made = text_of(fields.get("createTime"))
            created = unix_of(made)
            if made is not None and made != rfc3339(created):
                extra = {**extra, "createTime": fields["createTime"]}  # with a fraction of a second
            events.append(Start(self._id, self.model, created, extra, self._tier, NAME))
        else:
            new = {name: raw for name, raw in extra.items() if self._head.get(name) != raw}
            if self._tier != tier:
                new["service_tier"] = raw_of(self._tier)
            if new:
                self._head = {**self._head, **new}
                events.append(ExtraDelta(new))
        if has_news and self.usage is not None:
            events.append(UsageReport(self.usage))

    def _note_usage(self, raw: Raw | None) -> bool:
        """Whether it says something new. The counts are those of the whole answer so far: the last record counts."""
        if raw is None:
            return False
        usage, tier = usage_of(raw)
        self._tier = tier or self._tier
        self._served = tier_of(self._tier)
        return self._is_news(usage)

    def _is_news(self, usage: Usage | None) -> bool:
        if usage is not None and (self._served or self._tools):
            usage = replace(usage, tier=self._served, server_tools=self._tools)
        if usage is None or usage == self.usage:
            return False
        self.usage = usage
        return True

    def _blocked(self, raw: Raw, events: list[Event]) -> None:
        if is_object(raw) and "blockReason" in decode_fields(raw) and not self.is_blocked:
            self.is_blocked = True
            events.append(Finish("content_filter"))

    def _candidates(self, raw: Raw, events: list[Event]) -> None:
        if is_null(raw):
            return
        if not is_list(raw):
            raise unreadable("its candidates are no list")
        for place, item in enumerate(decode_list(raw)):
            if not is_object(item):
                raise unreadable("a candidate that is not an object")
            candidate = decode_fields(item)
            digits = bytes(candidate.get("index", b""))
            index = int(digits) if digits.isdigit() and len(digits) < 6 else place
            state = self._choices.get(index)
            if state is None:
                state = self._choices[index] = _ChoiceState()
            self._content(candidate.get("content"), index, state, events)
            if len(candidate) > 1:
                self._rest(candidate, index, state, events)

    def _content(self, raw: Raw | None, index: int, state: _ChoiceState, events: list[Event]) -> None:
        if not is_object(raw):
            return
        parts = decode_fields(raw).get("parts")
        if is_list(parts):
            for item in decode_list(parts):
                if not is_object(item):
                    raise unreadable("a part that is not an object")
                self._part(item, index, state, events)

    def _part(self, raw: Raw, index: int, state: _ChoiceState, events: list[Event]) -> None:
        fields = decode_fields(raw)
        if "text" in fields:
            text = text_of(fields.pop("text"))
            if text is None:
                raise unreadable("a text that is no string")
            is_thought = bool(fields) and fields.pop("thought", None) == TRUE
            extra = rest_of(fields, ()) if fields else fields
            if extra and not is_thought and not text:
                state.is_thinking = False
                events.append(TextDelta("", index, extra))  # a signature whose text has come before
                return
            self._text(text, is_thought, index, state, events)
            if extra:
                events[-1] = replace(events[-1], extra=extra)
            return
        state.is_thinking = False
        kind = kind_of(fields)
        if kind is None:
            if fields:
                events.append(TextDelta("", index, rest_of(fields, ())))
            return
        self.has_content = True
        if kind == "functionCall":
            self._call(fields, index, state, events)
        elif kind in ("inlineData", "fileData"):
            events.append(WholePart(media_of(fields, kind), index))
        else:
            events.append(WholePart(Opaque(NAME, kind, raw), index))

    def _call(self, fields: Fields, index: int, state: _ChoiceState, events: list[Event]) -> None:
        raw = fields.pop("functionCall")
        if not is_object(raw):
            raise unreadable("a call that is not an object")
        given = decode_fields(raw)
        name = text_of(given.get("name")) or ""
        call_id = text_of(given.get("id")) or mint_call_id(self._id, index, state.calls, name)
        arguments = arguments_of(given.get("args"))
        self._count(arguments)
        signature, extra = split_call(fields, given)
        events.append(ToolCallStart(state.calls, call_id, name, index, "function", extra, signature))
        events.append(ToolCallDelta(state.calls, arguments, index))
        state.calls += 1

    def _rest(self, candidate: Fields, index: int, state: _ChoiceState, events: list[Event]) -> None:
        reason = text_of(candidate.get("finishReason"))
        if (logprobs := candidate.get("logprobsResult")) is not None:
            shared = shared_form(logprobs)
            if shared is not None:
                events.append(LogprobsDelta(shared, index))
        # What is repeated in every piece is told once.
        extra = {
            name: raw
            for name, raw in candidate.items()
            if name not in _CANDIDATE_KEYS and state.extra.get(name) != raw and not is_null(raw)
        }
        if reason and reason not in PLAIN_REASONS:
            extra["finishReason"] = raw_of(reason)
        if extra:
            state.extra = {**state.extra, **extra}
            events.append(ExtraDelta(extra, index))
        if reason:
            if reason in _FAILED_REASONS and not self.has_content:
                raise _gave_up(reason, text_of(candidate.get("finishMessage")))
            finish = FINISH_REASONS.get(reason, "stop")
            finish = "tool_calls" if finish == "stop" and state.calls else finish
            if finish != state.finish:
                state.finish = finish
                events.append(Finish(finish, index))

    def _count(self, text: str) -> None:
        if text:
            self.has_content = True
            size = len(text)
            self.output_chars += size
            self.output_bytes += size if text.isascii() else len(text.encode())


def _gave_up(reason: str, message: str | None) -> UpstreamError:
    return UpstreamRefused(
        f"The model gave up its answer ({reason}{': ' + message[:500] if message else ''}). Try again.",
        status=503,
        type="server_error",
        code="upstream_gave_up",
    )
