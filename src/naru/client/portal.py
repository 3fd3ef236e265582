"""An event loop in a thread of its own, so that code without one can use what is written for one."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import Any, TypeVar

T = TypeVar("T")


class Portal:
    """Starts with the first call. May be used from several threads."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Waits for it. Whoever is interrupted while waiting stops the work."""
        future = asyncio.run_coroutine_threadsafe(work, self._running())
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def iterate(self, work: AsyncIterator[T]) -> Iterator[T]:
        """Whoever stops listening stops the work, and waits until it has ended."""
        items: queue.SimpleQueue[T | _End] = queue.SimpleQueue()
        task = self.call(_begin(work, items))
        item: T | _End | None = None
        try:
            while not isinstance(item := items.get(), _End):
                yield item
            if item.error is not None:
                raise item.error
        finally:
            if not isinstance(item, _End):
                self._running().call_soon_threadsafe(task.cancel)
                while not isinstance(items.get(), _End):
                    pass

    def close(self) -> None:
        with self._lock:
            loop, thread, self._loop = self._loop, self._thread, None
        if loop is not None and thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=_serve, args=(self._loop,), name="naru", daemon=True)
                self._thread.start()
            return self._loop


class _End:
    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


async def _begin(work: AsyncIterator[T], items: queue.SimpleQueue[T | _End]) -> asyncio.Task[None]:
    """An end comes in any case, of a task too that is cancelled before its first step."""
    task = asyncio.create_task(_pump(work, items))
    task.add_done_callback(lambda done: items.put(_End(None if done.cancelled() else done.exception())))
    return task


async def _pump(work: AsyncIterator[T], items: queue.SimpleQueue[T | _End]) -> None:
    try:
        async for item in work:
            items.put(item)
    finally:
        close = getattr(work, "aclose", None)
        if close is not None:
            await close()


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        pending = asyncio.all_tasks(loop)
        for task in pending:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*pending, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
