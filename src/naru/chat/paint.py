"""How the view's things look on a terminal, and which escape codes turn one picture into the next."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import ClassVar

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.markdown import CodeBlock, Heading, Markdown, MarkdownElement
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text
from rich.theme import Theme

from naru.chat.view import Called, Prose, Result, Shown, Tail, Thought

THINKING_LINES = 5
FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
FRAMES_PER_S = 10
#: The sixteen colours of the terminal itself, so that a light one and a dark one both read well.
CODE_THEME = "ansi_dark"
STYLES = Theme(
    {
        "markdown.code": "cyan",
        "markdown.code_block": "none",
        "markdown.h1": "bold underline",
        "markdown.h2": "bold",
        "markdown.h3": "bold",
        "markdown.h4": "bold dim",
        "markdown.item.bullet": "cyan",
        "markdown.item.number": "cyan",
        "markdown.block_quote": "italic",
        "chat.thought": "dim italic",
        "chat.call": "cyan",
        "chat.note": "dim",
        "chat.error": "red",
    }
)
#: Padding up to the margin would come along with whatever is copied.
_PADDING = re.compile(r" +((?:\x1b\[[0-9;]*m)*)$")


class _Code(CodeBlock):
    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        code = str(self.text).rstrip()
        yield Syntax(
            code, self.lexer_name, theme=CODE_THEME, word_wrap=True, padding=(0, 2), background_color="default"
        )


class _Heading(Heading):
    """On the left, as everything else."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        self.text.justify = "left"
        yield self.text


class _Markdown(Markdown):
    """A line's end in an answer is one on the screen: chat models break lines where they mean it."""

    elements: ClassVar[dict[str, type[MarkdownElement]]] = {
        **Markdown.elements,
        "fence": _Code,
        "code_block": _Code,
        "heading_open": _Heading,
    }

    def __init__(self, text: str) -> None:
        super().__init__(text, code_theme=CODE_THEME)
        for token in self.parsed:
            for child in token.children or ():
                if child.type == "softbreak":
                    child.type = "hardbreak"


def lines_of(console: Console, thing: RenderableType, width: int) -> list[str]:
    """With their escape codes, without the spaces at their ends."""
    with console.capture() as captured:
        console.print(thing, width=width, end="")
    lines = [_PADDING.sub(r"\1", line) for line in captured.get().split("\n")]
    while lines and not lines[-1].strip():
        lines.pop()
    while lines and not lines[0].strip():
        lines.pop(0)
    return lines


def picture(shown: Shown) -> RenderableType:
    if isinstance(shown, Prose):
        return _Markdown(shown.text)
    if isinstance(shown, Thought):
        return Text(folded(shown), style="chat.thought")
    if isinstance(shown, Called):
        return beside("● ", Text.assemble((shown.name, "bold"), (f" {shown.arguments}", "chat.note")), "chat.call")
    return _result(shown)


def folded(thought: Thought) -> str:
    return f"✻ thought for {thought.seconds:.1f} s, {len(thought.text):,} characters (/think show)"


def _result(result: Result) -> RenderableType:
    style = "chat.error" if result.is_error else "chat.note"
    name = f"{result.name}: " if result.name else ""
    return beside("  └ ", Text(f"{name}{result.text}", style=style, overflow="fold"), style)


def beside(mark: str, thing: RenderableType, style: str) -> Table:
    """Lines that are broken stay right of the mark."""
    grid = Table.grid()
    grid.add_column(no_wrap=True, style=style)
    grid.add_column(overflow="fold")
    grid.add_row(mark, thing)
    return grid


def tail_lines(console: Console, tail: Tail, width: int) -> list[str]:
    frame = FRAMES[int(tail.seconds * FRAMES_PER_S) % len(FRAMES)]
    seconds = f" {int(tail.seconds)} s" if tail.seconds >= 1 else ""
    if tail.kind == "writing":
        return lines_of(console, _Markdown(tail.text), width)
    if tail.kind == "calling":
        called = Text.assemble((f"{frame} ", "chat.call"), (tail.text, "chat.note"))
        return lines_of(console, called, width)
    head = lines_of(
        console, Text(f"{frame}{' thinking' if tail.kind == 'thinking' else ''}{seconds}", "chat.note"), width
    )
    if tail.kind == "waiting":
        return head
    # Of long thoughts only the end can be on the screen: no more of them has to be wrapped.
    thoughts = tail.text[-THINKING_LINES * width :].strip()
    return head + lines_of(console, Text(thoughts, style="chat.thought"), width)[-THINKING_LINES:]


def repaint(old: Sequence[str], new: Sequence[str]) -> str:
    """Codes that turn the lines above the cursor from `old` into `new`; the cursor stands at the start of the line below.

    Lines that stay are not touched. The rest comes as one picture where the terminal knows how (mode 2026)."""
    same = 0
    while same < min(len(old), len(new)) and old[same] == new[same]:
        same += 1
    if same == len(old) == len(new):
        return ""
    up = len(old) - same
    moves = f"\x1b[{up}A" if up else ""
    # Each line is cleared before it is written: behind a full one the cursor still stands on its last letter.
    body = "".join(f"\r\x1b[K{line}\n" for line in new[same:])
    clear = "\r\x1b[J" if len(new) < len(old) else ""
    return f"\x1b[?2026h{moves}{body}{clear}\x1b[?2026l"
