"""One HTTP request and its answer, as the gateway sees them, whichever server carries them.

Two implementations: `fast.FastExchange` writes to uvicorn's transport directly; `asgi.AsgiExchange` speaks plain ASGI. Both
pass the same contract suite. The gateway calls `reply` once, or `start`, `write`… and `finish`.
"""

from __future__ import annotations

from typing import Protocol

HeaderList = list[tuple[bytes, bytes]]


class Listener(Protocol):
    """Whoever produces a streamed answer, told how the client takes it."""

    def on_pause(self) -> None: ...

    def on_resume(self) -> None: ...

    def on_gone(self) -> None:
        """The client closed the connection; nothing written from now on arrives."""
        ...


class Exchange(Protocol):
    """`path` is without the query, `query` without its question mark. `headers` have lower-case names. `client` is the peer's
    address, "" when unknown."""

    method: str
    path: str
    query: str
    headers: HeaderList
    client: str
    listener: Listener | None

    @property
    def is_gone(self) -> bool: ...

    @property
    def payload(self) -> bytes:
        """The request body, whole."""
        ...

    def reply(self, status: int, headers: HeaderList, body: bytes) -> None: ...

    def start(self, status: int, headers: HeaderList) -> None: ...

    def write(self, data: bytes) -> None: ...

    def finish(self) -> None: ...

    def cut(self) -> None:
        """Ends an answer that was started in a way that no client takes for its end: the connection is closed inside it."""
        ...
