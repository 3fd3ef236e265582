"""What comes back: a Reply to one request, and the Outcome of one of many prompts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from decimal import Decimal
from typing import Any

from msgspec import Struct

from naru.agent.run import usd
from naru.errors import NaruError
from naru.protocol.messages import Usage

Json = dict[str, Any]


class Reply(Struct, frozen=True, kw_only=True):
    """One answer. `message` is the assistant's, as chat completions have it. `cost_nano`: nano-dollars, None where nobody said
    what it cost. `headers` have lower-case names."""

    text: str
    message: Json
    reasoning: str = ""
    usage: Usage = Usage()
    cost_nano: int | None = None
    headers: Mapping[str, str] = {}

    @property
    def cost_usd(self) -> Decimal | None:
        """Dollars, exact; None where nobody said what it cost."""
        return usd(self.cost_nano)


#: Sends one chat-completions body, once; raises NaruError.
Send = Callable[[Json], Awaitable[Reply]]


class NotSent(NaruError):
    """A prompt that was never sent, because what befell another one would befall it too. `cause` is that other error."""

    code: str | None = "not_sent"

    def __init__(self, cause: NaruError, index: int) -> None:
        super().__init__(f"Not sent: prompt {index} was refused for good, and this one would be too. {cause.message}")
        self.cause = cause
        self.status = cause.status
        self.type = cause.type
        self.fault = cause.fault


class Outcome(Struct, frozen=True, kw_only=True):
    """What became of one prompt: a `reply`, or an `error`.

        for outcome in outcomes:
            print(outcome.text if outcome.ok else outcome.error)

    `index` is the prompt's place; `attempts` how often it was sent. `was_resumed`: the reply was in the file already.
    `text`, `usage`, `message` and `reasoning` raise the error where there is no reply.
    """

    index: int
    reply: Reply | None = None
    error: NaruError | None = None
    attempts: int = 0
    was_resumed: bool = False

    @property
    def ok(self) -> bool:
        return self.reply is not None

    @property
    def text(self) -> str:
        return self._reply.text

    @property
    def reasoning(self) -> str:
        return self._reply.reasoning

    @property
    def message(self) -> Json:
        return self._reply.message

    @property
    def usage(self) -> Usage:
        return self._reply.usage

    @property
    def cost_nano(self) -> int | None:
        """Nano-dollars; an error costs nothing that we know of."""
        return None if self.reply is None else self.reply.cost_nano

    @property
    def cost_usd(self) -> Decimal | None:
        """Dollars, exact."""
        return usd(self.cost_nano)

    @property
    def _reply(self) -> Reply:
        if self.reply is None:
            assert self.error is not None, "an outcome has a reply or an error"
            raise self.error
        return self.reply
