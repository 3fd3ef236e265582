"""What commands print: a table on a terminal, tab-separated lines in a pipe, JSON when asked."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.table import Table

from naru.control.money import usd, won

__all__ = ["Won", "milliseconds", "print_json", "print_table", "usd", "when"]

#: Figures: right-aligned and never broken over lines, however narrow the terminal.
RIGHT = frozenset(
    (
        "requests",
        "failed",
        "input",
        "output",
        "cached",
        "cost USD",
        "cost KRW",
        "amount USD",
        "amount KRW",
        "spent USD",
        "held USD",
        "left USD",
        "left KRW",
        "put in USD",
        "available USD",
        "available KRW",
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


def when(seconds: float | None) -> str:
    return "" if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def milliseconds(microseconds: int | None) -> str:
    return "" if microseconds is None else f"{microseconds / 1000:.1f} ms"


class Won:
    """A second column in won, where the gateway shows amounts in it. `fx` is its rate in words ("1390 KRW/USD"), or empty."""

    def __init__(self, fx: str) -> None:
        self.fx = fx

    def columns(self, *names: str) -> tuple[str, ...]:
        return names if self.fx else ()

    def cells(self, *nanos: int) -> tuple[str, ...]:
        return tuple(won(nano, Decimal(self.fx.partition(" ")[0])) for nano in nanos) if self.fx else ()

    def name_the_rate(self) -> None:
        if self.fx:
            click.echo(f"KRW at {self.fx}.", err=True)


def _text(cell: Any) -> str:
    return "" if cell is None else str(cell)
