"""naru explain REQUEST.json"""

from __future__ import annotations

from pathlib import Path
from typing import IO

import click
import msgspec

from naru.cli.backend import config_option, connect, json_option
from naru.cli.output import print_json, print_table
from naru.errors import BadRequest


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
    if found["error"]:
        click.echo(found["error"], err=True)
