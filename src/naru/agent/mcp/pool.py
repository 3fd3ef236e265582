"""Several tool servers for a gateway or a chat that runs for long."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from types import TracebackType
from typing import Self

from naru.agent.mcp.server import McpServer
from naru.agent.mcp.session import McpError
from naru.agent.tool import Tool


class McpPool:
    """Opens a server when its tools are first asked for, shares one session of it among all callers, and closes all at the end.

    `problems` says of which servers `tools(skip_failing=True)` left out the tools, and why. Raises ValueError where two servers
    have one name."""

    def __init__(self, servers: Iterable[McpServer]) -> None:
        self.servers: dict[str, McpServer] = {}
        self.problems: dict[str, str] = {}
        for server in servers:
            if server.name in self.servers:
                raise ValueError(f"Two MCP servers are called {server.name!r}; give one another name.")
            self.servers[server.name] = server

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def tools(self, names: Iterable[str] | None = None, *, skip_failing: bool = False) -> list[Tool]:
        """Of the servers called `names`, else of all, in their order.

        Raises McpError for a name that is none, and for a server that cannot be used unless `skip_failing`."""
        wanted = [self._server(name) for name in (self.servers if names is None else dict.fromkeys(names))]
        found = await asyncio.gather(*(server.tools() for server in wanted), return_exceptions=True)
        tools: list[Tool] = []
        for server, answer in zip(wanted, found, strict=True):
            self.problems.pop(server.name, None)
            if isinstance(answer, McpError) and skip_failing:
                self.problems[server.name] = str(answer)
            elif isinstance(answer, BaseException):
                raise answer
            else:
                tools += answer
        return tools

    def _server(self, name: str) -> McpServer:
        if name not in self.servers:
            known = ", ".join(self.servers) or "none"
            raise McpError(f"There is no MCP server {name[:40]!r} here. Known: {known}.")
        return self.servers[name]

    async def close(self) -> None:
        await asyncio.gather(*(server.close() for server in self.servers.values()))
