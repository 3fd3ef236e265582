"""Child processes under measurement: started on a core of their own, and what /proc says of them and their children."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def cores() -> tuple[set[int], set[int]]:
    """The cores for what is measured, and for load and upstream: one each where there are two, else all for both."""
    usable = sorted(os.sched_getaffinity(0))
    return ({usable[0]}, {usable[1]}) if len(usable) > 1 else (set(usable), set(usable))


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class Child:
    """A program in its own process group, pinned; output goes to a file, shown when it fails."""

    def __init__(self, command: Sequence[str], *, log: Path, core: set[int], environment: dict[str, str]) -> None:
        self._log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                start_new_session=True,
                preexec_fn=lambda: os.sched_setaffinity(0, core),
            )

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def said(self) -> str:
        """The last lines of its output."""
        lines = self._log.read_text(errors="replace").strip().splitlines() if self._log.exists() else []
        return "\n".join(lines[-15:])

    def stop(self, within_s: float = 5.0) -> None:
        for how in (signal.SIGTERM, signal.SIGKILL):
            if self.is_running:
                os.killpg(self._process.pid, how)
            try:
                self._process.wait(within_s)
                return
            except subprocess.TimeoutExpired:
                continue

    def pids(self) -> list[int]:
        """The process and all that descend from it."""
        children: dict[int, list[int]] = {}
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rpartition(")")[2].split()
            except OSError:
                continue  # it ended while we looked
            children.setdefault(int(fields[1]), []).append(int(stat.parent.name))
        found = [self._process.pid]
        for pid in found:
            found.extend(children.get(pid, []))
        return found

    def cpu_s(self) -> float:
        """User and system time of the tree's threads so far, in seconds.

        The scheduler's own count (nanoseconds) where the kernel keeps one. The figures of /proc/PID/stat are sampled at
        the clock tick on most kernels, and work that is paced by timers, as streams are, falls in step with the tick.
        """
        pids = self.pids()
        exact = [_scheduled_s(pid) for pid in pids]
        return sum(exact) if all(exact) else sum(_ticked_s(pid) for pid in pids)

    def rss_bytes(self) -> int:
        """Resident memory of the tree; pages that processes share are counted for each."""
        return sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in self.pids()) * _PAGE_BYTES


def _scheduled_s(pid: int) -> float:
    total = 0
    for file in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        try:
            total += int(file.read_text().split()[0])
        except (OSError, ValueError):
            continue  # a thread that ended while we looked
    return total / 1e9


def _ticked_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
