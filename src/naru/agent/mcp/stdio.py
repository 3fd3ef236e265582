"""A tool server as a child process: lines of JSON-RPC on its standard input and output.

The SDK's own transport would do for a program that ends well. It does not say when the program ends, leaves the rest of its
process group alone where the program itself ended in time, and lets standard error go to our terminal.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.client.stdio import get_default_environment
from mcp.shared.message import SessionMessage
from mcp.types import jsonrpc_message_adapter

from naru.agent.mcp.options import Options

Inbound = SessionMessage | Exception
Streams = tuple[MemoryObjectReceiveStream[Inbound], MemoryObjectSendStream[SessionMessage]]

#: One message. A tool's result with a picture in it is a few MiB.
MAX_LINE_BYTES = 32 << 20
#: Of one line of standard error; the rest of it is left out.
MAX_LOG_CHARS = 4000
#: The specification's order: close its input, wait, ask it to end, wait, end it.
GRACE_S = 2.0
POLL_S = 0.01
#: For what it wrote last to standard error, which says why it ended.
LAST_WORDS_S = 0.5


@asynccontextmanager
async def child_process(options: Options, log: Callable[[str], None], ended: asyncio.Event) -> AsyncGenerator[Streams]:
    """Runs the command while the block lasts, and ends its whole process group after it. `ended` is set when its output ends.

    Raises OSError where it cannot be started."""
    process = await asyncio.create_subprocess_exec(
        *options.command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        # PATH, HOME and their like: the keys of providers and of this gateway are none of its business.
        env=get_default_environment() | dict(options.env),
        cwd=options.cwd,
        start_new_session=True,
        limit=MAX_LINE_BYTES,
    )
    to_us, inbound = anyio.create_memory_object_stream[Inbound](0)
    outbound, to_it = anyio.create_memory_object_stream[SessionMessage](0)
    followed = asyncio.Event()
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(_read, process, to_us, log, ended)
            group.start_soon(_write, process, to_it, ended)
            group.start_soon(_follow, process, log, followed)
            try:
                yield inbound, outbound
            finally:
                with anyio.CancelScope(shield=True):
                    outbound.close()
                    await end_group(process)
                    await _comes(followed.is_set, LAST_WORDS_S)
                group.cancel_scope.cancel()
    finally:
        for stream in (to_us, inbound, outbound, to_it):
            stream.close()
        # A grandchild that left the group may hold a pipe open, and with it the transport.
        process._transport.close()  # type: ignore[attr-defined]


async def _read(
    process: asyncio.subprocess.Process,
    to_us: MemoryObjectSendStream[Inbound],
    log: Callable[[str], None],
    ended: asyncio.Event,
) -> None:
    assert process.stdout is not None
    try:
        while line := await process.stdout.readline():
            try:
                message = jsonrpc_message_adapter.validate_json(line, by_name=False)
            except ValueError:
                log(f"standard output holds what is no JSON-RPC: {_printable(line)}")
                continue
            await to_us.send(SessionMessage(message))
    except ValueError:
        log(f"a message is over {MAX_LINE_BYTES >> 20} MiB; the connection is given up")
    except (anyio.BrokenResourceError, anyio.ClosedResourceError):
        pass  # nobody reads any more: the session ends
    finally:
        ended.set()  # first, so that a call which fails for the end of the stream finds the session ended
        to_us.close()


async def _write(
    process: asyncio.subprocess.Process, to_it: MemoryObjectReceiveStream[SessionMessage], ended: asyncio.Event
) -> None:
    assert process.stdin is not None
    try:
        async with to_it:
            async for item in to_it:
                process.stdin.write(item.message.model_dump_json(by_alias=True, exclude_unset=True).encode() + b"\n")
                await process.stdin.drain()
    except OSError:  # it reads no more, so nothing can be asked of it
        ended.set()


async def _follow(process: asyncio.subprocess.Process, log: Callable[[str], None], followed: asyncio.Event) -> None:
    """Standard error, line by line. A line without an end is passed on when it is long enough."""
    assert process.stderr is not None
    rest = b""
    while piece := await process.stderr.read(1 << 16):
        *lines, rest = (rest + piece).split(b"\n")
        if len(rest) > MAX_LOG_CHARS:
            lines, rest = [*lines, rest], b""
        for line in lines:
            log(_printable(line))
    if rest:
        log(_printable(rest))
    followed.set()


def _printable(line: bytes) -> str:
    return line.decode("utf-8", "replace").rstrip("\r\n")[:MAX_LOG_CHARS]


async def end_group(process: asyncio.subprocess.Process) -> None:
    """Also those of its group that outlive it: `npx` and its like start others. Takes a few seconds at most."""
    assert process.stdin is not None
    process.stdin.close()
    if not await _comes(lambda: process.returncode is not None, GRACE_S):
        _signal(process.pid, signal.SIGTERM)
        await _comes(lambda: process.returncode is not None and not _is_group(process.pid), GRACE_S)
    # Not asked first where the program itself is gone: whoever it left behind has had its notice, an end of input.
    _signal(process.pid, signal.SIGKILL)
    await _comes(lambda: process.returncode is not None, GRACE_S)


async def _comes(holds: Callable[[], bool], within_s: float) -> bool:
    """`process.wait` would also wait for pipes that a grandchild holds open."""
    deadline = asyncio.get_running_loop().time() + within_s
    while not holds():
        if asyncio.get_running_loop().time() >= deadline:
            return False
        await asyncio.sleep(POLL_S)
    return True


def _signal(group: int, number: int) -> None:
    """Its id is that of the program, which began a session of its own."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        pass  # nobody is left (PermissionError: macOS says so of a group of which all have ended)


def _is_group(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True
