"""One tool server, connected when it is first needed, and again after it was lost."""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import mcp.types
from mcp import InputRequiredRoundsExceededError, MCPError
from mcp.types import CONNECTION_CLOSED, INVALID_PARAMS, METHOD_NOT_FOUND, REQUEST_TIMEOUT, CallToolResult
from pydantic import ValidationError

from naru.agent.mcp.backoff import Failures
from naru.agent.mcp.names import tool_names
from naru.agent.mcp.options import Log, Options, is_pattern, matches
from naru.agent.mcp.results import result_text
from naru.agent.mcp.schema import plain_schema
from naru.agent.mcp.session import McpError, Session
from naru.agent.tool import ArgumentsError, Tool, ToolError
from naru.clock import Clock, SystemClock

#: Pages of a list of tools; a server whose list has no end is not waited for.
MAX_PAGES = 100


class McpServer:
    """`async with McpServer(name="files", command=["…"]) as server: tools = await server.tools()`.

    One of `command` (a program and its arguments) and `url` (streamable HTTP; https://, or http:// on this machine).
    `include`, `exclude` and `needs_approval` take the server's own names of tools, or patterns (`read_*`);
    `needs_approval=True` means all. Raises ValueError for options that make no sense. What the rest means: `Options`."""

    def __init__(
        self,
        *,
        name: str,
        command: Sequence[str] = (),
        url: str = "",
        env: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        timeout_s: float = 60.0,
        connect_timeout_s: float = 30.0,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        needs_approval: bool | Sequence[str] = False,
        public_only: bool = False,
        log: Log | None = None,
        clock: Clock | None = None,
    ) -> None:
        for what, value in (("command", command), ("include", include), ("exclude", exclude)):
            if isinstance(value, str):
                raise ValueError(f'MCP server {name!r}: {what} is a list of texts: ["{value[:40]}"]')
        asked = ("*",) if needs_approval is True else tuple(needs_approval or ())
        self.options = Options(
            name=name, command=tuple(command), url=url, env=dict(env or {}), headers=dict(headers or {}), cwd=cwd,
            timeout_s=timeout_s, connect_timeout_s=connect_timeout_s, include=tuple(include), exclude=tuple(exclude),
            needs_approval=asked, public_only=public_only, log=log,
        )  # fmt: skip
        self._clock = clock or SystemClock()
        self._session: Session | None = None
        self._left: list[Session] = []  # lost ones, whose programs may still be ending
        self._opening: asyncio.Task[Session] | None = None
        self._failures = Failures()
        self._tools: list[Tool] = []
        self._is_listed = False
        self._is_closed = False

    @property
    def name(self) -> str:
        return self.options.name

    async def __aenter__(self) -> Self:
        """Connects. Raises McpError."""
        await self._connected()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """For good: further calls are refused. Calls that are under way fail."""
        self._is_closed = True
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.wait([self._opening])
        for session in (*self._left, self._session):
            if session is not None:
                await session.close()

    # --- Tools ----------------------------------------------------------------------------------------------------

    async def tools(self) -> list[Tool]:
        """As the server lists them now: asked once, and again after it said that they changed, or was connected anew.

        Raises McpError."""
        session = await self._connected()
        if not self._is_listed:
            self._is_listed = True  # before asking: a change while the answer is on its way counts as one
            try:
                self._tools = self._usable(await self._listed(session))
            except BaseException:
                self._is_listed = False
                raise
            self._failures = Failures()
        return list(self._tools)

    async def _listed(self, session: Session) -> list[mcp.types.Tool]:
        found: list[mcp.types.Tool] = []
        cursor: str | None = None
        client = await session.client()
        try:
            async with asyncio.timeout(self.options.timeout_s):
                for _ in range(MAX_PAGES):
                    page = await client.list_tools(cursor=cursor)
                    found += page.tools
                    cursor = page.next_cursor
                    if not cursor:
                        return found
        except TimeoutError:
            raise McpError(f"The MCP server {self.name!r} did not list its tools in time.") from None
        except (MCPError, ValidationError) as error:
            if isinstance(error, MCPError) and error.code == METHOD_NOT_FOUND:
                return []  # it has resources or prompts only
            said = error.message if isinstance(error, MCPError) else "its list is not as MCP wants it"
            raise McpError(f"The MCP server {self.name!r} did not list its tools: {said}.") from None
        raise McpError(f"The MCP server {self.name!r} lists tools without an end.")

    def _usable(self, listed: Sequence[mcp.types.Tool]) -> list[Tool]:
        own = {tool.name: tool for tool in listed}
        for wanted in self.options.include:
            if wanted not in own and not is_pattern(wanted):
                close = difflib.get_close_matches(wanted, own, n=1)
                hint = f" (did you mean {close[0]}?)" if close else ""
                raise McpError(f"The MCP server {self.name!r} has no tool {wanted!r}{hint}; include names it.")
        names = tool_names(self.name, own)
        return [self._tool(names[tool.name], tool) for tool in own.values() if self.options.takes(tool.name)]

    def _tool(self, name: str, tool: mcp.types.Tool) -> Tool:
        is_safe = may_repeat(tool)

        async def call(arguments: Mapping[str, Any]) -> str:
            return await self.call(tool.name, arguments, is_safe=is_safe)

        return Tool(
            name=name,
            description=tool.description or tool.title or "",
            parameters=plain_schema(tool.input_schema),
            call=call,
            # `call` keeps its own times and says which one ran out; this one is behind both.
            timeout_s=self.options.timeout_s + self.options.connect_timeout_s + 5,
            retries=1 if is_safe else 0,
            needs_approval=matches(tool.name, self.options.needs_approval),
        )

    # --- Calls ----------------------------------------------------------------------------------------------------

    async def call(self, tool: str, arguments: Mapping[str, Any], *, is_safe: bool = False) -> str:
        """The answer as text. `tool` is the server's own name; `is_safe`: made twice it does no more than made once.

        Raises ToolError, which may be retried where nothing was sent or the tool is safe, and ArgumentsError."""
        try:
            return await self._called(tool, arguments, is_safe)
        except _Forgotten:
            return await self._called(tool, arguments, is_safe)

    async def _called(self, tool: str, arguments: Mapping[str, Any], is_safe: bool) -> str:
        try:
            session = await self._connected()
            client = await session.client()
        except McpError as error:
            # Its standard error is for developers, not for models.
            raise ToolError(str(error).partition("\n")[0].removesuffix(" It wrote:"), may_retry=True) from error
        limit_s = self.options.timeout_s
        try:
            # The SDK's own limit does not count the writing, which waits for a program that does not read.
            async with asyncio.timeout(limit_s):
                result = await client.call_tool(tool, dict(arguments), read_timeout_seconds=limit_s * 2)
        except TimeoutError:
            raise ToolError(
                f"{self.name} did not answer within {limit_s:g} s. {_unknown(is_safe)}", may_retry=is_safe
            ) from None
        except MCPError as error:
            raise self._failed(session, error, is_safe) from error
        except InputRequiredRoundsExceededError:
            raise ToolError(f"{self.name} asks for further input, and nobody is here to give it.") from None
        except (RuntimeError, ValidationError) as error:  # not as its own schema, or not as MCP wants it
            raise ToolError(f"{self.name} answered with something unreadable: {_first_line(error)}") from error
        self._failures = Failures()
        return answered(result)

    def _failed(self, session: Session, error: MCPError, is_safe: bool) -> Exception:
        if session.is_forgotten(error):
            if session is self._session:
                self._lose(session)
            return _Forgotten(f"{self.name} was started anew and does not know this connection.", may_retry=True)
        if error.code == INVALID_PARAMS:
            return ArgumentsError(error.message)
        if not session.is_alive or error.code in (CONNECTION_CLOSED, REQUEST_TIMEOUT):
            if not session.is_alive and session is self._session:  # once, however many calls waited for it
                self._lose(session)
                self._failures = self._failures.another(self._clock.monotonic())
            return ToolError(f"{self.name} was lost before it answered. {_unknown(is_safe)}", may_retry=is_safe)
        return ToolError(f"{self.name}: {error.message}{session.refusals.words()}")

    # --- The connection -------------------------------------------------------------------------------------------

    async def _connected(self) -> Session:
        """The one session that all callers share. Raises McpError, at once while a server that failed is left alone."""
        if self._is_closed:
            raise McpError(f"The MCP server {self.name!r} was closed here.")
        if self._session is not None and self._session.is_alive:
            return self._session
        if self._opening is None:
            wait_s = self._failures.wait_s(self._clock.monotonic())
            if wait_s > 0:
                raise McpError(
                    f"The MCP server {self.name!r} failed {self._failures.count} times in a row; it is asked again in "
                    f"{wait_s:.1f} s."
                )
            self._opening = asyncio.create_task(self._open(), name=f"mcp {self.name} opens")
            self._opening.add_done_callback(_retrieved)
        # A caller that is cancelled leaves the others their connection.
        return await asyncio.shield(self._opening)

    async def _open(self) -> Session:
        try:
            if self._session is not None:  # it ended while nobody called
                self._lose(self._session)
            session = Session(self.options, self._changed)
            try:
                await session.open()
            except McpError:
                self._failures = self._failures.another(self._clock.monotonic())
                raise
            self._session = session
            return session
        finally:
            self._opening = None

    def _lose(self, session: Session) -> None:
        session.leave()
        self._left = [each for each in (*self._left, session) if each.is_ending]
        self._session = None
        self._is_listed = False

    def _changed(self) -> None:
        self._is_listed = False


class _Forgotten(ToolError):
    """The server does not know the session any more, and did nothing."""


def answered(result: CallToolResult) -> str:
    """Raises ToolError for what the tool itself calls an error; the text is meant for the model."""
    text = result_text(result)
    if result.is_error:
        raise ToolError(text)
    return text


def may_repeat(tool: mcp.types.Tool) -> bool:
    """Only what says so: without annotations a call may do something, and twice is once too many."""
    said = tool.annotations
    return said is not None and (said.read_only_hint is True or said.idempotent_hint is True)


def _unknown(is_safe: bool) -> str:
    return "It may be asked again." if is_safe else "Whether it did what it was asked is not known."


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:300]


def _retrieved(task: asyncio.Task[Session]) -> None:
    """Whoever waited has the error; where nobody waits any more, nobody needs it."""
    if not task.cancelled():
        task.exception()
