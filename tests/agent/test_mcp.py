"""Tools of a real MCP server, written with the SDK: as a child process over stdio, and over HTTP on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from naru.agent.mcp import McpError, McpPool, McpServer
from naru.agent.tool import Tool, ToolError
from naru.testing.clock import FakeClock

PROGRAM = Path(__file__).parent / "mcp_server.py"
#: Only a failure reaches them: a Python with the SDK takes seconds to start on a busy machine.
LIMIT_S = 120.0

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not holds():
            await asyncio.sleep(0.005)


async def started(traces: Path, name: str) -> int:
    """The id of the server, once it began this call."""
    file = traces / f"{name}.started"
    await until(lambda: file.exists() and file.read_text() != "")
    return int(file.read_text())


def is_running(pid: int) -> bool:
    """Zombies apart: who reaps orphans here is the machine's business."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def child(traces: Path, **more: Any) -> McpServer:
    given = {
        "name": "t",
        "command": [sys.executable, str(PROGRAM), str(traces)],
        "connect_timeout_s": LIMIT_S,
        "timeout_s": LIMIT_S,
    }
    return McpServer(**{**given, **more})


@contextlib.asynccontextmanager
async def http_server(
    traces: Path, port: int = 0, *flags: str
) -> AsyncIterator[tuple[asyncio.subprocess.Process, int]]:
    port_file = traces / "port"
    port_file.unlink(missing_ok=True)
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(PROGRAM), str(traces), str(port_file), str(port), *flags
    )
    try:
        await until(lambda: port_file.exists() or process.returncode is not None)
        yield process, int(port_file.read_text())
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["stdio", "http", "http --legacy"])
async def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[McpServer]:
    """One server for all that leave it as it was, of either age of the protocol."""
    traces = tmp_path_factory.mktemp("traces")
    transport, *flags = request.param.split()
    if transport == "stdio":
        async with child(traces, command=[sys.executable, str(PROGRAM), str(traces), *flags]) as server:
            yield server
    else:
        async with http_server(traces, 0, *flags) as (_, port):
            url = f"http://127.0.0.1:{port}/mcp"
            async with McpServer(name="t", url=url, headers={"X-Token": "HUSH"}, timeout_s=LIMIT_S) as server:
                yield server


async def tools_of(server: McpServer) -> dict[str, Tool]:
    return {tool.name: tool for tool in await server.tools()}


async def until_listed(server: McpServer, name: str) -> dict[str, Tool]:
    async with asyncio.timeout(LIMIT_S):
        while name not in (found := await tools_of(server)):
            await asyncio.sleep(0.005)
    return found


async def test_tools_are_listed_with_schemas_for_models(server: McpServer) -> None:
    tools = await tools_of(server)
    assert tools["t__add"].spec() == {
        "type": "function",
        "function": {
            "name": "t__add",
            "description": "Adds two numbers.",
            "parameters": {
                "type": "object",
                "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
                "required": ["a", "b"],
            },
        },
    }
    place = tools["t__weather"].parameters["properties"]["place"]
    assert place["properties"]["city"] == {"type": "string", "description": "In English."}
    assert [tools[name].retries for name in ("t__add", "t__meets", "t__weather")] == [1, 1, 0]


async def test_the_list_is_asked_for_once(server: McpServer) -> None:
    await tools_of(server)
    first, again = await tools_of(server), await tools_of(server)
    assert all(first[name] is again[name] for name in first)


async def test_answers_come_as_text(server: McpServer) -> None:
    tools = await tools_of(server)
    assert await tools["t__add"].call({"a": 1, "b": 2}) == "3"
    assert '"degrees": 21' in str(await tools["t__weather"].call({"place": {"city": "Seoul"}}))
    assert str(await tools["t__everything"].call({})).splitlines() == [
        "a text",
        "[image/png, 3 KiB: only text can be passed on here]",
        "[resource notes: file:///notes.txt (text/plain; What was said)]",
    ]


async def test_errors_of_a_tool_are_told_to_the_model(server: McpServer) -> None:
    tools = await tools_of(server)
    with pytest.raises(ToolError, match="This failed: of this") as caught:
        await tools["t__fails"].call({"why": "of this"})
    assert not caught.value.may_retry
    with pytest.raises(ToolError, match="valid integer"):
        await tools["t__add"].call({"a": "x", "b": 2})


