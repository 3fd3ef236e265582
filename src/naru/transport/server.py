"""uvicorn, told how Naru starts and leaves: slow senders are dropped, SIGTERM drains, and the exit code says how it went."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable
from types import FrameType
from typing import NamedTuple

import uvicorn

from naru.errors import ConfigError
from naru.transport.fast import FastProtocol

TICK_S = 0.05
BACKLOG = 2048


def listen(host: str, port: int) -> socket.socket:
    """A bound socket, so that a taken port is one clear sentence before anything else starts."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else str(error)
        raise ConfigError(f"Cannot listen on {host}:{port}: {why}. Choose another with --port.") from error


class Waits(NamedTuple):
    """`pre_stop_s`: how long the listener stays open after SIGTERM, so that load balancers can look away first.
    `drain_s`: how long open requests may go on after that."""

    pre_stop_s: float
    drain_s: float


class Server(uvicorn.Server):
    """On the first SIGTERM or SIGINT `on_drain` is called at once (readyz turns 503). After SIGTERM the listener stays open
    for `pre_stop_s`, then closes; open streams may finish for `drain_s`, then `on_cut` ends them in-band. A second signal
    ends everything at once.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        waits: Waits,
        on_drain: Callable[[], None],
        on_cut: Callable[[], None],
        on_started: Callable[[], None],
    ) -> None:
        super().__init__(config)
        self.waits = waits
        self.on_drain = on_drain
        self.on_cut = on_cut
        self.on_started = on_started
        self.signals: list[int] = []

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # uvicorn would raise the signal again after a clean end, and the process would look killed.
        self.signals.append(sig)
        if self.should_exit:
            self.force_exit = True
        self.should_exit = True
        self.on_drain()

    @property
    def exit_code(self) -> int:
        """0 after SIGTERM or no signal; 130 after an interrupt from the terminal; 1 if it never started."""
        if not self.started:
            return 1
        return 130 if signal.SIGINT in self.signals else 0

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self.on_started()

    async def on_tick(self, counter: int) -> bool:
        if counter % 10 == 0:
            self._sweep()
        return await super().on_tick(counter)

    def _sweep(self) -> None:
        """Once a second: slow senders are refused, connections kept alive for too long are closed."""
        now = asyncio.get_running_loop().time()
        for connection in list(self.server_state.connections):
            if not isinstance(connection, FastProtocol):
                continue
            if connection.is_too_slow(now):
                connection.refuse_slow()
            elif connection.is_idle_too_long(now):
                connection.transport.close()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        loop = asyncio.get_running_loop()
        if signal.SIGTERM in self.signals:
            closing_at = loop.time() + self.waits.pre_stop_s
            while loop.time() < closing_at and not self.force_exit:
                await asyncio.sleep(TICK_S)
        cutting = loop.call_later(self.waits.drain_s, self.on_cut)
        # A stream may end because it was cut; uvicorn's own limit comes later and is the last resort.
        self.config.timeout_graceful_shutdown = int(self.waits.drain_s) + 5
        try:
            await super().shutdown(sockets)
        finally:
            cutting.cancel()
