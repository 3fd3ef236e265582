"""One connection to a tool server, and the task that owns it.

What the SDK opens has to be closed in the task that opened it (anyio's cancel scopes). So one task does both and waits in
between; calls may come from any task of the same event loop, and a cancelled one is told to the server.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import AsyncExitStack

import anyio
import httpx2
from mcp import Client, MCPError
from mcp.client import Transport
from mcp.client.session import IncomingMessage
from mcp.client.streamable_http import streamable_http_client
from mcp.client.subscriptions import SubscriptionLost
from mcp.types import CONNECTION_CLOSED, INVALID_REQUEST, Implementation, ToolListChangedNotification
from mcp.types.version import MODERN_PROTOCOL_VERSIONS

from naru.agent.mcp.options import Options
from naru.agent.mcp.stdio import child_process
from naru.agent.mcp.web import NotPublic, Refusals, web_client

log = logging.getLogger("naru.mcp")

#: Of what a program wrote to standard error last, in the message that it could not be started.
LAST_LINES = 5
#: Between two tries to listen for changes, where the server hung up.
LISTEN_AGAIN_S = 5.0
FORGOTTEN = "Session terminated"
WHO = Implementation(name="naru", version="1")


class McpError(Exception):
    """A tool server cannot be used. The message names it, says why, and what to do; it holds no header and no variable."""


class Session:
    """`on_change` is called when the server says that its tools are other ones."""

    def __init__(self, options: Options, on_change: Callable[[], None]) -> None:
        self.options = options
        self.on_change = on_change
        self.refusals = Refusals()
        self._over = asyncio.Event()
        self._ready: asyncio.Future[Client] = asyncio.get_running_loop().create_future()
        self._owner: asyncio.Task[None] | None = None
        self._last_lines: list[str] = []
        self._is_given_up = False

    @property
    def is_alive(self) -> bool:
        return not self._over.is_set() and self._owner is not None and not self._owner.done()

    @property
    def is_ending(self) -> bool:
        return self._owner is not None and not self._owner.done()

    async def client(self) -> Client:
        """Of a session that was opened."""
        return await asyncio.shield(self._ready)

    async def open(self) -> Client:
        """Raises McpError; nothing is left running then."""
        self._owner = asyncio.create_task(self._own(), name=f"mcp {self.options.name}")
        try:
            async with asyncio.timeout(self.options.connect_timeout_s):
                return await asyncio.shield(self._ready)
        except TimeoutError:
            await self.close()
            raise self._error(f"did not answer within {self.options.connect_timeout_s:g} s") from None
        except BaseException:
            await self.close()
            raise

    def is_forgotten(self, error: MCPError) -> bool:
        """Whether the server refused a call because it does not know the session (it restarted): a 404, which the SDK tells in a
        sentence of its own where the answer holds no error of JSON-RPC. It did nothing then."""
        return error.message == FORGOTTEN or (error.code == INVALID_REQUEST and self.refusals.status == 404)

    def leave(self) -> None:
        """Lets the owner end what was opened, without waiting for it."""
        self._over.set()

    async def close(self) -> None:
        """Ends what was opened, a program with its whole process group. Never raises for how it ended."""
        self._over.set()
        if self._owner is None:
            return
        if not self._ready.done():  # it is still waiting for the server
            self._is_given_up = True
            self._owner.cancel()
        await asyncio.wait([self._owner])

    async def _own(self) -> None:
        try:
            async with AsyncExitStack() as stack:
                client = await self._connect(stack)
                group = await stack.enter_async_context(anyio.create_task_group())
                group.start_soon(self._listen, client)
                self._ready.set_result(client)
                await self._over.wait()
                group.cancel_scope.cancel()
        except Exception as error:
            # Of a connection that was in use, the calls that waited for it are told (SDK: connection closed).
            if not self._ready.done() and not self._is_given_up:
                self._ready.set_exception(self._error(self._why(error)))
            log.debug("MCP server %s: the connection ended: %s", self.options.name, type(error).__name__)
        finally:
            self._over.set()
            if not self._ready.done():
                self._ready.cancel()

    async def _connect(self, stack: AsyncExitStack) -> Client:
        transport: Transport
        if self.options.command:
            transport = child_process(self.options, self._log, self._over)
        else:
            web = await stack.enter_async_context(web_client(self.options, self.refusals, self.leave))
            transport = streamable_http_client(self.options.url, http_client=web)
        client = Client(
            transport,
            # Of what a connection needs before calls. Half, so that a server that does not answer the newer greeting (it should
            # say that it does not know it) is still greeted in the older way.
            read_timeout_seconds=self.options.connect_timeout_s / 2,
            message_handler=self._hear,
            client_info=WHO,
            cache=None,  # McpServer keeps the list, and knows when it is old
        )
        return await stack.enter_async_context(client)

    async def _hear(self, message: IncomingMessage) -> None:
        if isinstance(message, ToolListChangedNotification):
            self.on_change()

    async def _listen(self, client: Client) -> None:
        """Since 2026-07-28 servers announce changes only on a stream that was asked for. What was missed between two streams is
        not told again, so the list counts as changed."""
        tools = client.server_capabilities.tools
        if client.protocol_version not in MODERN_PROTOCOL_VERSIONS or tools is None or not tools.list_changed:
            return
        while not self._over.is_set():
            try:
                async with client.listen(tools_list_changed=True) as changes:
                    async for _ in changes:
                        self.on_change()
            except (MCPError, SubscriptionLost, TimeoutError) as error:
                log.debug("MCP server %s: listening for changes ended: %s", self.options.name, type(error).__name__)
            self.on_change()
            try:
                await asyncio.wait_for(self._over.wait(), LISTEN_AGAIN_S)
            except TimeoutError:
                continue

    def _log(self, line: str) -> None:
        self._last_lines = [*self._last_lines[1 - LAST_LINES :], line]
        if self.options.log is not None:
            self.options.log(line)
        else:
            log.debug("MCP server %s: %s", self.options.name, line)

    def _error(self, why: str) -> McpError:
        said = "".join(f"\n  {line}" for line in self._last_lines)
        return McpError(f"The MCP server {self.options.name!r} {why}.{f' It wrote:{said}' if said else ''}")

    def _why(self, error: BaseException) -> str:
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        if isinstance(error, FileNotFoundError):
            return f"was not started: there is no program (or folder) {error.filename!r}. Give its path, or install it"
        if isinstance(error, OSError) and self.options.command:
            return f"was not started: {error.strerror or error}"
        if isinstance(error, NotPublic):
            return f"is not asked: {error}"
        if isinstance(error, httpx2.TransportError):
            return f"cannot be reached: {error or type(error).__name__}"
        if isinstance(error, MCPError) and error.code == CONNECTION_CLOSED and not self.refusals.status:
            return "ended before it answered"
        if isinstance(error, MCPError):
            return f"refused the connection: {error.message}{self.refusals.words()}"
        return f"did not answer as MCP wants it: {type(error).__name__}"
