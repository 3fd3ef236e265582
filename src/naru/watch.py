"""Whether a file was saved, by looking once a second: works on every file system, and whatever an editor does to save.

Editors write in place, or write another file and rename it; some write in pieces. So a change counts when the file looks the
same at two looks in a row, and only when its content is another.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

POLL_S = 1.0


class Look(NamedTuple):
    """How a file looks from outside. A rename shows in `inode`, a copied-back time in `changed_ns`."""

    written_ns: int
    changed_ns: int
    size: int
    inode: int


def look(path: Path | None) -> Look | None:
    """None where there is no such file."""
    try:
        found = path.stat() if path is not None else None
    except OSError:
        return None
    return None if found is None else Look(found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino)


def digest(path: Path | None) -> bytes | None:
    """Of its content; None where nothing can be read."""
    try:
        return hashlib.sha256(path.read_bytes()).digest() if path is not None else None
    except OSError:
        return None


class Saves:
    """`find` says which file it is at the moment. What it holds now counts as seen."""

    def __init__(self, find: Callable[[], Path | None]) -> None:
        self.find = find
        self.note()

    def note(self) -> None:
        """What the file holds now counts as seen: somebody reads it."""
        path = self.find()
        self._last = self._settled = look(path)
        self._digest = digest(path)

    def poll(self) -> bool:
        """Whether the file has been saved, and is whole, since this was last true. A file that is gone for two looks was
        saved too: whoever reads it then will say what is wrong."""
        path = self.find()
        seen, before = look(path), self._last
        self._last = seen
        if seen != before or seen == self._settled:
            return False
        self._settled = seen
        known, self._digest = self._digest, digest(path)
        return self._digest != known


class Watcher:
    """Polls in the running loop and calls `on_save`."""

    def __init__(self, saves: Saves, on_save: Callable[[], None], every_s: float = POLL_S) -> None:
        self.saves = saves
        self.on_save = on_save
        self.every_s = every_s
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self.every_s, self._poll)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _poll(self) -> None:
        self.start()
        if self.saves.poll():
            self.on_save()
