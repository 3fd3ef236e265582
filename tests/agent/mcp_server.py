"""A tool server, written with the SDK: over standard input and output, or over HTTP where it is given a port's file."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from pathlib import Path
from typing import Annotated, Any

import uvicorn
from mcp import MCPError
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import METHOD_NOT_FOUND, ImageContent, ResourceLink, TextContent, ToolAnnotations
from pydantic import BaseModel, Field

#: `--legacy`: as servers are that were written before 2026-07-28, with a handshake and sessions.
IS_LEGACY = "--legacy" in sys.argv
ARGUMENTS = [argument for argument in sys.argv[1:] if argument != "--legacy"]
#: Where calls that wait leave traces, one file for each event.
TRACES = Path(ARGUMENTS[0])


async def only_handshakes(ctx: Any, call_next: Any) -> Any:
    if ctx.method == "server/discover":
        raise MCPError(METHOD_NOT_FOUND, "Method not found")
    return await call_next(ctx)


server = MCPServer("test", log_level="ERROR", middleware=[only_handshakes] if IS_LEGACY else [])


class Place(BaseModel):
    city: Annotated[str, Field(description="In English.")]
    degrees: int = 0


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
def add(a: int, b: int) -> int:
    """Adds two numbers."""
    return a + b


@server.tool()
def weather(place: Place, title: str = "") -> Place:
    """The weather of a place."""
    return Place(city=place.city, degrees=21)


@server.tool()
def fails(why: str) -> str:
    raise ToolError(f"This failed: {why}")


@server.tool(structured_output=False)
def everything() -> list[Any]:
    return [
        TextContent(text="a text"),
        ImageContent(data="QUJD" * 1024, mime_type="image/png"),
        ResourceLink(name="notes", uri="file:///notes.txt", mime_type="text/plain", description="What was said"),
    ]


@server.tool()
async def waits(name: str) -> str:
    """Until it is cancelled."""
    (TRACES / f"{name}.started").write_text(str(os.getpid()))
    try:
        await asyncio.Event().wait()
    finally:
        (TRACES / f"{name}.ended").touch()
    return name


@server.tool(annotations=ToolAnnotations(idempotent_hint=True))
async def meets(name: str, other: str) -> str:
    """Answers when both calls are under way."""
    (TRACES / f"{name}.here").touch()
    while not (TRACES / f"{other}.here").exists():
        await asyncio.sleep(0.005)
    return f"{name} met {other}"


@server.tool()
async def grows(name: str, ctx: Context) -> str:
    """Adds a tool to this server."""

    def grown() -> str:
        return name

    server.add_tool(grown, name=name)
    await ctx.notify_tools_changed()
    if ctx.protocol_version < "2026":
        await ctx.session.send_tool_list_changed()
    return "done"


@server.tool()
def environment() -> dict[str, str]:
    return dict(os.environ)


@server.tool()
def headers(ctx: Context) -> dict[str, str]:
    return dict(ctx.headers or {})


@server.tool()
async def leaves_another() -> int:
    """Starts a program of its own, and says its id."""
    child = await asyncio.create_subprocess_exec(
        "sleep",
        "600",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    return child.pid


def serve_http(port_file: Path) -> None:
    listener = socket.create_server(("127.0.0.1", int(ARGUMENTS[2])))
    app = server.streamable_http_app()
    port_file.with_suffix(".new").write_text(str(listener.getsockname()[1]))
    port_file.with_suffix(".new").rename(port_file)
    uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1)).run(sockets=[listener])


if __name__ == "__main__":
    print("the test server starts", file=sys.stderr, flush=True)
    if len(ARGUMENTS) > 1:
        serve_http(Path(ARGUMENTS[1]))
    else:
        server.run()
