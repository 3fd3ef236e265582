"""The table: each figure for each target, the goal it has, and the ratio to nginx of the same run."""

from __future__ import annotations

import math

import msgspec
from rich.console import Console
from rich.table import Table

from bench.measures import Figures


class Row(msgspec.Struct, frozen=True):
    """`goal` and `ratio` are upper bounds (performance.md); `is_added` shows the figure less the direct one."""

    label: str
    figure: str
    unit: str
    goal: float | None = None
    ratio: float | None = None
    is_added: bool = False
    digits: int = 1


ROWS = (
    Row("CPU per plain request", "cpu_us_per_request", "us", goal=110, ratio=2.5),
    Row("plain requests, 32 connections", "requests_per_s", "/s", digits=0),
    Row("CPU per streamed chunk, 200 streams", "cpu_us_per_chunk", "us", goal=32, ratio=1.6),
    Row("chunks relayed", "chunks_per_s", "/s", digits=0),
    Row("CPU per translated chunk (Anthropic to OpenAI)", "translated_cpu_us_per_chunk", "us", goal=60),
    Row("added latency at 1,000/s, p50", "latency_p50_ms", "ms", goal=0.5, is_added=True, digits=2),
    Row("added latency at 1,000/s, p99", "latency_p99_ms", "ms", goal=3, is_added=True, digits=2),
    Row("added time to first token at 200 streams, p50", "ttft_p50_ms", "ms", goal=1, is_added=True, digits=2),
    Row("added time to first token at 200 streams, p99", "ttft_p99_ms", "ms", goal=10, is_added=True, digits=2),
    Row("memory, idle", "rss_idle_mb", "MB", goal=90),
    Row("memory, 1,000 open streams", "rss_streams_mb", "MB", goal=160),
    Row("cold start to first answer", "cold_start_s", "s", goal=0.8, digits=3),
)


def value(row: Row, name: str, measured: dict[str, Figures]) -> float | None:
    """A target's figure for a row, or None when there is none."""
    found = measured.get(name, {}).get(row.figure)
    if found is None or math.isnan(found):
        return None
    if not row.is_added:
        return found
    direct = measured.get("direct", {}).get(row.figure)
    return None if direct is None else found - direct


def verdict(row: Row, measured: dict[str, Figures]) -> tuple[str, float | None]:
    """("met" | "missed" | "", Naru's ratio to nginx). Added times have no ratio: nginx's are often nothing."""
    ours, theirs = value(row, "naru", measured), value(row, "nginx", measured)
    ratio = ours / theirs if ours is not None and theirs and not row.is_added else None
    if ours is None or (row.goal is None and row.ratio is None):
        return "", ratio
    is_missed = row.goal is not None and ours > row.goal
    is_missed = is_missed or (row.ratio is not None and ratio is not None and ratio > row.ratio)
    return "missed" if is_missed else "met", ratio


def table(measured: dict[str, Figures]) -> Table:
    made = Table(title="Naru benchmark", title_justify="left")
    made.add_column("figure")
    names = [name for name in ("nginx", "naru") if name in measured]
    for name in names:
        made.add_column(name, justify="right")
    for title in ("naru / nginx", "goal", ""):
        made.add_column(title, justify="right")
    for row in ROWS:
        figures = [value(row, name, measured) for name in names]
        shown = ["-" if figure is None else f"{figure:,.{row.digits}f} {row.unit}" for figure in figures]
        result, ratio = verdict(row, measured)
        goals = [f"<= {row.goal:g} {row.unit}"] if row.goal is not None else []
        goals += [f"<= {row.ratio:g}x"] if row.ratio is not None else []
        colour = {"met": "green", "missed": "red"}.get(result, "")
        marked = f"[{colour}]{result}[/{colour}]" if colour else ""
        made.add_row(row.label, *shown, "-" if ratio is None else f"{ratio:.2f}x", ", ".join(goals), marked)
    return made


def errors(measured: dict[str, Figures]) -> dict[str, int]:
    """Wrong or missing answers, by target, measure and kind. A figure with errors beside it is not to be trusted."""
    return {
        f"{name}, {figure}": int(count)
        for name, figures in measured.items()
        for figure, count in figures.items()
        if " errors: " in figure
    }


def show(measured: dict[str, Figures], console: Console) -> None:
    console.print(table(measured))
    for where, count in errors(measured).items():
        console.print(f"{where}: {count}", style="red", markup=False)
