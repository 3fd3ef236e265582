"""The file that lets a run of many prompts go on where it was broken off: one JSON line for each finished prompt.

A line is in the file, whole, before its prompt counts as done: killing the process loses nothing that was answered. Against a
power cut the file is synced once a second and at the end. A last line that was torn is cut off; errors are tried again.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec
from msgspec import Struct

from naru.client.reply import Json, Outcome, Reply
from naru.clock import Clock
from naru.protocol.messages import Usage

SYNC_EVERY_S = 1.0
#: How each line begins: `index` is the first field of a Line.
LINE_START = b'{"index":'


class Failure(Struct, frozen=True, kw_only=True):
    type: str
    code: str | None
    message: str


class Line(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`key` is the prompt's (`key_of`). Either `error`, or the fields of the Reply. `cost_nano`: nano-dollars."""

    index: int
    key: str
    ok: bool
    attempts: int
    error: Failure | None = None
    text: str | None = None
    reasoning: str = ""
    message: dict[str, Any] = {}
    usage: Usage = Usage()
    cost_nano: int | None = None
    headers: dict[str, str] = {}


def key_of(body: Json, index: int) -> str:
    """The same for the same body at the same place, in every run. Raises TypeError for what is no JSON."""
    canonical = msgspec.json.encode([index, body], order="sorted")
    return hashlib.sha256(canonical).hexdigest()[:32]


class ResumeFile:
    """`replies` are those of earlier runs, by key. One process at a time. Raises ValueError where the file is of another kind or
    in use, OSError where it cannot be written. To be used in a `with`."""

    def __init__(self, path: str | os.PathLike[str], clock: Clock) -> None:
        self._path = Path(path)
        self._clock = clock
        self.replies: dict[str, Reply] = {}

    def __enter__(self) -> ResumeFile:
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        try:
            self._lock()
            os.ftruncate(self._file, self._read())
        except BaseException:
            os.close(self._file)
            raise
        self._synced_s = self._clock.monotonic()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            os.fsync(self._file)
        finally:
            os.close(self._file)

    def add(self, key: str, outcome: Outcome) -> None:
        rest = memoryview(msgspec.json.encode(_line(key, outcome)) + b"\n")
        while rest:
            rest = rest[os.write(self._file, rest) :]
        now_s = self._clock.monotonic()
        if now_s - self._synced_s >= SYNC_EVERY_S:
            os.fsync(self._file)
            self._synced_s = now_s

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(
                f"Another run is writing to {self._path}. Wait for its end, or give this one a file of its own."
            ) from None

    def _read(self) -> int:
        """Fills `replies`; gives the length up to and with the last whole line."""
        data = self._path.read_bytes()
        *lines, torn = data.split(b"\n")
        for number, text in enumerate(lines, 1):
            try:
                line = msgspec.json.decode(text, type=Line)
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                raise self._foreign(number, str(error)) from None
            if line.ok:
                self.replies[line.key] = _reply(line)
        if not torn.startswith(LINE_START[: len(torn)]):  # somebody's own text, without a line's end
            raise self._foreign(len(lines) + 1, "it does not begin as one")
        return len(data) - len(torn)

    def _foreign(self, number: int, why: str) -> ValueError:
        return ValueError(
            f"{self._path} cannot be resumed from: line {number} is not one of a run like this ({why}). Name another file, or "
            "remove the line."
        )


def _line(key: str, outcome: Outcome) -> Line:
    index, attempts, error, reply = outcome.index, outcome.attempts, outcome.error, outcome.reply
    if reply is None:
        assert error is not None, "an outcome has a reply or an error"
        failure = Failure(type=type(error).__name__, code=error.code, message=error.message)
        return Line(index=index, key=key, ok=False, attempts=attempts, error=failure)
    kept = {
        name: value for name, value in reply.headers.items() if name == "x-request-id" or name.startswith("x-naru-")
    }
    return Line(
        index=index, key=key, ok=True, attempts=attempts, text=reply.text, reasoning=reply.reasoning, message=reply.message,
        usage=reply.usage, cost_nano=reply.cost_nano, headers=kept,
    )  # fmt: skip


def _reply(line: Line) -> Reply:
    return Reply(
        text=line.text or "", reasoning=line.reasoning, message=line.message, usage=line.usage, cost_nano=line.cost_nano,
        headers=line.headers,
    )  # fmt: skip
