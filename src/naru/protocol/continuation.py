"""Going on with an answer that was cut short, at another upstream. Pure.

Only with plain text, and only where the upstream takes the beginning of its own answer (`Quirks.prefill`). Never with tools, a
schema or reasoning in it: a gateway that tried got prose in place of tool calls and was refused by Claude (gateways.md 0.2-3).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec.structs import replace

from naru.protocol.bridge import Images, TranslatedStream, Translation, Upstream
from naru.protocol.dialect import (
    Dialect,
    Envelope,
    Forwarded,
    Pricer,
    Quirks,
    StreamDecoder,
    StreamEncoder,
    StreamRelay,
)
from naru.protocol.messages import Event, Finish, Message, Request, Start, Text, TextDelta, Usage, UsageReport
from naru.protocol.replay import Replay
from naru.protocol.tokens import estimate_tokens_bytes

#: Past this a text is not gone on with: its beginning would cost more than it saves.
MAX_SAID_CHARS = 200_000
_HARMLESS = (TextDelta, Start, Finish, UsageReport)


def may_go_on(request: Request) -> bool:
    """Whether an answer to it is plain text and nothing else."""
    asks_json = request.response_format is not None and request.response_format.kind != "text"
    thinks = (
        request.reasoning.enabled or request.reasoning.effort not in (None, "none") or request.reasoning.budget_tokens
    )
    return not (request.tools or asks_json or thinks or request.logprobs or (request.n or 1) > 1 or request.stop)


class Beginning(Translation):
    """As a Translation, also between two of one dialect; its stream knows what it has said."""

    def stream(self, envelope: Envelope, quirks: Quirks, price: Pricer, replay: Replay | None = None) -> StreamRelay:
        decoder = self.upstream.stream_decoder(quirks)
        return PlainStream(decoder, self.client.stream_encoder(envelope, price), envelope)


class PlainStream(TranslatedStream):
    """A stream that can be gone on with while it is plain text."""

    __slots__ = ("before", "encoder", "envelope", "is_plain", "said")

    def __init__(
        self, decoder: StreamDecoder, encoder: StreamEncoder, envelope: Envelope, before: PlainStream | None = None
    ) -> None:
        """`before` is the stream that this one goes on with, under whose beginning it is told."""
        super().__init__(decoder, encoder, envelope.model, None)
        self.envelope = envelope
        self.encoder = encoder
        self.before = before
        self.is_plain = True
        self.said: list[str] = [] if before is None else [*before.said]
        self.output_chars = 0 if before is None else before.output_chars

    @property
    def can_go_on(self) -> bool:
        return self.is_plain and bool(self.said) and not self.is_finished and self.output_chars <= MAX_SAID_CHARS

    def said_tokens(self) -> int:
        """An estimate: whose stream was cut told no usage."""
        return estimate_tokens_bytes(sum(len(text.encode()) for text in self.said))

    def _encoded(self, events: list[Event]) -> bytes:
        if self.before is None:
            return super()._encoded(events)
        return super()._encoded([event for event in map(self._joined, events) if event is not None])

    def _joined(self, event: Event) -> Event | None:
        """An event as a part of one answer."""
        before = self.before
        assert before is not None
        if isinstance(event, Start):
            return None
        if isinstance(event, UsageReport):
            return UsageReport(_together(event.usage, before))
        if isinstance(event, TextDelta) and not self.has_content:
            # An upstream that takes no blank at the end of a beginning writes it anew.
            text = event.text.lstrip() if before.said[-1][-1:].isspace() else event.text
            return replace(event, text=text) if text else None
        return event

    def _note(self, event: Event) -> None:
        super()._note(event)
        if type(event) is TextDelta and event.text:
            self.said.append(event.text)
        elif not isinstance(event, _HARMLESS):
            self.is_plain = False


def _together(usage: Usage, before: PlainStream) -> Usage:
    """One answer's usage: what was said before counts as output, and not as input again."""
    said = before.said_tokens()
    return replace(usage, input=max(usage.input - said, 0), output=usage.output + said, is_estimated=True)


class GoingOn(Translation):
    """What is asked of the next upstream: the request, with what was said as the beginning of its answer."""

    def __init__(self, client: Dialect, upstream: Dialect, before: PlainStream) -> None:
        super().__init__(client, upstream)
        self.before = before

    def request(
        self,
        envelope: Envelope,
        upstream: Upstream,
        is_stream: bool,
        replay: Replay | None = None,
        images: Images | None = None,
    ) -> Forwarded:
        begun = Message("assistant", (Text("".join(self.before.said)),))
        decoded = self.decoded(envelope, upstream, None, images)
        spent = self.before.said_tokens()
        limit = decoded.max_output_tokens
        request = replace(
            decoded,
            messages=(*decoded.messages, begun),
            max_output_tokens=None if limit is None else max(limit - spent, 1),
        )
        forwarded = self.encoded(request, upstream, is_stream)
        return Forwarded(_marked(forwarded.body, upstream.quirks.prefill), forwarded.dropped)

    def stream(self, envelope: Envelope, quirks: Quirks, price: Pricer, replay: Replay | None = None) -> StreamRelay:
        decoder = self.upstream.stream_decoder(quirks)
        return PlainStream(decoder, self.before.encoder, envelope, self.before)


#: How an upstream is told that the last message is the beginning of its answer: fields of the message, fields of the body.
_MARKS: Mapping[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plain": ({}, {}),
    "prefix": ({"prefix": True}, {}),
    "partial": ({"partial": True}, {}),
    "continue_final": ({}, {"continue_final_message": True, "add_generation_prompt": False}),
}


def _marked(body: bytes, prefill: str) -> bytes:
    message, fields = _MARKS[prefill]
    if not message and not fields:
        return body
    said = msgspec.json.decode(body, type=dict[str, msgspec.Raw]) | {
        name: msgspec.Raw(msgspec.json.encode(value)) for name, value in fields.items()
    }
    if message:
        turns = msgspec.json.decode(said["messages"], type=list[Any])
        turns[-1] |= message
        said["messages"] = msgspec.Raw(msgspec.json.encode(turns))
    return msgspec.json.encode(said)
