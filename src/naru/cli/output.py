"""What commands print: a table on a terminal, tab-separated lines in a pipe, JSON when asked."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.table import Table

#: Figures: right-aligned and never broken over lines, however narrow the terminal.
RIGHT = frozenset(
    (
        "requests",
        "failed",
        "input",
        "output",
        "cached",
        "cost USD",
        "mean latency",
        "mean TTFT",
        "latency",
        "TTFT",
        "context",
    )
)


def print_json(value: object) -> None:
    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], empty: str) -> None:
    """Rich table on a terminal; plain tab-separated text otherwise, with the column names first."""
    texts = [[_text(cell) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        for line in (list(columns), *texts):
            click.echo("\t".join(line))
        return
    if not texts:
        click.echo(empty)
        return
    table = Table(header_style="bold", box=None, pad_edge=False)
    for column in columns:
        is_figure = column in RIGHT
        table.add_column(column, justify="right" if is_figure else "left", no_wrap=is_figure, overflow="fold")
    for line in texts:
        table.add_row(*line)
    Console().print(table)


def usd(nano: int) -> str:
    """Nano-dollars as people write them: exact, with at least two decimals."""
    whole, part = divmod(nano, 1_000_000_000)
    decimals = f"{part:09d}".rstrip("0").ljust(2, "0")
    return f"{whole}.{decimals}"


def when(seconds: float | None) -> str:
    return "" if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def milliseconds(microseconds: int | None) -> str:
    return "" if microseconds is None else f"{microseconds / 1000:.1f} ms"


def _text(cell: Any) -> str:
    return "" if cell is None else str(cell)
