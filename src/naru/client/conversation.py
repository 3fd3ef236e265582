"""A conversation that may go on for ever: it remembers everything, and sends what fits.

talk = AsyncConversation(send, "deepseek-chat", system="Answer briefly.", context_tokens=32_000)
reply = await talk.ask("서울의 인구는?")
async for piece in talk.stream("And Busan's?"): ...
talk.dropped                                     # what no longer fits
talk.save("talk.json")
"""

from __future__ import annotations

import copy
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from naru.client.counting import count_message, most_output
from naru.client.reply import Json, Reply, Send
from naru.client.trim import DoesNotFit, Trimmed, is_standing, trim

#: What a model is told before the summary of what it no longer sees.
SUMMARY_HEAD = "Earlier in this conversation (a summary of what is no longer shown):\n\n"

#: Sends a body and yields pieces of text, then the whole Reply; raises NaruError.
Stream = Callable[[Json], AsyncIterator[str | Reply]]
SyncSend = Callable[[Json], Reply]
SyncStream = Callable[[Json], Iterator[str | Reply]]
#: (the summary so far, messages that come on top of it) -> the new summary.
Summarize = Callable[[str, list[Json]], Awaitable[str]]
SyncSummarize = Callable[[str, list[Json]], str]
Content = str | list[Json] | None


