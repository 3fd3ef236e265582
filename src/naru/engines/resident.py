"""Resident memory of a process and all that it started, from /proc. Pages that processes share count for each of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

PROC = Path("/proc")


def resident_bytes(pid: int) -> int | None:
    """Of the processes of the session that `pid` leads, and of their descendants. None where the system has no /proc."""
    table = list(_processes())
    if not table:
        return None
    tree = {each for each, _, session, _ in table if session == pid or each == pid}
    size = -1
    while len(tree) > size:
        size = len(tree)
        tree |= {each for each, parent, _, _ in table if parent in tree}
    return sum(pages for each, _, _, pages in table if each in tree) * os.sysconf("SC_PAGE_SIZE")


def _processes() -> Iterator[tuple[int, int, int, int]]:
    """(id, parent, session, resident pages) of each; proc_pid_stat(5) has the fields."""
    if not PROC.is_dir():
        return
    for entry in os.scandir(PROC):
        if not entry.name.isdigit():
            continue
        try:
            text = (PROC / entry.name / "stat").read_bytes()
        except OSError:
            continue  # it has ended meanwhile
        fields = text[text.rindex(b")") + 2 :].split()  # the name before it may hold anything
        yield int(entry.name), int(fields[1]), int(fields[3]), int(fields[21])
