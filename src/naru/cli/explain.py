"""naru explain REQUEST.json"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import click
import msgspec

from naru.cli.backend import config_option, connect, json_option
from naru.cli.output import print_json, print_table
from naru.errors import BadRequest

#: Who is asked besides, and when.
OTHERS = {
    "last_resort": "when all have failed",
    "on_context": "when the request is too long",
    "on_policy": "when a provider's rules refuse it",
}


def _left(limit: dict[str, Any]) -> Iterator[str]:
    for name in ("requests", "tokens"):
        if name in limit:
            yield f"{limit[name]['left']:,} of {limit[name]['per_minute']:,} {name} a minute are left"
    if "concurrency" in limit:
        yield f"{limit['concurrency']['in_flight']} of {limit['concurrency']['limit']} at once are under way"


@click.command("explain")
@click.argument("request", type=click.File("rb"))
@config_option
@json_option
def command(request: IO[bytes], config_path: Path | None, as_json: bool) -> None:
    """Which deployments a REQUEST body (a file, or - for standard input) would be tried on, and what it could cost.

    Nothing is sent to a provider. A `path` beside the body's fields names another endpoint than chat.
    """
    try:
        body = msgspec.json.decode(request.read())
    except msgspec.DecodeError as error:
        raise BadRequest(f"The request is not JSON: {error}.") from None
    found = connect(config_path).request("POST", "/v1/explain", body=body)
    if as_json:
        print_json(found)
        return
    click.echo(
        f"{found['model']} -> route {found['route']} ({found['strategy']}), about {found['estimated_input_tokens']} input tokens"
    )
    rows = [
        (number, attempt["deployment"], attempt["upstream_model"], attempt["price_source"], attempt["cost_usd_at_most"],
         ", ".join(attempt["dropped"]))
        for number, attempt in enumerate(found["attempts"], start=1)
    ]  # fmt: skip
    print_table(
        ("try", "deployment", "upstream model", "price from", "cost USD at most", "dropped"),
        rows,
        "Nobody would be called.",
    )
    for refusal in found["refused"]:
        click.echo(f"not {refusal['deployment']}: {refusal['why']}")
    for name, words in OTHERS.items():
        if those := found["plan"].get(name):
            click.echo(f"{words}: {', '.join(those)}")
    for limit in found["limits"]:
        click.echo(f"limit of {limit['scope']}: {', '.join(_left(limit))}")
    if found["error"]:
        click.echo(found["error"], err=True)
