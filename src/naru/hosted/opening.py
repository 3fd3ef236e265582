"""The tools that naru.toml offers to callers, and what runs them."""

from __future__ import annotations

import structlog

from naru.agent.builtin.registry import builtin
from naru.agent.loop import Limits
from naru.agent.run import nano_of
from naru.agent.toolbox import Offered
from naru.clock import Clock
from naru.config import AgentSettings, Settings
from naru.gateway.serve import Gateway
from naru.hosted.serve import Hosted
from naru.toolservers import ToolServers

log = structlog.get_logger("naru.hosted")


class OpenHosted:
    """`hosted` serves; `close` ends the MCP servers that were started for it."""

    def __init__(self, settings: Settings, gateway: Gateway, clock: Clock) -> None:
        self._servers = ToolServers(
            {name: settings.mcp[name] for name in settings.agent.tools if name in settings.mcp}, _noted
        )
        offered: dict[str, Offered] = {**self._servers.by_name}
        for name in settings.agent.tools:
            if name not in offered:
                (offered[name],) = builtin(name)
        in_order = {name: offered[name] for name in settings.agent.tools}
        self.hosted = Hosted(gateway, in_order, _limits(settings.agent), clock)

    async def close(self) -> None:
        await self._servers.close()


def _limits(agent: AgentSettings) -> Limits:
    return Limits(
        max_turns=agent.max_turns,
        max_seconds=agent.max_seconds,
        max_tokens=agent.max_total_tokens,
        max_cost_nano=None if agent.max_cost_usd is None else nano_of(agent.max_cost_usd),
    )


def _noted(name: str, line: str) -> None:
    """What a program says beside the protocol."""
    log.info("an MCP server says", server=name, line=line[:500])
