"""What may stand in `tools=[...]`: functions, tools, names of built-in tools, MCP servers and their names, and OpenAI's own form
for tools that whoever asked calls himself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from msgspec import Struct

from naru.agent.builtin.registry import builtin
from naru.agent.function import as_tool
from naru.agent.tool import Json, Tool
from naru.errors import BadRequest


@runtime_checkable
class Server(Protocol):
    """An MCP server, or whatever else has tools."""

    async def tools(self) -> Sequence[Tool]: ...


Offered = Tool | Server
#: Names of MCP servers -> them.
Servers = Mapping[str, Server]


class Toolbox(Struct, frozen=True):
    """`tools` by name, in their order; `others` are in OpenAI's form: their calls are handed over."""

    tools: Mapping[str, Tool]
    others: tuple[Json, ...] = ()

    @property
    def specs(self) -> list[Json]:
        return [*(tool.spec() for tool in self.tools.values()), *self.others]

    @property
    def handed_over(self) -> frozenset[str]:
        return frozenset(_name_of(spec) for spec in self.others) - {""}


async def gathered(given: Sequence[Any], servers: Servers) -> Toolbox:
    """Raises BadRequest where two have one name, or something is no tool."""
    tools: dict[str, Tool] = {}
    others = tuple(each for each in given if isinstance(each, dict))
    names = [_name_of(spec) for spec in others]
    for each in given:
        for tool in () if isinstance(each, dict) else await _tools(each, servers):
            names.append(tool.name)
            tools[tool.name] = tool
    twice = next((name for name in names if name and names.count(name) > 1), None)
    if twice is not None:
        raise BadRequest(f"Two tools have the name {twice!r}. Give one another: @tool(name=…).", param="tools")
    return Toolbox(tools, others)


def _name_of(spec: Json) -> str:
    """Empty for a provider's own tool, such as a web search. Raises BadRequest for what is no tool."""
    function = spec.get("function") or spec.get("custom") or spec
    name = function.get("name", "") if isinstance(function, dict) else None
    if not isinstance(name, str):
        raise BadRequest('A tool in OpenAI\'s form is {"type": "function", "function": {"name": …}}.', param="tools")
    return name


async def _tools(given: Any, servers: Servers) -> Sequence[Tool]:
    if isinstance(given, str):
        return await _named(given, servers)
    if isinstance(given, Server):
        return await given.tools()
    return [as_tool(given)]


async def _named(name: str, servers: Servers) -> Sequence[Tool]:
    if name in servers:
        return await servers[name].tools()
    owner = next((each for each in servers if name.startswith(f"{each}__")), None)
    if owner is not None:
        offered = await servers[owner].tools()
        one = [tool for tool in offered if tool.name == name]
        if not one:
            raise BadRequest(f"{owner} has no tool {name!r}. It has: {', '.join(tool.name for tool in offered)}.")
        return one
    try:
        return builtin(name)
    except ValueError as error:
        more = f" MCP servers: {', '.join(servers)}." if servers else ""
        raise BadRequest(f"{error}{more}", param="tools") from None
