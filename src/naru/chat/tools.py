"""Tools by name, as --tools and /tools have them."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path

from naru.agent.builtin.files import files
from naru.agent.builtin.registry import BUILTIN, builtin
from naru.agent.tool import Tool
from naru.agent.toolbox import Server
from naru.config import McpSettings
from naru.errors import BadRequest
from naru.toolservers import ToolServers

#: Of `files`, the one that changes something; each of its calls is asked about.
WRITE = "write_file"


def servers(settings: Mapping[str, McpSettings], log: Path) -> ToolServers:
    """MCP servers by the names that they have in naru.toml: their tools may be named like built-in ones. What they write to
    their standard error goes to `log`."""

    def write(server: str, line: str) -> None:
        log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with log.open("a", encoding="utf-8") as file:
            file.write(f"{server}: {line}\n")

    return ToolServers(settings, write)


def known(named: Mapping[str, Server]) -> list[str]:
    return [*BUILTIN, WRITE, *named]


def checked(names: Sequence[str], named: Mapping[str, Server]) -> tuple[str, ...]:
    """Raises BadRequest for a name that there is not."""
    for name in names:
        if name not in known(named) and not any(name.startswith(f"{server}__") for server in named):
            near = difflib.get_close_matches(name.lower(), known(named), n=1, cutoff=0.5)
            hint = f"Did you mean {near[0]}?" if near else f"There are: {', '.join(known(named))}."
            raise BadRequest(f"There is no tool {name!r}. {hint}")
    return tuple(dict.fromkeys(names))


def made(names: Sequence[str]) -> list[Tool | str]:
    """As a client's `tools=` has them. Names of MCP servers stay, for the client knows those."""
    found: list[Tool | str] = []
    for name in names:
        if name == WRITE:
            found.append(next(tool for tool in files(Path.cwd(), writable=True) if tool.name == WRITE))
        elif name in BUILTIN:
            found += builtin(name)
        else:
            found.append(name)
    return found


def described(names: Sequence[str], named: Mapping[str, Server]) -> list[tuple[str, bool, str]]:
    """(name, whether it is on, what it does) of all that there are."""
    return [(name, name in names, _purpose(name)) for name in known(named)]


def _purpose(name: str) -> str:
    tools = [tool for tool in made([name]) if isinstance(tool, Tool)]
    if not tools:
        return "an MCP server's tools"
    asks = " Asks before each call." if tools[0].needs_approval else ""
    if len(tools) > 1:
        return ", ".join(tool.name for tool in tools) + f" of {Path.cwd()}"
    return tools[0].description.strip().split("\n")[0] + asks