async def test_calls_from_several_tasks_run_side_by_side(server: McpServer) -> None:
    """Each waits for the other one, so one after the other would never end."""
    async with asyncio.timeout(LIMIT_S):
        answers = await asyncio.gather(
            server.call("meets", {"name": "a", "other": "b"}), server.call("meets", {"name": "b", "other": "a"})
        )
    assert answers == ["a met b", "b met a"]


async def test_cancelling_a_call_cancels_it_at_the_server(server: McpServer, tmp_path: Path) -> None:
    call = asyncio.create_task(server.call("waits", {"name": str(tmp_path / "cancelled")}))
    await until((tmp_path / "cancelled.started").exists)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await until((tmp_path / "cancelled.ended").exists)
    assert await server.call("add", {"a": 1, "b": 1}) == "2"


async def test_a_call_that_takes_too_long_is_given_up_here_and_there(server: McpServer, tmp_path: Path) -> None:
    short = McpServer(
        name="t", command=server.options.command, url=server.options.url, timeout_s=0.2, connect_timeout_s=LIMIT_S
    )
    async with short:
        with pytest.raises(ToolError, match=r"did not answer within 0.2 s\. Whether it did") as caught:
            await short.call("waits", {"name": str(tmp_path / "late")})
    assert not caught.value.may_retry
    await until(lambda: (tmp_path / "late.ended").exists() or not (tmp_path / "late.started").exists())


async def test_a_changed_list_is_asked_for_again(server: McpServer) -> None:
    before = await tools_of(server)
    await server.call("grows", {"name": "grown"})
    after = await until_listed(server, "t__grown")
    assert after.keys() - before.keys() == {"t__grown"}
    assert await after["t__grown"].call({}) == "grown"


async def test_a_program_sees_nothing_of_our_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it is given, and PATH and its like; its standard error goes to the log; its whole process group ends with it."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-hush")
    lines: list[str] = []
    async with child(tmp_path, env={"GIVEN": "yes"}, log=lines.append) as server:
        seen = await server.call("environment", {})
        left = int(await server.call("leaves_another", {}))
        assert is_running(left)
    assert ("sk-hush" in seen, '"GIVEN": "yes"' in seen) == (False, True)
    assert "the test server starts" in lines
    await until(lambda: not is_running(left))


async def test_a_program_that_is_killed_in_mid_call_is_started_anew(tmp_path: Path) -> None:
    async with child(tmp_path) as server:
        call = asyncio.create_task(server.call("waits", {"name": "lost"}))
        os.kill(await started(tmp_path, "lost"), signal.SIGKILL)
        with pytest.raises(ToolError, match=r"t was lost before it answered\. Whether it did") as caught:
            await call
        assert not caught.value.may_retry
        assert await server.call("add", {"a": 2, "b": 2}) == "4"
        safe = asyncio.create_task(server.call("waits", {"name": "again"}, is_safe=True))
        os.kill(await started(tmp_path, "again"), signal.SIGKILL)
        with pytest.raises(ToolError, match="It may be asked again") as caught:
            await safe
        assert caught.value.may_retry
    with pytest.raises(ToolError, match="was closed here"):
        await server.call("add", {"a": 2, "b": 2})


async def test_a_program_that_comes_back_with_other_tools_is_asked_for_its_list_again(tmp_path: Path) -> None:
    async with child(tmp_path) as server:
        await server.call("grows", {"name": "grown"})
        await until_listed(server, "t__grown")
        call = asyncio.create_task(server.call("waits", {"name": "dies"}))
        os.kill(await started(tmp_path, "dies"), signal.SIGKILL)
        with pytest.raises(ToolError):
            await call
        assert "t__grown" not in await tools_of(server)


async def test_who_is_cancelled_while_a_server_starts_leaves_the_others_their_connection(tmp_path: Path) -> None:
    server = child(tmp_path)
    first = asyncio.create_task(server.call("add", {"a": 1, "b": 1}))
    second = asyncio.create_task(server.call("add", {"a": 1, "b": 2}))
    await asyncio.sleep(0)
    first.cancel()
    assert await second == "3"
    assert first.cancelled()
    await server.close()


