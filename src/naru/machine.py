"""This machine's memory, how much and how fast. The only part of `models fit` that looks at anything."""

from __future__ import annotations

import re
import time
from pathlib import Path

from naru.errors import ConfigError

MEMINFO = Path("/proc/meminfo")
#: The limit of the container, where there is one.
CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")
CGROUP_USED = Path("/sys/fs/cgroup/memory.current")
#: Far larger than any cache that one core fills, small enough for every machine.
COPIED_BYTES = 96 << 20
TRIES = 5
LIMIT_S = 1.0


def memory_bytes(meminfo: Path = MEMINFO, limit: Path = CGROUP_LIMIT) -> int:
    """All of the machine's memory, or what the container may have of it."""
    total, allowed = _meminfo(meminfo, "MemTotal"), _number(limit)
    return total if allowed is None else min(total, allowed)


def free_bytes(meminfo: Path = MEMINFO, limit: Path = CGROUP_LIMIT, used: Path = CGROUP_USED) -> int:
    """What a new process may take now without anything being swapped out, or what the container has left."""
    free, allowed, taken = _meminfo(meminfo, "MemAvailable"), _number(limit), _number(used)
    return free if allowed is None or taken is None else max(0, min(free, allowed - taken))


def _meminfo(meminfo: Path, name: str) -> int:
    """Bytes. Raises ConfigError where the system does not say."""
    try:
        match = re.search(rf"^{name}:\s+(\d+) kB", meminfo.read_text(), re.MULTILINE)
    except OSError as error:
        raise ConfigError(
            f"{meminfo} cannot be read ({error.strerror}); say how much memory there is: --memory 16GiB."
        ) from error
    if match is None:
        raise ConfigError(f"{meminfo} does not say {name}; say how much memory there is: --memory 16GiB.")
    return int(match[1]) * 1024


def _number(file: Path) -> int | None:
    """None where there is no such file on this system, and for "max"."""
    try:
        text = file.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdecimal() else None


def copy_bandwidth(size: int = COPIED_BYTES, limit_s: float = LIMIT_S) -> int:
    """Bytes a second that one thread reads and writes when it copies memory, the best of a few tries within `limit_s`.

    A lower bound of what the machine can: several threads move more, and an engine mostly reads.
    """
    source, target = bytearray(size), bytearray(size)
    into = memoryview(target)
    best, until = 0.0, time.perf_counter() + limit_s
    for _ in range(TRIES + 1):  # the first one pays for the pages
        began = time.perf_counter()
        into[:] = source
        took = time.perf_counter() - began
        best = max(best, 2 * size / took if took else 0.0)
        if time.perf_counter() > until:
            break
    return int(best)
