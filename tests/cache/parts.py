"""What the tests of the cache share: a client at the byte boundary, and answers."""

from __future__ import annotations

from naru.cache.answers import Cached, Saved
from naru.transport.exchange import HeaderList, Listener

SAVED = Saved(cost_nano=1_234_500, input=10, output=5, deployment="own/thing")
PLAIN: HeaderList = [(b"content-type", b"application/json")]
EVENTS: HeaderList = [(b"content-type", b"text/event-stream"), (b"x-accel-buffering", b"no")]


def cached(body: bytes = b'{"a":1}', made_at: float = 0.0, is_stream: bool = False) -> Cached:
    return Cached(tuple(PLAIN), body, is_stream, made_at, SAVED)


class Client:
    """See transport.Exchange. `body` is what arrived. It reads by itself; given a `room`, only so much until `read`.

    Words in an order that no server could send are an AssertionError.
    """

    method = "POST"
    path = "/v1/chat/completions"
    query = ""
    client = "127.0.0.1"
    payload = b"{}"

    def __init__(self, room: int | None = None) -> None:
        self.headers: HeaderList = []
        self.listener: Listener | None = None
        self.is_gone = False
        self.status = 0
        self.head: HeaderList = []
        self.body = b""
        self.is_finished = False
        self.is_cut = False
        self.is_paused = False
        self._room = room
        self._unread = 0

    def reply(self, status: int, headers: HeaderList, body: bytes) -> None:
        if self.is_gone:
            return
        self.start(status, headers)
        self.body = body
        self.is_finished = True

    def start(self, status: int, headers: HeaderList) -> None:
        if self.is_gone:
            return
        assert not self.status
        self.status, self.head = status, headers

    def write(self, data: bytes) -> None:
        if self.is_gone or not data:
            return
        assert self.status
        assert not self.is_over
        self.body += data
        self._unread += len(data)
        if self._room is not None and self._unread > self._room and not self.is_paused:
            self.is_paused = True
            if self.listener is not None:
                self.listener.on_pause()

    def finish(self) -> None:
        if self.is_gone:
            return
        assert self.status
        assert not self.is_over
        self.is_finished = True

    def cut(self) -> None:
        if self.is_gone:
            return
        assert self.status
        assert not self.is_over
        self.is_cut = True

    @property
    def is_over(self) -> bool:
        return self.is_finished or self.is_cut

    def read(self) -> None:
        """The client takes all that was sent to it."""
        self._unread = 0
        if self.is_paused:
            self.is_paused = False
            if self.listener is not None:
                self.listener.on_resume()

    def leave(self) -> None:
        self.is_gone = True
        if self.listener is not None:
            self.listener.on_gone()


class Source:
    """See transport.Listener: what the gateway's side hears of the client."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def on_pause(self) -> None:
        self.heard.append("pause")

    def on_resume(self) -> None:
        self.heard.append("resume")

    def on_gone(self) -> None:
        self.heard.append("gone")
