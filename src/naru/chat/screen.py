"""Where a chat is shown: a terminal with its colours, or plain text in a stream."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import termios
from collections.abc import Callable, Iterator
from typing import IO, Protocol

from rich.console import Console, RenderableType
from rich.text import Text

from naru.agent.events import Content, RunEvent, ToolComplete, ToolResult, UsageSoFar
from naru.chat.blocks import harmless
from naru.chat.paint import STYLES, lines_of, picture, repaint, tail_lines
from naru.chat.view import ARGUMENTS_CHARS, Called, Result, Shown, Tail, View, few_lines, in_short

#: Left free below a tail, and beside it: a terminal scrolls, and wraps, at its very edge.
MARGIN = 2
_CALLS = (Called, Result)


class Screen(Protocol):
    """`feed` and `tick` come between `begin` and `end`; the others at any other time, or after `pause`."""

    def begin(self, now: float) -> None: ...

    def feed(self, event: RunEvent, now: float) -> None: ...

    def tick(self, now: float) -> None: ...

    def pause(self) -> None: ...

    def end(self, now: float) -> None: ...

    def note(self, text: str) -> None: ...

    def error(self, text: str) -> None: ...

    def show(self, thing: RenderableType) -> None: ...


class Terminal:
    """What is finished is written once and scrolls away as any other output; below it the unfinished part is repainted."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._view = View(0.0)
        self._pending: list[Shown] = []
        self._tail: list[str] = []
        self._last: type | None = None
        #: Lines of the unfinished block that had to scroll away before it was finished.
        self._gone = 0

    def begin(self, now: float) -> None:
        self._view, self._pending, self._tail, self._last, self._gone = View(now), [], [], None, 0
        self._write("\x1b[?25l")
        self.tick(now)

    def feed(self, event: RunEvent, now: float) -> None:
        self._pending += self._view.feed(event, now)
        if self._pending:
            self.tick(now)

    def tick(self, now: float) -> None:
        self._paint(self._view.tail(now))

    def pause(self) -> None:
        self._paint(None)

    def end(self, now: float) -> None:
        self._pending += self._view.close(now)
        self._paint(None)
        self._write("\x1b[?25h")

    def note(self, text: str) -> None:
        self.show(Text(text, style="chat.note"))

    def error(self, text: str) -> None:
        self.show(Text(text, style="chat.error"))

    def show(self, thing: RenderableType) -> None:
        self._console.print(thing)

    def _paint(self, tail: Tail | None) -> None:
        width = max(20, self._console.width - 1)
        done = [line for shown in self._pending for line in self._finished(shown, width)]
        self._pending = []
        room = max(1, self._console.height - MARGIN)
        lines: list[str] = []
        if tail is not None:
            lines = [*self._gap(type(tail)), *tail_lines(self._console, tail, width)]
            is_prose = tail.kind == "writing"
            lines = lines[self._gone if is_prose else 0 :]
            if len(lines) > room:
                scrolled = lines[:-room]
                self._gone += len(scrolled) if is_prose else 0
                done += scrolled if is_prose else []
                lines = lines[-room:]
        self._write(repaint(self._tail, [*done, *lines]))
        self._tail = lines

    def _finished(self, shown: Shown, width: int) -> list[str]:
        lines = [*self._gap(type(shown)), *lines_of(self._console, picture(shown), width)]
        gone, self._gone = self._gone, 0
        self._last = type(shown)
        return lines[gone:]

    def _gap(self, kind: type) -> list[str]:
        """A blank line before everything but what belongs to a call."""
        return [] if kind in _CALLS and self._last in _CALLS else [""]

    def _write(self, text: str) -> None:
        if text:
            self._console.file.write(text)
            self._console.file.flush()


class Plain:
    """The answer's text on one stream as it comes, everything else on another."""

    def __init__(self, out: IO[str], err: IO[str]) -> None:
        self._out, self._err = out, err
        self._is_open = False
        self._is_one = out.isatty() and err.isatty()
        self._has_gap = self._has_said = False

    def begin(self, now: float) -> None:
        self._is_open = self._has_gap = self._has_said = False

    def feed(self, event: RunEvent, now: float) -> None:
        if isinstance(event, Content):
            if self._has_gap:
                self._say(self._out, "\n")
                self._has_gap = False
            self._say(self._out, harmless(event.text) if self._out.isatty() else event.text)
            self._is_open = not event.text.endswith("\n")
            self._has_said = True
        elif isinstance(event, ToolComplete):
            self._line(f"[{event.name} {in_short(event.raw or '{}', ARGUMENTS_CHARS)}]")
        elif isinstance(event, ToolResult):
            self._line(f"[{event.name} -> {'error: ' if event.is_error else ''}{few_lines(event.text)}]")
        elif isinstance(event, UsageSoFar) and self._has_said:
            self._finish_line()
            self._has_gap = True

    def tick(self, now: float) -> None:
        pass  # nothing moves in plain text

    def pause(self) -> None:
        self._finish_line()

    def end(self, now: float) -> None:
        self._finish_line()

    def note(self, text: str) -> None:
        self._line(text)

    def error(self, text: str) -> None:
        self._line(text)

    def show(self, thing: RenderableType) -> None:
        Console(file=self._err, no_color=True, highlight=False, force_terminal=False, theme=STYLES).print(thing)

    def _line(self, text: str) -> None:
        if self._is_one:
            self._finish_line()
        self._say(self._err, f"{text}\n")

    def _finish_line(self) -> None:
        if self._is_open:
            self._say(self._out, "\n")
            self._is_open = False

    @staticmethod
    def _say(stream: IO[str], text: str) -> None:
        stream.write(text)
        stream.flush()


def screen_of(console: Console) -> Screen:
    """Plain where colours are not wanted (NO_COLOR), or the terminal cannot move its cursor."""
    if console.is_terminal and not console.is_dumb_terminal and not console.no_color:
        return Terminal(console)
    return Plain(sys.stdout, sys.stderr)


@contextlib.contextmanager
def on_interrupt(stop: Callable[[], None]) -> Iterator[None]:
    """Ctrl-C calls this, instead of ending the program."""
    loop = asyncio.get_running_loop()
    before = signal.getsignal(signal.SIGINT)
    loop.add_signal_handler(signal.SIGINT, stop)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGINT)
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def keys_held() -> Iterator[None]:
    """While an answer is written, what is typed waits for the next prompt and is not shown in the middle of it. Ctrl-C works."""
    if not sys.stdin.isatty():
        yield
        return
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    held = termios.tcgetattr(descriptor)
    held[0] &= ~termios.ICRNL
    held[3] &= ~(termios.ECHO | termios.ICANON)
    termios.tcsetattr(descriptor, termios.TCSADRAIN, held)
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
