"""What the sandbox needs of a protocol to answer in it. wire.OpenAI is the first; each other one is a file beside it.

A protocol is read into OpenAI's request, which is what the sandbox's models know, and the answer is written from their tokens.
Reading is as strict as the real service: what that refuses, the sandbox refuses with the same status and code.
"""

from __future__ import annotations

from typing import Any, Protocol

from naru.errors import NaruError
from naru.testing.http import Headers, Received
from naru.testing.sandbox.answers import Answer
from naru.testing.sandbox.behaviour import MODELS
from naru.testing.sandbox.request import ChatRequest
from naru.testing.sandbox.wire import Step


class Frame(Protocol):
    """How one answer is written, whole or as a stream."""

    @property
    def id(self) -> str: ...

    def whole(self, answer: Answer, n: int, top_logprobs: int | None, usage: Any) -> bytes: ...
    def opening(self, answer: Answer, n: int) -> bytes: ...
    def step(self, step: Step) -> bytes: ...

    def closing(self, answer: Answer, n: int, told: Any, is_twice: bool) -> bytes:
        """The finish and the usage `told`; `is_twice`: half of it comes before."""
        ...

    def done(self) -> bytes: ...
    def garbage(self) -> bytes: ...
    def failure(self, status: int) -> bytes: ...


class Speech(Protocol):
    """One protocol."""

    stream_type: str

    def read(self, received: Received) -> ChatRequest:
        """Raises a NaruError for what the service would refuse."""
        ...

    def frame(self, number: int, request: ChatRequest, created: int) -> Frame:
        """`number` counts the sandbox's requests, so that ids repeat in every run; `created` is in Unix seconds."""
        ...

    def refusal(self, failure: NaruError) -> tuple[int, Headers, bytes]:
        """(status, headers beside the content type, body)."""
        ...

    def fault(self, status: int) -> tuple[Headers, bytes]:
        """The error that a behaviour asks for."""
        ...


def behaviour_of(model: str) -> tuple[str, str]:
    """Splits a provider's model name that ends in one of ours: `HCX-007-think?tps=5` -> (`HCX-007`, `think?tps=5`).

    Where a protocol's models differ, the first part says which rules hold, the second what is said.
    """
    given, mark, query = model.partition("?")
    base, _, name = given.rpartition("-")
    return (base, name + mark + query) if name in MODELS else (given, "echo" + mark + query)
