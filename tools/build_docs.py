"""Writes docs/cli.md from the commands themselves (`make docs`), so that the page cannot say what the program does not.

tests/test_docs.py fails while the file on disk is not what this makes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from naru.cli import exits, naru

TARGET = Path(__file__).parent.parent / "docs/cli.md"
#: Fixed, so that the page does not depend on the terminal of whoever builds it.
WIDTH = 100

HEAD = """\
# The `naru` command

<!-- Written by tools/build_docs.py from the commands' own help: `make docs`. Do not edit by hand. -->

After `make serve` the command is `.venv/bin/naru`. It finds its gateway by itself:

1. With `NARU_BASE_URL` and `NARU_ADMIN_KEY` (an `nka-…` key): the gateway at that address, over HTTP.
2. Else, where a gateway runs on the same `NARU_HOME`: that one, over its private socket. No key is needed.
3. Else: the store in `NARU_HOME` itself, opened for as long as the command runs.

`NARU_HOME` is `~/.naru` unless it is set. `make serve` uses `.naru` in the project's folder, so set
`NARU_HOME="$PWD/.naru"` for commands that are meant for that gateway.

On a terminal, lists are tables. In a pipe they are tab-separated lines with the column names first, and `--json` prints
JSON. What a program may want to read goes to standard output; notes and errors go to standard error.
"""

EXIT_MEANINGS = {
    "OK": "done",
    "FAILED": "failed, or a check has findings; standard error says why",
    "USAGE": "the command line or the request is wrong",
    "AUTH": "a key is missing, wrong, or may not do this",
    "NOT_FOUND": "no such key, account, budget or model",
    "TEMPORARY": "the gateway or a provider cannot be reached now; try again",
    "CONFIG": "naru.toml, a variable or a flag is wrong, the port is taken, or another gateway holds this NARU_HOME",
    "INTERRUPTED": "stopped from the terminal (Ctrl-C)",
}


def page() -> str:
    """docs/cli.md, whole."""
    root = naru.make_context("naru", [], resilient_parsing=True, terminal_width=WIDTH)
    codes = [f"| {getattr(exits, name)} | {meaning} |" for name, meaning in EXIT_MEANINGS.items()]
    parts = [HEAD, fenced(root), *sections(naru, root, "##")]
    parts.append("## Exit codes\n\n| code | meaning |\n|---|---|\n" + "\n".join(codes) + "\n")
    return "\n".join(parts)


def sections(group: click.Group, parent: click.Context, heading: str) -> Iterator[str]:
    """One section for each command below `group`, in the order in which its help lists them."""
    for name in group.list_commands(parent):
        command = group.get_command(parent, name)
        assert command is not None
        context = command.make_context(name, [], parent=parent, resilient_parsing=True, terminal_width=WIDTH)
        yield f"{heading} `{context.command_path}`\n\n{fenced(context)}"
        if isinstance(command, click.Group):
            yield from sections(command, context, heading + "#")


def fenced(context: click.Context) -> str:
    """The command's help, verbatim."""
    return f"```text\n{context.get_help().rstrip()}\n```\n"


def main() -> None:
    TARGET.write_text(page(), encoding="utf-8")
    sys.stderr.write(f"{TARGET.name}: {len(page().splitlines())} lines\n")


if __name__ == "__main__":
    main()
