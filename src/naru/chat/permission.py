"""Asking before a tool call that needs it."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from naru.agent.loop import Approve
from naru.chat.prompt import choose
from naru.chat.view import ARGUMENTS_CHARS, in_short

SHOWN_CHARS = 4000


class Permission:
    """What was allowed always holds until the program ends."""

    def __init__(self, note: Callable[[str], None], stop: Callable[[], None]) -> None:
        self._note = note
        self._stop = stop
        self._always: set[str] = set()

    async def ask(self, action: Approve) -> bool:
        if action.name in self._always:
            return True
        arguments = in_short(msgspec.json.encode(action.arguments).decode(), SHOWN_CHARS)
        if len(arguments) > ARGUMENTS_CHARS:  # else they stand on the screen just above
            self._note(f"{action.name} {arguments}")
        try:
            while (said := await choose(f"Allow {action.name}? [y]es, [n]o, [a]lways: ")) not in ("y", "n", "a"):
                pass  # an empty line is no answer to this
        except EOFError:
            return False
        except KeyboardInterrupt:
            self._stop()
            return False
        if said == "a":
            self._always.add(action.name)
        return said != "n"
