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
    try:
        match = re.search(r"^MemTotal:\s+(\d+) kB", meminfo.read_text(), re.MULTILINE)
    except OSError as error:
        raise ConfigError(
            f"{meminfo} cannot be read ({error.strerror}); say how much memory there is: --memory 16GiB."
        ) from error
    if match is None:
        raise ConfigError(f"{meminfo} does not say MemTotal; say how much memory there is: --memory 16GiB.")
    total = int(match[1]) * 1024
    try:
        allowed = limit.read_text().strip()
    except OSError:  # no such limit on this system
        return total
    return min(total, int(allowed)) if allowed.isdecimal() else total


def free_bytes(meminfo: Path = MEMINFO, limit: Path = CGROUP_LIMIT, used: Path = CGROUP_USED) -> int:
    """Of that, what programs can have now: caches of files count as free."""
    total = memory_bytes(meminfo, limit)
    match = re.search(r"^MemAvailable:\s+(\d+) kB", meminfo.read_text(), re.MULTILINE)
    available = int(match[1]) * 1024 if match else total
    try:
        return min(available, int(limit.read_text()) - int(used.read_text()))
    except (OSError, ValueError):  # no limit, or none that is a number ("max")
        return available


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
