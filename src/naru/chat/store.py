"""Conversations on disk: NARU_HOME/chats/NAME.json, for their owner's eyes only."""

from __future__ import annotations

import os
import re
from datetime import datetime
from pathlib import Path

import msgspec

from naru.chat.conversation import Chat
from naru.errors import BadRequest, NotFound

_NAME = re.compile(r"[\w][\w.\- ]{0,99}")
SUFFIX = ".json"


class Store:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def names(self) -> list[str]:
        """The latest first."""
        files = sorted(self.folder.glob(f"*{SUFFIX}"), key=lambda file: file.stat().st_mtime_ns, reverse=True)
        return [file.stem for file in files]

    def has(self, name: str) -> bool:
        return self._file(name).is_file()

    def load(self, name: str) -> Chat:
        """By name, or from a file. Raises NotFound, and BadRequest for what is none."""
        file = Path(name).expanduser() if name.endswith(SUFFIX) or "/" in name else self._file(name)
        try:
            chat = Chat.load(file.read_bytes())
        except FileNotFoundError:
            known = ", ".join(self.names()[:5]) or "none yet"
            raise NotFound(f"There is no saved conversation {name!r}. The latest: {known}.") from None
        except (OSError, msgspec.DecodeError) as error:
            raise BadRequest(f"{file} is no saved conversation: {error}.") from error
        return chat

    def latest(self) -> Chat | None:
        names = self.names()
        return self.load(names[0]) if names else None

    def save(self, chat: Chat) -> None:
        """Whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_private(self._file(chat.name), chat.dump())

    def new_name(self, now: datetime) -> str:
        name = now.strftime("%Y-%m-%d-%H%M%S")
        taken = set(self.names())
        return next(each for each in (name, *(f"{name}-{n}" for n in range(2, 1000))) if each not in taken)

    def _file(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise BadRequest(f"{name!r} is no name for a conversation: letters, digits, dots, dashes and spaces are.")
        return self.folder / f"{name}{SUFFIX}"


def write_private(file: Path, data: bytes) -> None:
    """Mode 0600 from its first byte on."""
    beside = file.with_name(f".{file.name}.{os.getpid()}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as opened:
        opened.write(data)
    beside.replace(file)
