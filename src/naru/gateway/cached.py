"""The response cache's part of the path: who is answered from it, and what it is told of everybody else's answers."""

from __future__ import annotations

from hashlib import blake2b

from naru.cache.answers import Saved
from naru.cache.control import control_of
from naru.cache.flight import Ending, Leader
from naru.cache.key import Scope, passed
from naru.cache.responses import Hit, ResponseCache
from naru.calls.call import Call
from naru.ledger.ledger import Settlement
from naru.routing.table import Route, Table

#: Written-out model names come from callers.
MAX_VERSIONS = 4096


class CachedAnswers:
    """`begin` before a request is planned; `keep` and `spoil` for what is made anew."""

    def __init__(self, cache: ResponseCache) -> None:
        self.cache = cache
        self._versions: dict[str, tuple[Table, Route, str]] = {}

    async def begin(self, call: Call) -> Hit | None:
        """The answer, if it is there or is being made for another. None: the request is executed, through `call.exchange`."""
        headers = call.exchange.headers
        control = control_of(headers, self.cache.settings.ttl_s)
        names = call.dialect.passed_headers
        scope = Scope(
            call.key.account or call.key.owner,
            call.dialect.name,
            call.exchange.path,
            self._version(call.route, call.upstreams.table),
            passed(headers, names) if names else (),
        )
        begun = await self.cache.begin(call.exchange, self.cache.key(scope, call.envelope), control)
        call.begun = begun
        if begun is None or isinstance(begun, Leader):
            call.exchange = begun or call.exchange
            call.cache_state = b"off" if begun is None else b"miss"
            return None
        call.cache_state = b"hit"
        return begun

    def _version(self, route: Route, table: Table) -> str:
        """Changes when another model, or the same with other defaults, may answer under this name."""
        found = self._versions.get(route.name)
        if found is not None and found[0] is table and found[1] is route:
            return found[2]
        if len(self._versions) >= MAX_VERSIONS:
            self._versions.clear()
        mixed = blake2b(digest_size=16)
        for each in (route, *(table.resolve(name) for name in route.fallbacks)):
            for deployment in each.deployments:
                defaults = sorted((name, bytes(raw)) for name, raw in deployment.defaults.items())
                mixed.update(repr((each.name, deployment.id, deployment.model, defaults)).encode())
        self._versions[route.name] = table, route, mixed.hexdigest()
        return self._versions[route.name][2]


def keep(call: Call, end: Settlement, cost: int) -> None:
    """A whole answer may be told again."""
    if isinstance(call.begun, Leader) and end.outcome == "completed":
        usage = end.usage
        call.begun.keep(Saved(cost, usage.input if usage else 0, usage.output if usage else 0, end.deployment))


def spoil(call: Call) -> None:
    """What comes now is no part of an answer."""
    if isinstance(call.begun, Leader):
        call.begun.spoil()


def ending(told: Ending) -> Settlement:
    """How a request ended that was told what another's answer says: it costs nothing, whatever happened."""
    if told is Ending.GONE:
        return Settlement("cancelled", 499, "cache")
    return Settlement("cached" if told is Ending.WHOLE else "partial", 200, "cache")
