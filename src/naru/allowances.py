"""Which limits a request has to pass: its key's, its team's and organisation's, the model's; and a deployment's, at each call.

A scope has one meter for as long as this process lives. A request that nothing limits costs one look into a table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from naru.clock import Clock
from naru.ledger.purses import lineage
from naru.limits.admission import Admission, Hold
from naru.limits.headers import headers
from naru.limits.meters import NO_LIMITS, UNBOUNDED, Limits, Meter
from naru.limits.priority import priority_of
from naru.limits.refusals import NoPlace
from naru.protocol.dialect import Envelope
from naru.protocol.tokens import estimate_tokens_bytes
from naru.routing.table import Deployment, Route
from naru.storage.records import AccountRecord, KeyRecord, LimitRecord

Meters = tuple[Meter, ...]
Accounts = Mapping[str, AccountRecord]

#: What an answer is taken to have where its request sets no limit, until the real figure is known.
USUAL_OUTPUT = 1_024
MAX_PATHS = 100_000


class Allowances:
    """`accounts` gives the accounts as they stand; `queue_s` is how long a request may wait for a place."""

    def __init__(self, accounts: Callable[[], Accounts], clock: Clock, queue_s: float = 0.0) -> None:
        self.clock = clock
        self.queue_s = queue_s
        self.admission = Admission()
        self._accounts = accounts
        self._meters: dict[str, Meter] = {}
        self._paths: dict[tuple[str, str], tuple[KeyRecord, Accounts, Route, Meters]] = {}

    def now_ns(self) -> int:
        return int(self.clock.monotonic() * 1e9)

    def path(self, key: KeyRecord, route: Route) -> Meters:
        """The meters of a request, empty where nothing limits it. Changes of the key, of accounts and of the
        configuration are seen at once."""
        place, accounts = (key.id, route.name), self._accounts()
        found = self._paths.get(place)
        if found is not None and found[0] is key and found[1] is accounts and found[2] is route:
            return found[3]
        if len(self._paths) >= MAX_PATHS:
            self._paths.clear()
        meters = self._path(key, route, accounts)
        self._paths[place] = key, accounts, route, meters
        return meters

    def _path(self, key: KeyRecord, route: Route, accounts: Accounts) -> Meters:
        wanted = [(f"key {key.id}", key.owner, _limits(key.limits))]
        for owner in lineage(key.owner, key.account, accounts)[1:]:
            account = accounts[owner]
            wanted.append((f"{account.kind} {account.name}", owner, _limits(account.limits)))
        wanted.append((f"model {route.name}", f"model:{route.name}", route.limits))
        # A meter that is there hears that its limits are gone: someone may wait for a place.
        found = [
            self._meter(words, scope, limits or NO_LIMITS)
            for words, scope, limits in wanted
            if limits is not None or scope in self._meters
        ]
        return tuple(meter for meter in found if meter.is_limited)

    def of_deployment(self, deployment: Deployment) -> Meters:
        if deployment.limits is None:
            return ()
        return (self._meter(f"deployment {deployment.id}", f"deployment:{deployment.id}", deployment.limits),)

    def take_over(self, routes: Iterable[Route], queue_s: float) -> None:
        """Another configuration's limits, at once: also for who waits, and without waiting for the next request."""
        self.queue_s = queue_s
        known: dict[str, Limits | None] = {}
        for route in routes:
            known[f"model:{route.name}"] = route.limits
            known |= {f"deployment:{each.id}": each.limits for each in route.deployments if each.limits is not None}
        for scope, meter in self._meters.items():
            limits = known.get(scope) or NO_LIMITS
            if scope.startswith(("model:", "deployment:")) and meter.limits != limits:
                self.admission.change(meter, limits, self.now_ns())

    def _meter(self, words: str, scope: str, limits: Limits) -> Meter:
        meter = self._meters.get(scope)
        if meter is None:
            meter = self._meters[scope] = Meter(words, limits)
        elif meter.limits != limits:
            self.admission.change(meter, limits, self.now_ns())
        return meter

    def take(self, meters: Meters, envelope: Envelope) -> Hold:
        """All of them at once, without waiting. Raises RateLimited, BadRequest."""
        return self.admission.take(meters, _tokens(envelope, meters), self.now_ns())

    async def admit(self, meters: Meters, envelope: Envelope, asked: Iterable[tuple[bytes, bytes]]) -> Hold:
        """The same, with a bounded wait where only a place is missing. `asked` are the request's headers."""
        try:
            return self.take(meters, envelope)
        except NoPlace:
            if self.queue_s <= 0:
                raise
        priority = priority_of(asked)
        return await self.admission.acquire(meters, _tokens(envelope, meters), self.now_ns(), priority, self.queue_s)

    def headers(self, meters: Meters) -> list[tuple[bytes, bytes]]:
        return headers(meters, self.now_ns())


def _limits(record: LimitRecord) -> Limits | None:
    if record.rpm is None and record.tpm is None and record.concurrency is None:
        return None
    return Limits(rpm=record.rpm, tpm=record.tpm, concurrency=record.concurrency)


def _tokens(envelope: Envelope, meters: Meters) -> int:
    """What the request may use: what it says, else a page, or a quarter of the smallest limit: a guess refuses nobody."""
    limit = envelope.max_output_tokens
    if limit is None and envelope.estimate is None:
        smallest = min((meter.limits.tpm for meter in meters if meter.limits.tpm is not None), default=UNBOUNDED)
        limit = min(USUAL_OUTPUT, smallest // 4)
    return estimate_tokens_bytes(envelope.input_bytes) + (limit or 0) * envelope.n
