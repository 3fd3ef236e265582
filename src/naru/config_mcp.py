"""[mcp.NAME] and [agent] of naru.toml: servers of tools, and which tools callers may have run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from naru.config_read import Reader, nearest
from naru.config_schema import HOSTED_TOOLS, AgentSettings, McpSettings
from naru.config_urls import is_loopback, url_problem

#: It stands before `__` in the names of its tools, which models may spell with these letters and 64 of them.
NAME = re.compile(r"(?=.{1,32}$)[A-Za-z][A-Za-z0-9]*(?:[_-][A-Za-z0-9]+)*")


def read_mcp(tables: Mapping[str, Any], reader: Reader) -> dict[str, McpSettings]:
    """The enabled ones. Raises ConfigError."""
    found = {name: _read(name, table, reader) for name, table in tables.items()}
    return {name: server for name, server in found.items() if server.enabled}


def check_agent(agent: AgentSettings, servers: Mapping[str, McpSettings], reader: Reader) -> None:
    """Raises ConfigError for a tool that is not there."""
    known = (*servers, *HOSTED_TOOLS)
    for place, name in enumerate(agent.tools):
        if name not in known:
            raise reader.error(
                f"agent.tools[{place}]",
                f"is no tool: {name!r}{nearest(name, known)}. It can be an enabled [mcp.NAME], or one of "
                + ", ".join(HOSTED_TOOLS),
            )
        if name in agent.tools[:place]:
            raise reader.error(f"agent.tools[{place}]", f"names {name} a second time")


def _read(name: str, table: Mapping[str, Any], reader: Reader) -> McpSettings:
    key = f"mcp.{name}"
    if not NAME.fullmatch(name):
        raise reader.error(
            key,
            "the name begins with a letter, has letters and digits with single dashes or underscores between them, and is "
            "32 characters long at most: it is the first part of its tools' names",
        )
    asked = table.get("needs_approval")
    if isinstance(asked, bool):
        table = {**table, "needs_approval": ["*"] if asked else []}
    for field in ("command", "include", "exclude", "needs_approval"):
        if isinstance(table.get(field), str):
            also = ", or true" if field == "needs_approval" else ""
            raise reader.error(f"{key}.{field}", f'expected a list of texts, as ["…", "…"]{also}, got a text')
    server = reader.struct(McpSettings, table, key, name=name)
    _check(server, key, reader)
    return server


def _check(server: McpSettings, key: str, reader: Reader) -> None:
    if bool(server.command) == bool(server.url):
        have = "and has both" if server.url else "and has neither"
        raise reader.error(key, f'needs either command = ["program", "argument"] or url = "https://…", {have}')
    wrong, right = ("headers", "env") if server.command else ("env", "headers")
    if getattr(server, wrong):
        kind = "a command" if server.command else "a url"
        raise reader.error(f"{key}.{wrong}", f"{kind} has no {wrong}; what it needs goes into {right}")
    if server.command and not server.command[0].reveal().strip():
        raise reader.error(f"{key}.command[0]", "is empty: name the program")
    if server.url:
        _check_url(server.url.reveal(), f"{key}.url", reader)


def _check_url(text: str, key: str, reader: Reader) -> None:
    """Queries are allowed: some servers are told of what they are asked for in them."""
    try:
        url = urlsplit(text)
        host = (url.hostname or "").rstrip(".")
        problem = url_problem(url, host, takes_query=True)
    except ValueError as error:
        raise reader.error(key, f"is not a URL: {error}") from None
    if not problem and url.scheme == "http" and not is_loopback(host):
        problem = f"http:// is for this machine only, and {host} is another; use https://"
    if problem:
        raise reader.error(key, problem.replace("the key belongs in api_key", "credentials go into headers"))
