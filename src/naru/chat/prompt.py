"""The line that is written: prompt_toolkit with history, completion, and keys as other chats have them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.application import get_app
from prompt_toolkit.completion import CompleteEvent, Completer
from prompt_toolkit.completion import Completion as Offer
from prompt_toolkit.document import Document
from prompt_toolkit.filters import Condition
from prompt_toolkit.formatted_text import ANSI
from prompt_toolkit.history import FileHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.output import ColorDepth
from prompt_toolkit.styles import Style

from naru.chat.complete import Choices, completions, may_complete

STYLE = Style.from_dict({"rprompt": "fg:ansibrightblack"})
PROMPT, MORE = "› ", "  "


class Prompt:
    """`beside` stands at the right of an empty prompt."""

    def __init__(self, history: Path, choices: Choices, beside: Callable[[], str], is_plain: bool) -> None:
        _private(history)
        self._session: PromptSession[str] = PromptSession(
            history=FileHistory(str(history)),
            completer=_Completer(choices),
            # Room for the menu is kept free below the line; only where something may be offered.
            complete_while_typing=Condition(
                lambda: may_complete(self._session.default_buffer.document.text_before_cursor)
            ),
            multiline=True,
            prompt_continuation=MORE,
            key_bindings=_keys(),
            rprompt=None if is_plain else lambda: "" if get_app().is_done else beside(),
            style=STYLE,
            color_depth=ColorDepth.DEPTH_1_BIT if is_plain else None,
        )
        self._message = PROMPT if is_plain else ANSI(f"\x1b[1;36m{PROMPT}\x1b[0m")

    async def line(self, default: str = "") -> str:
        """May have several lines. Raises EOFError for Ctrl-D, and KeyboardInterrupt for Ctrl-C, on an empty one."""
        return await self._session.prompt_async(self._message, default=default)


async def choose(question: str) -> str:
    """The first letter of what is answered, small. Raises EOFError and KeyboardInterrupt."""
    session: PromptSession[str] = PromptSession()
    return (await session.prompt_async(question)).strip().lower()[:1]


def _keys() -> KeyBindings:
    keys = KeyBindings()

    @keys.add("enter")
    def send(event: KeyPressEvent) -> None:
        event.current_buffer.validate_and_handle()

    @keys.add("escape", "enter")
    @keys.add("c-j")
    def new_line(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    @keys.add("c-c")
    def clear_or_leave(event: KeyPressEvent) -> None:
        if event.current_buffer.text:
            event.current_buffer.reset()
        else:
            event.app.exit(exception=KeyboardInterrupt())

    return keys


class _Completer(Completer):
    def __init__(self, choices: Choices) -> None:
        self._choices = choices

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Offer]:
        for each in completions(document.text_before_cursor, self._choices):
            yield Offer(each.text, start_position=-each.replaced, display_meta=each.help)


def _private(file: Path) -> None:
    """What was typed is its owner's business."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    os.close(os.open(file, os.O_RDWR | os.O_CREAT, 0o600))
