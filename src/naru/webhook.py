"""Budget alerts to an address of the operator's, signed, so that the receiver can tell that they are ours.

    POST, application/json           the alert's fields, `id` and `type`
    naru-signature: t=<unix seconds>,v1=<hex HMAC-SHA256 of "<t>.<body>" under alerts.secret>

An alert is tried a few times with growing waits; its `id` stays the same, so that a receiver can drop what it has seen. No
request waits for any of this, and no more than MAX_WAITING alerts wait here.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
from collections import deque
from collections.abc import Sequence
from urllib.parse import quote, urlsplit

import msgspec
import structlog

from naru.clock import Clock
from naru.errors import NaruError, UpstreamError
from naru.ledger.alerts import Alert
from naru.transport.connect import Origin
from naru.transport.deadlines import Deadlines
from naru.transport.upstream import Connection, Headers, UpstreamClient

#: Waits before the second, third … attempt: five minutes in all.
WAITS_S = (1.0, 5.0, 30.0, 240.0)
TIMEOUT_S = 10.0
MAX_WAITING = 1_000
MAX_CONNECTIONS = 2
#: At the end, what waits gets so long.
STOP_S = 2.0

log = structlog.get_logger("naru.webhook")


class Hook(msgspec.Struct, frozen=True):
    """Where alerts go, and what they are signed with."""

    url: str
    secret: str
    allow_private: bool = False


class Webhook:
    """`tell` is called on the request path: it only puts the alert into a queue."""

    def __init__(self, client: UpstreamClient, clock: Clock, hook: Hook, waits_s: Sequence[float] = WAITS_S) -> None:
        self.clock = clock
        self.waits_s = waits_s
        self.delivered = 0
        self.given_up = 0
        self._client = client
        self.point_to(hook)
        self._waiting: deque[Alert] = deque()
        self._task: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()

    def point_to(self, hook: Hook) -> None:
        """From the next attempt on; what waits goes there too."""
        parts = urlsplit(hook.url)
        self.hook = hook
        self.origin = Origin.of(hook.url, hook.allow_private)
        self._pool = self._client.pool(self.origin, MAX_CONNECTIONS)
        target = quote(
            f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/", safe="/?%:@!$&'()*+,;=~-._"
        )
        host = parts.netloc
        self._head = f"POST {target} HTTP/1.1\r\nhost: {host}\r\nuser-agent: naru\r\ncontent-type: application/json\r\n"

    def tell(self, alert: Alert) -> None:
        if len(self._waiting) >= MAX_WAITING:
            self.given_up += 1
            log.error("too many alerts wait for the webhook; this one is only logged", id=alert_id(alert))
            return
        self._waiting.append(alert)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._deliver_all())

    async def stop(self) -> None:
        """What waits gets a last short time; the log has the rest."""
        self._stopping.set()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=STOP_S)
            self._task.cancel()
        for alert in self._waiting:
            log.error("an alert was not delivered before the gateway stopped", id=alert_id(alert))

    async def _deliver_all(self) -> None:
        while self._waiting:
            await self._deliver(self._waiting[0])
            self._waiting.popleft()

    async def _deliver(self, alert: Alert) -> None:
        why = ""
        for wait_s in (0.0, *self.waits_s):
            if wait_s and self._stopping.is_set():
                break
            if wait_s:
                await self._pause(wait_s)
            try:
                status = await self._post(alert)
            except NaruError as error:
                why = error.message
                continue
            if 200 <= status < 300:
                self.delivered += 1
                return
            why = f"status {status}"
            if status < 500 and status not in (408, 429):
                break  # the receiver does not want it, and will not in a minute
        self.given_up += 1
        log.error("an alert could not be delivered", id=alert_id(alert), why=why)

    async def _pause(self, seconds: float) -> None:
        """Until the next attempt is due, or there will be no other time for it."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    async def _post(self, alert: Alert) -> int:
        """One attempt. Raises UpstreamError, Overloaded."""
        body = msgspec.json.encode({"id": alert_id(alert), "type": "budget.alert", **msgspec.structs.asdict(alert)})
        signed = signature(self.hook.secret, int(self.clock.now()), body)
        head = f"{self._head}naru-signature: {signed}\r\ncontent-length: {len(body)}\r\n\r\n"
        connection = await self._pool.acquire(TIMEOUT_S)
        receipt = _Receipt(asyncio.get_running_loop().create_future())
        deadlines = Deadlines(self._client.loop.time(), TIMEOUT_S, TIMEOUT_S, TIMEOUT_S)
        connection.send((head.encode("latin-1"), body), receipt, deadlines)
        try:
            return await receipt.future
        finally:
            connection.abort(receipt)


def alert_id(alert: Alert) -> str:
    """The same for the same mark of the same window, however often it is sent."""
    return f"{alert.scope}:{alert.per_mille}"


def signature(secret: str, at: int, body: bytes) -> str:
    """The value of `naru-signature`."""
    digest = hmac.digest(secret.encode(), b"%d.%b" % (at, body), "sha256").hex()
    return f"t={at},v1={digest}"


class _Receipt:
    """See upstream.Sink: only the status matters, and the answer is over with its head."""

    def __init__(self, future: asyncio.Future[int]) -> None:
        self.future = future
        self.connection: Connection | None = None
        self.is_over = False

    def on_head(self, status: int, headers: Headers) -> None:
        if not self.future.done():
            self.future.set_result(status)

    def on_data(self, data: bytes) -> None: ...

    def on_end(self) -> None:
        self.is_over = True

    def on_failure(self, error: UpstreamError) -> None:
        self.is_over = True
        if not self.future.done():
            self.future.set_exception(error)
