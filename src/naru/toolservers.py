"""The MCP servers of naru.toml, as the gateway and `naru chat` use them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial

from naru.agent.mcp import McpServer
from naru.config import McpSettings

#: (server, line of its standard error)
Log = Callable[[str, str], None]


class ToolServers:
    """By name. None is started before its tools are asked for."""

    def __init__(self, settings: Mapping[str, McpSettings], log: Log) -> None:
        self.by_name = {name: _server(each, log) for name, each in settings.items()}

    async def close(self) -> None:
        await asyncio.gather(*(server.close() for server in self.by_name.values()))


def _server(settings: McpSettings, log: Log) -> McpServer:
    return McpServer(
        name=settings.name,
        command=[each.reveal() for each in settings.command],
        url=settings.url.reveal(),
        env={name: value.reveal() for name, value in settings.env.items()},
        headers={name: value.reveal() for name, value in settings.headers.items()},
        timeout_s=settings.timeout_s,
        connect_timeout_s=settings.connect_timeout_s,
        include=settings.include,
        exclude=settings.exclude,
        needs_approval=settings.needs_approval,
        log=partial(log, settings.name),
    )
