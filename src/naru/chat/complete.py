"""What may stand where the cursor is: commands, models, tools, conversations, paths."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from msgspec import Struct

from naru.chat.commands import COMMANDS, EFFORTS

MAX_PATHS = 100
_AT = re.compile(r"(?:^|\s)@(\S*)$")


class Completion(Struct, frozen=True):
    """`text` takes the place of the last `replaced` characters before the cursor."""

    text: str
    replaced: int
    help: str = ""


#: command -> what may follow it.
Choices = dict[str, Callable[[], Sequence[str]]]


def completions(before: str, choices: Choices) -> Iterator[Completion]:
    """`before`: all that stands before the cursor."""
    command = re.fullmatch(r"/(\S*)", before)
    if command and "/" not in command[1]:
        for name, (_, text) in COMMANDS.items():
            if name.startswith(command[1].lower()):
                yield Completion(f"/{name}", len(before), text)
        return
    argument = re.fullmatch(r"/(\w+)\s+(.*)", before)
    if argument:
        yield from _of_argument(argument[1].lower(), argument[2], choices)
        return
    at = _AT.search(before)
    if at:
        yield from paths(at[1])


def may_complete(before: str) -> bool:
    return before.startswith("/") or _AT.search(before) is not None


def _of_argument(command: str, text: str, choices: Choices) -> Iterator[Completion]:
    if command in ("image", "save"):
        yield from paths(text)
    elif command == "think":
        yield from _beginning(("on", "off", "auto", "show", *EFFORTS), text)
    elif command == "tools":
        word = re.split(r"[,\s]", text)[-1]
        yield from _beginning([*choices["tools"](), "off"], word)
    elif command in choices:
        yield from _beginning(choices[command](), text)


def _beginning(names: Sequence[str], word: str) -> Iterator[Completion]:
    return (Completion(name, len(word)) for name in names if name.lower().startswith(word.lower()))


def paths(word: str) -> Iterator[Completion]:
    """Of files and folders; hidden ones where a dot is typed. A folder that cannot be read has none."""
    folder, _, start = word.rpartition("/")
    where = Path(f"{folder}/" if word.startswith("/") else folder or ".").expanduser()
    try:
        entries = sorted(os.scandir(where), key=lambda entry: entry.name)
    except OSError:
        return
    shown = [each for each in entries if each.name.startswith(start) and (start or not each.name.startswith("."))]
    for entry in shown[:MAX_PATHS]:
        yield Completion(f"{entry.name}/" if entry.is_dir() else entry.name, len(start))
