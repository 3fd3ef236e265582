"""Events to a chat stream, for a caller who speaks chat completions to a model that does not.

The common event, a piece of text, is put together from bytes prepared once per choice. Signed thinking goes out as text
first (reasoning_content) and, once its signature is known, as a whole block in `thinking_blocks`, so that the caller can
send it back unchanged.
"""

from __future__ import annotations

from typing import Any

from naru.protocol.dialect import Envelope, Pricer
from naru.protocol.messages import (
    Event,
    ExtraDelta,
    Finish,
    LogprobsDelta,
    Reasoning,
    ReasoningDelta,
    RefusalDelta,
    Start,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    ToolCallStart,
    Usage,
    UsageReport,
    WholePart,
)
from naru.protocol.openai_chat.response import (
    CHOICE_PREFIX,
    block_fields,
    media_fields,
    needs_blocks,
    prefixed,
    told_call,
)
from naru.protocol.openai_chat.usage import naru_fields, usage_fields
from naru.protocol.openai_chat.wire import NAME
from naru.protocol.sse import DONE, write_event
from naru.protocol.tokens import estimate_tokens_bytes
from naru.protocol.wire import encode, raw_of


class _Thought:
    """A block of thinking on its way out."""

    __slots__ = ("encrypted", "extra", "part", "signature", "texts")

    def __init__(self, part: int) -> None:
        self.part = part
        self.texts: list[str] = []
        self.signature: str | None = None
        self.encrypted: str | None = None
        self.extra: dict[str, Any] = {}

    def whole(self) -> Reasoning:
        return Reasoning("".join(self.texts), self.signature, self.encrypted, self.extra)


class _ChoiceState:
    """`skipped` are ended blocks of thinking that needed no `thinking_blocks` so far."""

    __slots__ = ("has_blocks", "kinds", "skipped", "text_head", "thought")

    def __init__(self, text_head: bytes) -> None:
        self.text_head = text_head
        self.kinds: dict[int, str] = {}
        self.thought: _Thought | None = None
        self.skipped: list[Reasoning] = []
        self.has_blocks = False


