"""Tools that only the caller's own API has: web search and others that its provider runs or defines.

Agents offer such a tool beside their own with every request (Codex offers `web_search`, providers.md B2.1), so a model that
does not have it must not be a reason to refuse. It is left out and named in `dropped`: an offer is no more than that. Where
the answer depends on it, the encoder's refusal stands: when it must be called, or when nothing else is offered.
"""

from __future__ import annotations

import msgspec

from naru.protocol.messages import OpaqueTool, Request, Tool

#: Chat's custom tools are the caller's own, not a provider's; each encoder says what it can make of them.
CUSTOM = "custom"


def without_foreign_tools(request: Request, upstream: str) -> tuple[Request, tuple[str, ...]]:
    """(the request without tools that the dialect `upstream` does not have, their names as `tools.web_search`)."""
    foreign = [tool for tool in request.tools if _is_foreign(tool, upstream)]
    own = tuple(tool for tool in request.tools if not _is_foreign(tool, upstream))
    if not foreign or not own or _must_call(request, own):
        return request, ()
    names = dict.fromkeys(f"tools.{tool.kind}" for tool in foreign if isinstance(tool, OpaqueTool))
    return msgspec.structs.replace(request, tools=own), tuple(names)


def _is_foreign(tool: Tool | OpaqueTool, upstream: str) -> bool:
    return isinstance(tool, OpaqueTool) and tool.dialect != upstream and tool.kind != CUSTOM


def _must_call(request: Request, own: tuple[Tool | OpaqueTool, ...]) -> bool:
    """Whether the choice names a tool that is not among these."""
    choice = request.tool_choice
    known = {tool.name for tool in own if isinstance(tool, Tool)}
    return choice is not None and choice.mode == "named" and not known.issuperset(choice.names)
