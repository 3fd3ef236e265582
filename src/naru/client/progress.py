"""A bar on stderr for a run of many prompts: done, failed, tokens a second, cost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from naru.client.fanout import Observe, Progress
from naru.clock import Clock


@contextmanager
def progress_bar(clock: Clock, console: Console | None = None) -> Iterator[Observe]:
    """What it yields is `fan_out`'s `observe`. Where stderr is no terminal there is no bar but one line at the end."""
    console = Console(stderr=True) if console is None else console
    bar = Bar(
        BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[figures]}"), TimeElapsedColumn(), TimeRemainingColumn(),
        console=console, disable=not console.is_terminal,
    )  # fmt: skip
    task = bar.add_task("", total=None, figures="")
    begun_s = clock.monotonic()
    last = Progress(total=0)

    def observe(progress: Progress) -> None:
        nonlocal last
        last = progress
        text = figures(progress, clock.monotonic() - begun_s)
        bar.update(task, total=progress.total, completed=progress.done, figures=text)

    try:
        with bar:
            yield observe
    finally:
        if not console.is_terminal:
            console.print(f"{last.done} of {last.total}  {figures(last, clock.monotonic() - begun_s)}", highlight=False)


def figures(progress: Progress, elapsed_s: float) -> str:
    """One line: "3 failed  12 retried  1,250 tokens/s  $0.0123"."""
    parts = [f"{progress.failed} failed"]
    if progress.resumed:
        parts.append(f"{progress.resumed} from the file")
    if progress.retried:
        parts.append(f"{progress.retried} retried")
    parts.append(f"{progress.tokens / elapsed_s if elapsed_s > 0 else 0:,.0f} tokens/s")
    parts.append(f"${progress.cost_nano / 1e9:.4f}")
    if progress.held_s > 1:
        parts.append(f"the server asks to wait {progress.held_s:.0f} s")
    return "  ".join(parts)
