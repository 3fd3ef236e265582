"""The command line: verb after noun, one file a command, `--json` everywhere.

Commands are imported when they are used, so `naru --help` stays quick. Exit codes: 0 ok, 1 failed, 2 usage, 3 partial, 4 auth,
5 not found, 75 temporary, 78 config, 130 interrupted.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module

import click

from naru import __version__
from naru.cli.exits import exit_code
from naru.errors import NaruError

#: name -> (module, one line for `naru --help`). The module exports `command`.
COMMANDS = {
    "serve": ("naru.cli.serve", "Run the gateway."),
    "check": ("naru.cli.check", "Look over the configuration, credentials, store, disk and local servers."),
    "keys": ("naru.cli.keys", "Create, list, show, change, rotate and revoke keys."),
    "accounts": ("naru.cli.accounts", "Teams and organisations."),
    "budgets": ("naru.cli.budgets", "How much may be spent, by whom, in which time."),
    "credits": ("naru.cli.credits", "Prepaid credits and redemption codes."),
    "models": ("naru.cli.models", "List and show the models that this gateway offers."),
    "chat": ("naru.cli.chat", "Talk with a model, here in the terminal."),
    "engine": ("naru.cli.engine", "Run a local model in a process of its own."),
    "tune": ("naru.cli.tune", "Fine-tune a local model on your own examples."),
    "mcp": ("naru.cli.mcp", "Offer the gateway to MCP clients, as tools."),
    "usage": ("naru.cli.usage", "Who used what, and what it cost."),
    "ledger": ("naru.cli.ledger", "Check the books, and export them."),
    "explain": ("naru.cli.explain", "What would happen to a request, without sending it."),
}


class LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command = import_module(COMMANDS[name][0]).command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="naru")
def naru() -> None:
    """Naru: one key and one OpenAI-compatible endpoint for every model a team uses.

    Start with `naru serve`. On the gateway's own machine no other command needs a key; elsewhere set NARU_BASE_URL and
    NARU_ADMIN_KEY.
    """


def main(argv: Sequence[str] | None = None) -> int:
    """The console script. Returns the exit code."""
    try:
        result = naru.main(args=None if argv is None else list(argv), prog_name="naru", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return 2
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return 130
    except NaruError as error:
        click.echo(f"naru: {error.message}", err=True)
        return exit_code(error)


def run() -> None:
    sys.exit(main())
