"""The table: fault, expected, seen, verdict. What was not as specified is marked, and counted at the end."""

from __future__ import annotations

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tools.chaos.rows import DIFFERS, SKIPPED, Result

COLOURS = {DIFFERS: "bold red", SKIPPED: "yellow"}


def seen(result: Result) -> Text:
    """What was seen, in order; `!` stands before what is not as specified, for those who see no colours."""
    if result.look.skipped:
        return Text(result.look.skipped)
    text = Text()
    for each in result.look.found:
        if text:
            text.append("; ")
        text.append(each.words if each.is_right else f"! {each.words}", style="" if each.is_right else "bold red")
    return text


def table(results: list[Result]) -> Table:
    made = Table(title="Naru chaos catalogue", title_justify="left", show_lines=True)
    for title, width in (("fault", 36), ("expected", 27), ("seen", 36)):
        made.add_column(title, ratio=width, overflow="fold")
    made.add_column("verdict", width=12)
    for result in results:
        row = result.row
        verdict = Text(result.verdict, style=COLOURS.get(result.verdict, "green"))
        fault = Text.assemble((f"{row.fault} {row.case}\n", "bold"), row.injected)
        made.add_row(fault, Text(row.expected), seen(result), verdict)
    return made


def summary(results: list[Result], took_s: float) -> str:
    faults = len({result.row.fault for result in results if result.row.fault[:1] in "AB"})
    right = sum(result.verdict not in (DIFFERS, SKIPPED) for result in results)
    skipped = sum(result.verdict == SKIPPED for result in results)
    more = f", {skipped} skipped" if skipped else ""
    return f"{faults} faults, {len(results)} rows: {right} as specified{more} ({took_s:.0f} s)"


def show(results: list[Result], took_s: float, console: Console) -> None:
    console.print(table(results))
    for result in results:
        if result.verdict == DIFFERS:
            console.print(Text(f"{result.row.fault} {result.row.case}: ").append_text(seen(result)))
    console.print(summary(results, took_s), highlight=False)


def tell(result: Result, console: Console) -> None:
    """One line of progress."""
    colour = COLOURS.get(result.verdict, "green")
    words = f"{result.took_s:5.1f} s  {result.verdict:12}"
    console.print(Text(words, style=colour).append(f" {result.row.fault} {result.row.case}", style="default"))


def as_json(results: list[Result], took_s: float) -> bytes:
    rows = [
        {
            "fault": result.row.fault, "case": result.row.case, "injected": result.row.injected,
            "expected": result.row.expected, "seen": result.look.found, "skipped": result.look.skipped,
            "verdict": result.verdict, "took_s": round(result.took_s, 3),
        }
        for result in results
    ]  # fmt: skip
    return msgspec.json.format(msgspec.json.encode({"summary": summary(results, took_s), "rows": rows}))
