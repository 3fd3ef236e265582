"""As much of a terminal as a chat needs: a grid with wide letters, a cursor, scrollback, and the usual codes."""

from __future__ import annotations

import re
from collections.abc import Callable

from wcwidth import wcwidth

_TOKEN = re.compile(r"\x1b\[([0-9;?<>=]*)([@-~])|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[()].|\x1b[=>78M]|[\s\S]")


class Emulator:
    """`answer` gets what the terminal says back, of where its cursor is. A wide letter's second cell is empty."""

    def __init__(self, rows: int, columns: int, answer: Callable[[str], None]) -> None:
        self.rows, self.columns = rows, columns
        self.scrollback: list[str] = []
        self._answer = answer
        self._grid = [self._blank() for _ in range(rows)]
        self._row = self._column = 0
        self._held = ""

    @property
    def lines(self) -> list[str]:
        """All that was written, what has scrolled away first."""
        return [*self.scrollback, *map(_line, self._grid)]

    @property
    def text(self) -> str:
        return "\n".join(self.lines).rstrip()

    def feed(self, text: str) -> None:
        text, self._held = self._held + text, ""
        cut = re.search(r"\x1b(?:\[[0-9;?<>=]*|\][^\x07\x1b]*)?$", text)
        if cut:
            text, self._held = text[: cut.start()], cut[0]
        for match in _TOKEN.finditer(text):
            if match[2]:
                self._code(match[1], match[2])
            elif len(match[0]) == 1:
                self._letter(match[0])

    def _code(self, arguments: str, code: str) -> None:
        if not re.fullmatch(r"[0-9;]*", arguments):
            return  # modes
        numbers = [int(each or 0) for each in arguments.split(";")]
        most = max(1, numbers[0])
        if code == "A":
            self._row = max(0, self._row - most)
        elif code == "B":
            self._row = min(self.rows - 1, self._row + most)
        elif code == "C":
            self._column = min(self.columns - 1, self._column + most)
        elif code == "D":
            self._column = max(0, self._column - most)
        elif code == "H":
            self._row, self._column = most - 1, max(1, [*numbers, 1][1]) - 1
        elif code == "K":
            self._clear_line(numbers[0])
        elif code == "J":
            self._clear_below(numbers[0])
        elif code == "n" and numbers[0] == 6:
            self._answer(f"\x1b[{self._row + 1};{self._column + 1}R")

    def _letter(self, letter: str) -> None:
        if letter == "\n":
            self._down()
        elif letter == "\r":
            self._column = 0
        elif letter == "\b":
            self._column = max(0, self._column - 1)
        elif (width := wcwidth(letter)) > 0:
            if self._column + width > self.columns:
                self._column = 0
                self._down()
            self._grid[self._row][self._column : self._column + width] = [letter, *[""] * (width - 1)]
            self._column += width

    def _down(self) -> None:
        if self._row < self.rows - 1:
            self._row += 1
            return
        self.scrollback.append(_line(self._grid.pop(0)))
        self._grid.append(self._blank())

    def _clear_line(self, what: int) -> None:
        start, end = (
            (self._column, self.columns) if what == 0 else (0, self._column + 1) if what == 1 else (0, self.columns)
        )
        # On the last column the cursor stands on its letter, and takes it away: so do real terminals.
        start = min(start, self.columns - 1)
        self._grid[self._row][start:end] = [" "] * (end - start)

    def _clear_below(self, what: int) -> None:
        first = 0 if what == 2 else self._row + 1
        if what == 0:
            self._clear_line(0)
        for row in range(first, self.rows):
            self._grid[row] = self._blank()

    def _blank(self) -> list[str]:
        return [" "] * self.columns


def _line(cells: list[str]) -> str:
    return "".join(cells).rstrip()