class Saved(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file. `fields` are the body's other fields; `summary` covers the first `summarized` messages that may be dropped."""

    naru: str = "conversation/1"
    model: str
    context_tokens: int | None
    fields: dict[str, Any]
    messages: list[dict[str, Any]]
    summary: str = ""
    summarized: int = 0


class _Talk:
    """What both kinds share: everything but the sending. `fields` are the body's others: max_tokens, temperature, tools ..."""

    def __init__(
        self, model: str, *, system: str | None = None, context_tokens: int | None = None, **fields: Any
    ) -> None:
        if context_tokens is not None and context_tokens < 1:
            raise ValueError(f"context_tokens must be at least 1, not {context_tokens}.")
        for name in ("messages", "stream"):
            if name in fields:
                raise ValueError(
                    f"A conversation has `{name}` of its own; leave it out (`add` takes earlier messages)."
                )
        self.model = model
        self.context_tokens = context_tokens
        self.fields = fields
        #: All of them, also those that are no longer sent.
        self.messages: list[Json] = [] if system is None else [{"role": "system", "content": system}]
        #: What was left out of the last request.
        self.dropped: list[Json] = []
        self.summary = ""
        self._summarized = 0
        self._is_busy = False

    def add(self, *messages: Json) -> None:
        """Messages from elsewhere: an earlier conversation, the result of a tool (then `ask()` without a question)."""
        self.messages.extend(messages)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Whole or not at all: a file that was there stays until the new one is complete."""
        saved = Saved(
            model=self.model, context_tokens=self.context_tokens, fields=self.fields, messages=self.messages,
            summary=self.summary, summarized=self._summarized,
        )  # fmt: skip
        target = Path(path)
        draft = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        try:
            draft.write_bytes(msgspec.json.format(msgspec.json.encode(saved), indent=2) + b"\n")
            draft.replace(target)
        finally:
            draft.unlink(missing_ok=True)

    def _read(self, path: str | os.PathLike[str], model: str) -> None:
        saved = _saved(path)
        self.model, self.context_tokens, self.fields = model or saved.model, saved.context_tokens, saved.fields
        self.messages, self.summary, self._summarized = saved.messages, saved.summary, saved.summarized

    def _copy_to(self, other: _Talk) -> None:
        other.fields = copy.deepcopy(self.fields)
        other.messages = copy.deepcopy(self.messages)
        other.dropped = copy.deepcopy(self.dropped)
        other.summary, other._summarized = self.summary, self._summarized

    def _begin(self, content: Content) -> list[Json]:
        """The conversation with the question. It is remembered when it is answered, so a failure leaves nothing behind."""
        if self._is_busy:
            raise RuntimeError("This conversation waits for an answer; ask one thing at a time, or fork() it.")
        messages = self.messages if content is None else [*self.messages, {"role": "user", "content": content}]
        if not messages:
            raise ValueError("There is nothing to answer yet: ask a question.")
        self._is_busy = True
        return messages

    def _fit(self, messages: list[Json]) -> Trimmed:
        """What is sent. Raises DoesNotFit."""
        if self.context_tokens is None:
            return Trimmed(messages=messages, dropped=[], tokens=0)
        budget_tokens = self.context_tokens - (most_output(self.fields) or 0)
        if not self.summary:
            return trim(messages, budget_tokens)
        told: Json = {"role": "system", "content": SUMMARY_HEAD + self.summary}
        cost = count_message(told)
        try:
            fit = trim(messages, budget_tokens - cost)
        except DoesNotFit as error:
            raise DoesNotFit(error.needed_tokens + cost, budget_tokens) from None
        if not fit.dropped:
            return fit
        at = next((index for index, message in enumerate(fit.messages) if not is_standing(message)), len(fit.messages))
        return Trimmed(
            messages=[*fit.messages[:at], told, *fit.messages[at:]], dropped=fit.dropped, tokens=fit.tokens + cost
        )

    def _unsummarized(self, fit: Trimmed) -> list[Json]:
        return fit.dropped[self._summarized :]

    def _summarize_as(self, summary: str, fit: Trimmed) -> None:
        self.summary, self._summarized = summary, len(fit.dropped)

    def _body(self, fit: Trimmed) -> Json:
        return {"model": self.model, **self.fields, "messages": fit.messages}

    def _answered(self, messages: list[Json], fit: Trimmed, reply: Reply) -> None:
        self.messages = [*messages, dict(reply.message)]
        self.dropped = fit.dropped


class AsyncConversation(_Talk):
    """`send` sends one body; `stream`, where given, streams one. `summarize`: makes a text of what is dropped, which is sent
    in its place. `ask` and `stream` raise what `send` raises, and DoesNotFit."""

    def __init__(
        self, send: Send, model: str, *, stream: Stream | None = None, summarize: Summarize | None = None, **more: Any
    ) -> None:
        super().__init__(model, **more)
        self._send = send
        self._stream = stream
        self._summarize = summarize

    async def ask(self, content: Content = None) -> Reply:
        messages = self._begin(content)
        try:
            fit = await self._prepare(messages)
            reply = await self._send(self._body(fit))
            self._answered(messages, fit, reply)
            return reply
        finally:
            self._is_busy = False

    async def stream(self, content: Content = None) -> AsyncIterator[str | Reply]:
        """Pieces of text, then the Reply. Left before its end, the question is not remembered."""
        if self._stream is None:
            raise ValueError("This conversation was made without a `stream`; use ask().")
        messages = self._begin(content)
        try:
            fit = await self._prepare(messages)
            async for piece in self._stream(self._body(fit)):
                if isinstance(piece, Reply):
                    self._answered(messages, fit, piece)
                yield piece
        finally:
            self._is_busy = False

    def fork(self) -> AsyncConversation:
        """Another one that goes on from here; neither sees what the other says from now on."""
        other = AsyncConversation(
            self._send, self.model, stream=self._stream, summarize=self._summarize, context_tokens=self.context_tokens
        )
        self._copy_to(other)
        return other

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        send: Send,
        *,
        stream: Stream | None = None,
        summarize: Summarize | None = None,
        model: str = "",
    ) -> AsyncConversation:
        """What `save` wrote, with another `model` if one is given. Raises ValueError for another kind of file."""
        talk = cls(send, "", stream=stream, summarize=summarize)
        talk._read(path, model)
        return talk

    async def _prepare(self, messages: list[Json]) -> Trimmed:
        """Summaries take room, so that more may have to go: until nothing is left out that no summary covers."""
        fit = self._fit(messages)
        while self._summarize is not None and (news := self._unsummarized(fit)):
            self._summarize_as(await self._summarize(self.summary, news), fit)
            fit = self._fit(messages)
        return fit


class Conversation(_Talk):
    """AsyncConversation's twin for programs without `await`."""

    def __init__(
        self,
        send: SyncSend,
        model: str,
        *,
        stream: SyncStream | None = None,
        summarize: SyncSummarize | None = None,
        **more: Any,
    ) -> None:
        super().__init__(model, **more)
        self._send = send
        self._stream = stream
        self._summarize = summarize

    def ask(self, content: Content = None) -> Reply:
        messages = self._begin(content)
        try:
            fit = self._prepare(messages)
            reply = self._send(self._body(fit))
            self._answered(messages, fit, reply)
            return reply
        finally:
            self._is_busy = False

    def stream(self, content: Content = None) -> Iterator[str | Reply]:
        if self._stream is None:
            raise ValueError("This conversation was made without a `stream`; use ask().")
        messages = self._begin(content)
        try:
            fit = self._prepare(messages)
            for piece in self._stream(self._body(fit)):
                if isinstance(piece, Reply):
                    self._answered(messages, fit, piece)
                yield piece
        finally:
            self._is_busy = False

    def fork(self) -> Conversation:
        other = Conversation(
            self._send, self.model, stream=self._stream, summarize=self._summarize, context_tokens=self.context_tokens
        )
        self._copy_to(other)
        return other

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        send: SyncSend,
        *,
        stream: SyncStream | None = None,
        summarize: SyncSummarize | None = None,
        model: str = "",
    ) -> Conversation:
        talk = cls(send, "", stream=stream, summarize=summarize)
        talk._read(path, model)
        return talk

    def _prepare(self, messages: list[Json]) -> Trimmed:
        fit = self._fit(messages)
        while self._summarize is not None and (news := self._unsummarized(fit)):
            self._summarize_as(self._summarize(self.summary, news), fit)
            fit = self._fit(messages)
        return fit


def _saved(path: str | os.PathLike[str]) -> Saved:
    try:
        saved = msgspec.json.decode(Path(path).read_bytes(), type=Saved)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ValueError(f"{os.fspath(path)} is no conversation that was saved: {error}.") from error
    if saved.naru != "conversation/1":
        raise ValueError(f"{os.fspath(path)} is a {saved.naru!r}; this version reads 'conversation/1'.")
    return saved
