"""A Redis of the tests' own, one for each worker; and both event loops, as redis-py's sockets run on either."""

from __future__ import annotations

import asyncio
import functools
import inspect
import os
import shutil
import socket
import subprocess
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path

import pytest
import uvloop

REQUIRED = os.environ.get("NARU_REQUIRE_SERVICES") == "1"
MISSING = "redis-server is missing: install it (apt-get install redis-server) to run the tests of the cache in Redis"
TRIES = 5
#: A follower that nobody releases waits for ever: every test here ends, one way or the other.
LIMIT_S = 30.0


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if not isinstance(item, pytest.Function) or here not in item.path.parents:
            continue
        if inspect.iscoroutinefunction(item.obj) and not hasattr(item.obj, "hypothesis"):
            item.obj = _limited(item.obj)


def _limited(test: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    @functools.wraps(test)
    async def limited(*args: object, **kwargs: object) -> None:
        async with asyncio.timeout(LIMIT_S):
            await test(*args, **kwargs)

    return limited


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Its port. Nothing is written to the disk."""
    if shutil.which("redis-server") is None:
        if REQUIRED:
            pytest.fail(MISSING)
        pytest.skip(MISSING)
    process, port = _started(tmp_path_factory.mktemp("redis"))
    try:
        yield port
    finally:
        process.terminate()
        process.communicate(timeout=10)


def _started(folder: Path) -> tuple[subprocess.Popen[str], int]:
    """A free port may be taken by another before Redis has it; then the next one is tried."""
    said = ""
    for _ in range(TRIES):
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert process.stdout is not None
        said = ""
        for line in process.stdout:
            said += line
            if "Ready to accept connections" in line:
                return process, port
        process.communicate(timeout=10)
    raise AssertionError(f"redis-server does not start:\n{said}")
