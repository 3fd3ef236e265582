"""Runs inside the gateway: who may use which tools, the run itself, and what becomes of it.

Every turn is a request of its own with a ledger entry of its own; the run's answer tells the sums. It has no entry of its own,
so that no token is billed twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import aclosing
from typing import cast

import structlog

from naru.agent.drive import Ports, drive
from naru.agent.events import Done
from naru.agent.loop import Limits, Loop
from naru.agent.toolbox import Offered, Toolbox, gathered
from naru.cache.idempotency import key_in
from naru.clock import Clock
from naru.errors import BadRequest, InternalError, NaruError
from naru.gateway.serve import Gateway
from naru.hosted.asked import Asked, Wanted, asked, limits_of, wanted
from naru.hosted.memory import Hidden
from naru.hosted.telling import Head, Teller
from naru.hosted.turn import GatewayModel
from naru.protocol.content_type import check_json
from naru.protocol.dialect import Dialect
from naru.protocol.retry_after import retry_headers
from naru.storage.records import KeyRecord
from naru.transport.exchange import Exchange, HeaderList

PATHS = frozenset({"/v1/chat/completions", "/v1/responses"})
#: What a body with `naru.tools` has somewhere: bodies without it are not looked into.
MARK = b'"naru"'

log = structlog.get_logger("naru.hosted")


class Hosted:
    """`offered` are the tools that callers may name. `limits` are the most that a run may use."""

    def __init__(self, gateway: Gateway, offered: Mapping[str, Offered], limits: Limits, clock: Clock) -> None:
        self.gateway = gateway
        self.offered = offered
        self.limits = limits
        self._clock = clock
        self._hidden = Hidden()

    async def serve(self, exchange: Exchange) -> None:
        """Answers a hot request, whatever happens to it: itself where it names tools, through the gateway else."""
        dialect = self.gateway.dialects.at(exchange.path)
        if exchange.path not in PATHS or MARK not in exchange.payload or dialect is None:
            await self.gateway.serve(exchange)
            return
        await self._serve(exchange, cast(Dialect, dialect))

    async def _serve(self, exchange: Exchange, dialect: Dialect) -> None:
        head = Head(self.gateway.ids.next(), int(self._clock.now()), self.gateway.ledger.fx)
        teller: Teller | None = None
        try:
            envelope = dialect.read(exchange.payload, exchange.path, exchange.headers)
            want = wanted(envelope)
            if want is None:
                await self.gateway.serve(exchange)
                return
            check_json(exchange.headers)
            if key_in(exchange.headers) is not None:
                raise BadRequest(
                    "A run with `naru.tools` is not kept for an Idempotency-Key: its tools would not know that it was asked "
                    "twice. Leave the header out.",
                    code="unsupported_parameter",
                )
            key = self.gateway.auth.identify(exchange.headers, address=exchange.client)
            teller = Teller(exchange, dialect, envelope, head)
            await self._run(exchange, teller, want, asked(dialect, envelope), key)
        except NaruError as error:
            _refuse(exchange, dialect, head, teller, error)
        except asyncio.CancelledError:
            if not exchange.is_gone:
                raise
        except Exception as error:
            log.exception("a run failed inside the gateway", request_id=head.id)
            internal = InternalError(f"Naru failed on this request. Its log has the cause under {head.id}.")
            internal.__cause__ = error
            _refuse(exchange, dialect, head, teller, internal)

    async def _run(self, exchange: Exchange, teller: Teller, want: Wanted, asked: Asked, key: KeyRecord) -> None:
        toolbox = await self._toolbox(want, asked)
        messages = self._hidden.restored(key.id, asked.messages)
        loop = Loop(toolbox.tools, limits_of(want, self.limits), toolbox.handed_over)
        model = GatewayModel(self.gateway.serve, exchange, asked.fields, toolbox.specs)
        teller.turn_headers = lambda: model.headers
        task = asyncio.current_task()
        assert task is not None
        exchange.listener = _Hangup(task)
        state = loop.begin(messages, self._clock.now())
        async with aclosing(drive(loop, state, Ports(model, self._clock.now))) as events:
            async for event in events:
                teller.hear(event)
                if isinstance(event, Done):
                    if event.run.ending == "handed_over":
                        hidden = event.run.messages[len(messages) :]
                        self._hidden.keep(key.id, asked.messages, event.run.pending[0].id, hidden)
                    teller.end(event.run)

    async def _toolbox(self, want: Wanted, asked: Asked) -> Toolbox:
        unknown = [name for name in want.tools if name not in self.offered]
        if unknown:
            raise BadRequest(
                f"This gateway offers no tool {unknown[0]!r}. It offers: {', '.join(self.offered) or 'none'} (`agent.tools` in "
                "its naru.toml).",
                code="unknown_tool",
                param="naru.tools",
            )
        return await gathered([*(self.offered[name] for name in want.tools), *asked.tools], {})


class _Hangup:
    """exchange.Listener: a caller who left ends the run. Turns are short, so nothing is paused."""

    def __init__(self, task: asyncio.Task[None]) -> None:
        self._task = task

    def on_pause(self) -> None: ...

    def on_resume(self) -> None: ...

    def on_gone(self) -> None:
        self._task.cancel()


def _refuse(exchange: Exchange, dialect: Dialect, head: Head, teller: Teller | None, error: NaruError) -> None:
    if teller is not None and teller.is_streaming:
        exchange.write(dialect.encode_stream_error(error))
        exchange.finish()
        return
    status, body = dialect.encode_error(error)
    headers: HeaderList = [(b"content-type", b"application/json"), (b"x-request-id", head.id.encode())]
    exchange.reply(status, headers + retry_headers(error), body)