class ChatStreamEncoder:
    """See dialect.StreamEncoder. `close` writes the usage chunk, if asked for, and [DONE]; after an error, don't call it."""

    __slots__ = (
        "_choices",
        "_envelope",
        "_head",
        "_is_legacy",
        "_output_bytes",
        "_owns_extra",
        "_price",
        "_tail",
        "_usage",
    )

    def __init__(self, envelope: Envelope, price: Pricer) -> None:
        self._envelope = envelope
        self._price = price
        self._choices: dict[int, _ChoiceState] = {}
        self._head: dict[str, Any] = {
            "id": "",
            "object": "chat.completion.chunk",
            "created": 0,
            "model": envelope.model,
        }
        self._owns_extra = False
        # Clients of the old `functions` know no tool_calls.
        self._is_legacy = "functions" in envelope.fields and "tools" not in envelope.fields
        self._usage: Usage | None = None
        self._output_bytes = 0
        #: OpenAI puts `usage: null` on every chunk before the last when usage was asked for.
        self._tail = b',"usage":null}\n\n' if envelope.wants_usage else b"}\n\n"

    def event(self, event: Event) -> bytes:
        if isinstance(event, TextDelta):
            state = self._choices.get(event.choice)
            if state is None or state.thought is not None or event.extra:
                return self._begin(event.choice) + self._end_thought(event.choice) + self._text(event)
            self._count(event.text)
            return b'%b%b},"logprobs":null,"finish_reason":null}]%b' % (state.text_head, encode(event.text), self._tail)
        if isinstance(event, Start):
            return self._start(event)
        if isinstance(event, UsageReport):
            self._usage = event.usage
            return b""
        if isinstance(event, ExtraDelta) and event.choice is None:
            return self._answer_extra(event)
        return self._other(event)

    def close(self) -> bytes:
        out = b"".join(self._end_thought(choice) for choice in self._choices)
        if self._envelope.wants_usage:
            usage = self._usage or Usage(
                input=estimate_tokens_bytes(self._envelope.input_bytes),
                output=estimate_tokens_bytes(self._output_bytes),
                is_estimated=True,
            )
            wire = {**usage_fields(usage), "naru": naru_fields(self._price(usage), usage.is_estimated)}
            out += write_event(encode({**self._head, "choices": [], "usage": wire}))
        return out + DONE

    def _start(self, event: Start) -> bytes:
        self._owns_extra = event.dialect == NAME
        self._head |= {"id": event.id, "created": event.created, "model": event.model or self._envelope.model}
        if event.service_tier is not None:
            self._head["service_tier"] = event.service_tier
        if self._owns_extra:
            self._head = {**event.extra, **self._head}
        return self._begin(0)

    def _begin(self, choice: int) -> bytes:
        """The first chunk of a choice carries the role and an empty text (providers.md B3)."""
        if choice in self._choices:
            return b""
        self._choices[choice] = _ChoiceState(self._text_head(choice))
        return self._chunk(choice, {"role": "assistant", "content": ""})

    def _text_head(self, choice: int) -> bytes:
        head = encode({**self._head, "choices": []})[:-2]  # without the `]}`
        return b'data: %b{"index":%d,"delta":{"content":' % (head, choice)

    def _chunk(self, choice: int, delta: dict[str, Any], **more: Any) -> bytes:
        fields = {"index": choice, "delta": delta, "logprobs": None, "finish_reason": None, **more}
        out = {**self._head, "choices": [fields]}
        if self._envelope.wants_usage:
            out["usage"] = None
        return write_event(encode(out))

    def _count(self, text: str) -> None:
        self._output_bytes += len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))

    def _text(self, event: TextDelta) -> bytes:
        self._count(event.text)
        return self._chunk(event.choice, {"content": event.text}) if event.text else b""

    def _answer_extra(self, event: ExtraDelta) -> bytes:
        if not self._owns_extra:
            return b""
        self._head = {**event.fields, **{k: v for k, v in self._head.items() if k not in event.fields}}
        for choice, state in self._choices.items():
            state.text_head = self._text_head(choice)
        return write_event(encode({**self._head, "choices": []}))

    def _other(self, event: Event) -> bytes:
        choice = getattr(event, "choice", 0) or 0
        out = self._begin(choice)
        if isinstance(event, ReasoningDelta):
            return out + self._reasoning(event)
        if not isinstance(event, ExtraDelta | LogprobsDelta):
            out += self._end_thought(choice)
        if isinstance(event, RefusalDelta):
            self._count(event.text)
            return out + self._chunk(choice, {"refusal": event.text})
        if isinstance(event, ToolCallStart):
            return out + self._call_start(event)
        if isinstance(event, ToolCallDelta):
            return out + self._call_delta(event)
        if isinstance(event, LogprobsDelta):
            return out + self._chunk(choice, {}, logprobs=event.raw)
        if isinstance(event, Finish):
            return out + self._finish(event)
        if isinstance(event, WholePart):
            media = media_fields((event.part,))
            return out + (self._chunk(choice, media) if media else b"")
        if isinstance(event, ExtraDelta) and self._owns_extra:
            delta = {name: raw for name, raw in event.fields.items() if not name.startswith(CHOICE_PREFIX)}
            return out + self._chunk(choice, delta, **prefixed(event.fields, CHOICE_PREFIX))
        return out

    def _reasoning(self, event: ReasoningDelta) -> bytes:
        state = self._choices[event.choice]
        out = b""
        if state.thought is not None and state.thought.part != event.part:
            out = self._end_thought(event.choice)
        if state.thought is None:
            state.thought = _Thought(event.part)
            if state.skipped:
                # More than one block: only thinking_blocks can show where the one ends.
                out += self._blocks(event.choice, state.skipped)
                state.skipped = []
        thought = state.thought
        thought.signature = event.signature if event.signature is not None else thought.signature
        thought.encrypted = event.encrypted if event.encrypted is not None else thought.encrypted
        thought.extra |= event.extra
        if not event.text:
            return out
        thought.texts.append(event.text)
        self._count(event.text)
        return out + self._chunk(event.choice, {"reasoning_content": event.text})

    def _end_thought(self, choice: int) -> bytes:
        state = self._choices[choice]
        if state.thought is None:
            return b""
        whole, state.thought = state.thought.whole(), None
        if not state.has_blocks and not needs_blocks([whole]):
            state.skipped.append(whole)
            return b""
        return self._blocks(choice, [whole])

    def _blocks(self, choice: int, thoughts: list[Reasoning]) -> bytes:
        self._choices[choice].has_blocks = True
        return self._chunk(choice, {"thinking_blocks": [block_fields(part, self._owns_extra) for part in thoughts]})

    def _call_start(self, event: ToolCallStart) -> bytes:
        kind = "function_call" if self._is_legacy and event.index == 0 else event.kind
        self._choices[event.choice].kinds[event.index] = kind
        if kind == "function_call":
            return self._chunk(event.choice, {"function_call": {"name": event.name, "arguments": ""}})
        call = told_call(ToolCall(event.id, event.name, "", kind, event.extra, event.signature), self._owns_extra)
        return self._chunk(event.choice, {"tool_calls": [{"index": event.index, **call}]})

    def _call_delta(self, event: ToolCallDelta) -> bytes:
        self._count(event.arguments)
        kind = self._choices[event.choice].kinds.get(event.index, "function")
        if kind == "function_call":
            return self._chunk(event.choice, {"function_call": {"arguments": event.arguments}})
        inner = (
            {"custom": {"input": event.arguments}} if kind == "custom" else {"function": {"arguments": event.arguments}}
        )
        return self._chunk(event.choice, {"tool_calls": [{"index": event.index, **inner}]})

    def _finish(self, event: Finish) -> bytes:
        is_legacy = "function_call" in self._choices[event.choice].kinds.values()
        reason = "function_call" if event.reason == "tool_calls" and is_legacy else event.reason
        more = {} if event.stop_sequence is None else {"stop_reason": raw_of(event.stop_sequence)}
        return self._chunk(event.choice, {}, **{**more, "finish_reason": reason})
