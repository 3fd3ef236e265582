"""Tools of MCP servers: a program on this machine (stdio), or an address (streamable HTTP)."""

from __future__ import annotations

from naru.agent.mcp.pool import McpPool
from naru.agent.mcp.server import McpServer
from naru.agent.mcp.session import McpError

__all__ = ["McpError", "McpPool", "McpServer"]