async def test_an_http_server_that_is_killed_in_mid_call_is_asked_again_when_it_is_back(tmp_path: Path) -> None:
    clock = FakeClock()
    async with http_server(tmp_path) as (process, port):
        server = McpServer(name="t", url=f"http://127.0.0.1:{port}/mcp", timeout_s=LIMIT_S, clock=clock)
        call = asyncio.create_task(server.call("waits", {"name": "lost"}))
        await started(tmp_path, "lost")
        process.kill()
        with pytest.raises(ToolError, match=r"t was lost before it answered\. Whether it did"):
            await call
    # The first of these may be what finds out that nobody is there any more; the next one is not sent.
    for _ in range(2):
        with pytest.raises(ToolError, match=r"cannot be reached|was lost|failed 2 times in a row") as caught:
            await server.call("add", {"a": 1, "b": 2})
    assert caught.value.may_retry
    async with http_server(tmp_path, port):
        clock.advance(60)
        assert await server.call("add", {"a": 1, "b": 2}) == "3"
        await server.close()


async def test_a_session_that_an_http_server_forgot_is_begun_anew(tmp_path: Path) -> None:
    """It restarted between two calls: what it did not know it did not do, so the caller notices nothing."""
    async with http_server(tmp_path, 0, "--legacy") as (_, port):
        server = McpServer(name="t", url=f"http://127.0.0.1:{port}/mcp", timeout_s=LIMIT_S)
        assert await server.call("add", {"a": 1, "b": 2}) == "3"
    async with http_server(tmp_path, port, "--legacy"):
        assert await server.call("add", {"a": 2, "b": 2}) == "4"
        await server.close()


async def test_a_server_that_fails_and_fails_is_left_alone_for_a_while(tmp_path: Path) -> None:
    server = McpServer(name="gone", command=[str(tmp_path / "no-such-program")])
    for _ in range(2):
        with pytest.raises(McpError, match="'gone' was not started: there is no program"):
            await server.tools()
    with pytest.raises(McpError, match="'gone' failed 2 times in a row; it is asked again in"):
        await server.tools()
    await server.close()


async def test_a_program_that_ends_at_once_is_told_with_its_last_words() -> None:
    script = "import sys; print('bad\\nconfiguration', file=sys.stderr); sys.exit(3)"
    server = McpServer(name="bad", command=[sys.executable, "-c", script], connect_timeout_s=LIMIT_S)
    with pytest.raises(McpError) as caught:
        await server.tools()
    assert str(caught.value) == "The MCP server 'bad' ended before it answered. It wrote:\n  bad\n  configuration"
    with pytest.raises(ToolError) as told:
        await server.call("add", {})
    assert str(told.value) == "The MCP server 'bad' ended before it answered."
    await server.close()


async def test_a_program_that_says_nothing_is_not_waited_for() -> None:
    server = McpServer(name="mute", command=["sleep", "600"], connect_timeout_s=0.1)
    with pytest.raises(McpError, match=r"'mute' did not answer within 0\.1 s"):
        await server.tools()
    await server.close()


async def test_a_pool_opens_what_is_asked_for_and_names_what_fails(tmp_path: Path) -> None:
    servers = [
        child(tmp_path, include=["add", "w*"], exclude=["waits"], needs_approval=["w*"]),
        McpServer(name="gone", command=["/no/such"]),
    ]
    async with McpPool(servers) as pool:
        tools = await pool.tools(skip_failing=True)
        assert [(tool.name, tool.needs_approval) for tool in tools] == [("t__add", False), ("t__weather", True)]
        assert list(pool.problems) == ["gone"]
        assert "there is no program" in pool.problems["gone"]
        with pytest.raises(McpError, match="'gone'"):
            await pool.tools()
        with pytest.raises(McpError, match=r"There is no MCP server 'x' here. Known: t, gone\."):
            await pool.tools(["x"])
        assert len(await pool.tools(["t"])) == 2
        wrong = child(tmp_path, include=["ad"])
        with pytest.raises(McpError, match=r"has no tool 'ad' \(did you mean add\?\); include names it"):
            await wrong.tools()
        await wrong.close()
