"""What a run shows of itself on stderr."""

from __future__ import annotations

import io

from rich.console import Console

from naru.client.fanout import Progress
from naru.client.progress import figures, progress_bar
from naru.testing import FakeClock

SEEN = Progress(total=10, done=10, failed=2, retried=3, tokens=4_000, cost_nano=12_300_000)


def shown(is_terminal: bool) -> str:
    text, clock = io.StringIO(), FakeClock()
    console = Console(file=text, force_terminal=is_terminal, width=200)
    with progress_bar(clock, console) as observe:
        observe(Progress(total=10))
        clock.advance(2)
        observe(SEEN)
    return text.getvalue()


def test_a_terminal_sees_a_bar_and_a_file_one_line() -> None:
    assert shown(False) == "10 of 10  2 failed  3 retried  2,000 tokens/s  $0.0123\n"
    assert "10/10" in shown(True)
    assert "2,000 tokens/s" in shown(True)


def test_a_hold_and_what_was_resumed_are_said() -> None:
    told = figures(Progress(total=9, done=4, resumed=3, held_s=20.0), 0.0)
    assert told == "0 failed  3 from the file  0 tokens/s  $0.0000  the server asks to wait 20 s"
