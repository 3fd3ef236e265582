"""naru usage"""

from __future__ import annotations

from pathlib import Path

import click

from naru.cli.backend import config_option, connect, json_option
from naru.cli.output import Won, milliseconds, print_json, print_table, usd

COLUMNS = ("requests", "failed", "input", "output", "cached", "cost USD", "mean latency", "mean TTFT")
REQUEST_COLUMNS = ("request", "model", "deployment", "outcome", "input", "output", "cost USD", "latency", "TTFT")


@click.command("usage")
@click.option(
    "--by", type=click.Choice(["key", "model", "deployment", "day", "request"]), default="model", show_default=True
)
@click.option("--since", default="30d", show_default=True, help="A span (7d, 12h) or a date (2026-11-01).")
@click.option("--until", help="The same; this moment itself is not in it.  [default: now]")
@click.option("--tz", default="UTC", show_default=True, help="Time zone of days and dates, as Asia/Seoul.")
@click.option("--account", help="Only what this account's keys used.")
@click.option("--limit", default=50, show_default=True, help="How many requests, with --by request.")
@config_option
@json_option
def command(
    *,
    by: str,
    since: str,
    until: str | None,
    tz: str,
    account: str | None,
    limit: int,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Requests, tokens and cost. `--by request` shows the latest ones, one by one."""
    client = connect(config_path)
    span = {"since": since, "until": until, "tz": tz, "account": account}
    if by == "request":
        answer = client.request("GET", "/admin/requests", {**span, "limit": limit})
    else:
        answer = client.request("GET", "/admin/usage", {**span, "by": by})
    if as_json:
        print_json(answer)
        return
    won = Won(answer["fx"])
    if by == "request":
        rows = [
            (r["request_id"], r["model"], r["deployment"], r["outcome"], r["input"], r["output"], usd(r["cost_nano"]),
             milliseconds(r["latency_us"]), milliseconds(r["ttft_us"]), *won.cells(r["cost_nano"]))
            for r in answer["data"]
        ]  # fmt: skip
        print_table((*REQUEST_COLUMNS, *won.columns("cost KRW")), rows, f"No requests since {since}.")
    else:
        groups = [
            (r["group"], r["requests"], r["failed"], r["input"], r["output"], r["cached"], usd(r["cost_nano"]),
             milliseconds(r["mean_latency_us"]), milliseconds(r["mean_ttft_us"]), *won.cells(r["cost_nano"]))
            for r in answer["data"]
        ]  # fmt: skip
        print_table((by, *COLUMNS, *won.columns("cost KRW")), groups, f"No requests since {since}.")
    won.name_the_rate()
