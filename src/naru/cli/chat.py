"""naru chat [MODEL] [QUESTION]"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any, cast

import click

from naru.cli.backend import config_option, json_option
from naru.errors import ConfigError

#: Where `parse_args` leaves the words that follow `--`.
QUESTION = "naru.question"


class ChatCommand(click.Command):
    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """What follows `--` is the question, whatever it looks like."""
        if "--" in args:
            place = args.index("--")
            ctx.meta[QUESTION] = args[place + 1 :]
            args = args[:place]
        return super().parse_args(ctx, args)


@click.command("chat", cls=ChatCommand)
@click.argument("words", nargs=-1, metavar="[MODEL] [QUESTION]")
@click.option("-m", "--model", help="The model; every word is the question then.")
@click.option("-t", "--tools", help="Tools that the model may call, as weather,calculator. /tools lists them.")
@click.option("--think", help="Thinking: a budget in tokens, on, off, or low, medium, high.")
@click.option("-s", "--system", help="The system prompt.")
@click.option(
    "-f",
    "--file",
    "files",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A picture or text to send along; may be given again.",
)
@click.option("-c", "--continue", "is_continued", is_flag=True, help="Go on with the latest conversation.")
@click.option("--session", help="Go on with the conversation of this name, or begin it.")
@config_option
@json_option
@click.pass_context
def command(ctx: click.Context, /, **given: Any) -> int:
    """Talk with a model: a chat on a terminal, or one answer to a QUESTION.

    The first word is a MODEL if the gateway has one of that name, else the question begins with it; without a model, the
    first that the gateway has. After -- everything is the question. Standard input, where it is no terminal, is read as what
    the question is about: `cat notes.txt | naru chat "Summarise this"`.

    On the gateway's own machine no key is needed: one named "chat" is made at the first use. Elsewhere set NARU_BASE_URL and
    NARU_API_KEY. Conversations are kept in NARU_HOME/chats.
    """
    try:
        run = import_module("naru.cli.chat_run").run
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("naru"):
            raise
        raise ConfigError(f"naru chat needs the package {error.name}: pip install 'naru[agent]'.") from error
    return cast(int, run({**given, "after": ctx.meta.get(QUESTION)}))
