"""The composition root: `App(settings)` builds everything one gateway needs. Nothing else constructs implementations.

An App is a plain ASGI application: any server can run it (`uvicorn --factory naru.app:create`). `naru serve` runs it on
uvicorn with the hot paths answered inside the protocol; both ways share `gateway.serve`.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
import sys
from collections.abc import Callable, Iterable
from functools import partial
from importlib import import_module
from math import ceil
from pathlib import Path
from random import Random
from typing import IO, TYPE_CHECKING, cast

import msgspec
import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from naru import config, home
from naru.allowances import Allowances
from naru.cache.memory import MemoryStore
from naru.cache.redis import open_redis
from naru.cache.responses import CacheSettings, ResponseCache
from naru.cache.turns import TurnStore
from naru.calls.attempt import Means
from naru.calls.failover import Failover
from naru.catalog import load_catalog
from naru.clock import Clock, SystemClock
from naru.control.api import AdminApi
from naru.control.desk import Desk
from naru.control.local import ControlServer, serve_control
from naru.control.service import Control, NewKey
from naru.control.side import SideRoutes, family_of_caller, unknown_path
from naru.deployments import Deployments, not_in_effect
from naru.endpoints import ENDPOINTS, ERROR_SHAPES, ERROR_SHAPES_OF, HOT, PATTERNS
from naru.engines.commands import Site
from naru.engines.fleet import EngineFleet
from naru.engines.supervisor import World
from naru.errors import ConfigError, InternalError, MethodNotAllowed, NaruError
from naru.gateway.auth import Auth
from naru.gateway.cached import CachedAnswers
from naru.gateway.serve import Gateway, Policy
from naru.ledger.alerts import Alert
from naru.ledger.display import fx_of
from naru.ledger.ledger import Ledger
from naru.ledger.opening import open_ledger
from naru.ledger.sweep import Sweep
from naru.limits.gate import Gate
from naru.log import configure as configure_log
from naru.metrics import Metrics
from naru.probes import Prober
from naru.protocol.bridge import Dialects
from naru.providers import load_providers
from naru.reach import Reach, needs_sandbox
from naru.reload import Load, Outcome, Reloader, changed_providers
from naru.routing.breaker import BreakerPolicy
from naru.routing.budget import RetryBudget
from naru.routing.fleet import Fleet
from naru.storage.port import Store
from naru.storage.sqlite import SqliteStore
from naru.targets import Upstreams
from naru.testing.sandbox import Sandbox
from naru.transport.asgi import Receive, Send, serve_asgi
from naru.transport.asgi import Scope as AsgiScope
from naru.transport.connect import Connector, Proxies
from naru.transport.exchange import Exchange
from naru.transport.fetch import ImageFetcher
from naru.transport.upstream import UpstreamClient
from naru.watch import Saves, Watcher
from naru.webhook import MAX_CONNECTIONS as MAX_WEBHOOK_CONNECTIONS
from naru.webhook import Hook, Webhook

if TYPE_CHECKING:
    from naru.hosted.opening import OpenHosted

log = structlog.get_logger("naru")

#: A request waits so long for a place in this process, where the place that it lacks is not one of its own limits.
GATE_WAIT_S = 5.0
#: Starts Naru's own worker for local models.
WORKER = (sys.executable, "-m", "naru", "engine", "serve")
#: Retries that a quiet gateway has in hand.
LEAST_RETRIES = 10.0


class FirstKeys(msgspec.Struct, frozen=True):
    """Made when the store holds no key at all; shown once and kept nowhere."""

    admin: str
    caller: str


class App:
    """One gateway. `start` and `stop` may be called by the ASGI lifespan or by hand."""

    def __init__(self, settings: config.Settings, clock: Clock | None = None, load: Load | None = None) -> None:
        """`load` reads the configuration again; without it there is no reloading."""
        self.settings = settings
        self.clock = clock or SystemClock()
        #: Called with the settings after a reload, for what does not belong to the App.
        self.on_taken: Callable[[config.Settings], None] = lambda settings: None
        self.first_keys: FirstKeys | None = None
        self.is_draining = False
        self.gateway: Gateway
        self.control: Control
        self.web: Starlette
        self.webhook: Webhook | None = None
        self.prober: Prober
        self.sweep: Sweep
        self._lock: IO[str] | None = None
        self.engines: EngineFleet
        self._hosted: OpenHosted | None = None
        self._store: Store
        self._client: UpstreamClient
        self._sandbox: Sandbox | None = None
        self._control_server: ControlServer | None = None
        self._sandbox_url = ""
        self._providers = load_providers()
        saves = Saves(lambda: self.settings.source or config.usual_file(self.settings.home))
        self._watcher = Watcher(saves, self._saved)
        self._reloader = Reloader(self, load and _noted(load, saves), self.clock, self._note_reload)

    # --- Life -----------------------------------------------------------------------------------------------------

    async def start(self, make_first_keys: bool = True) -> None:
        """Opens the store, takes the home's lock, starts the sandbox. Raises ConfigError. No upstream is contacted."""
        settings = self.settings
        _warn_of(not_in_effect(settings))
        home.prepare(settings.home)
        self._lock = home.lock(settings.home)
        self._store = open_store(settings)
        records = await asyncio.wrap_future(self._store.keys())
        auth = Auth(home.pepper(settings.home), self.clock, records)
        self.engines = EngineFleet(self._world(settings), lambda origin: self._client.pools.get(origin))
        self._client = UpstreamClient(Connector(proxies=_proxies(settings.proxies), engines=self.engines.open))
        self.dialects = Dialects(HOT, PATTERNS, ENDPOINTS.values())
        upstreams, reach = await self._upstreams(settings)
        self.engines.take(settings.engines, settings.server.drain_s)
        self.gateway = self._gateway(auth, await self._open_ledger(), upstreams)
        self._hosted = self._hosted_tools(settings)
        self.prober = Prober(self.gateway.failover.fleet, asyncio.get_running_loop().time, self.gateway.random)
        self.prober.start(reach.probes(upstreams.table))
        self._tell_alerts_to(_hook(settings.alerts))
        self.sweep = Sweep(self._store, self.clock, settings.log.retention_days)
        self.sweep.start()
        self.control = Control(Desk(self._store, auth, self.clock, self.gateway.ledger.treasury, secrets.token_bytes))
        self._show_in(settings.ledger)
        self.web = self._web()
        if make_first_keys and not auth.records:
            self.first_keys = await self._make_first_keys()

    def _gateway(self, auth: Auth, ledger: Ledger, upstreams: Upstreams) -> Gateway:
        settings, server = self.settings, self.settings.server
        allowances = Allowances(lambda: ledger.treasury.accounts, self.clock, server.queue_s)
        retries = RetryBudget(settings.routing.retry_ratio, LEAST_RETRIES)
        random = Random(secrets.randbits(64))
        failover = Failover(
            self._means(settings, TurnStore(self.clock)), Fleet(_breaker(settings.routing)), allowances, Metrics(), random,
            retries,
        )  # fmt: skip
        gate = Gate(server.max_in_flight, server.max_queue, GATE_WAIT_S, allowances.now_ns)
        cached = self._cached(settings, auth.pepper)
        return Gateway(auth, ledger, upstreams, failover, gate, _policy(settings), cached)

    def _hosted_tools(self, settings: config.Settings) -> OpenHosted | None:
        """Imported where it is wanted: it needs the extra `agent`. Raises ConfigError."""
        if not settings.agent.tools:
            return None
        try:
            opening = import_module("naru.hosted.opening")
        except ModuleNotFoundError as error:
            raise ConfigError(f"agent.tools needs other packages: pip install 'naru[agent]' ({error}).") from None
        return cast("OpenHosted", opening.OpenHosted(settings, self.gateway, self.clock))

    def _means(self, settings: config.Settings, turns: TurnStore) -> Means:
        server, loop = settings.server, asyncio.get_running_loop()
        images = ImageFetcher(self._client, server.fetch_images == "any") if server.fetch_images != "off" else None
        return Means(self.dialects, turns, self.clock, loop, images, server.on_disconnect == "abort")

    def _cached(self, settings: config.Settings, pepper: bytes) -> CachedAnswers | None:
        """Raises ConfigError for what is no address of Redis."""
        cache, redis = settings.cache, settings.store.redis.reveal()
        if not cache.enabled:
            return None
        store = open_redis(redis, self.clock) if redis else MemoryStore(self.clock, cache.max_bytes)
        secret = hmac.digest(pepper, b"response cache", "sha256")
        kept = CacheSettings(ceil(cache.ttl_s), cache.max_entry_bytes)
        return CachedAnswers(ResponseCache(store, self.clock, secret, kept))

    async def _open_ledger(self) -> Ledger:
        fx = fx_of(self.settings.ledger.display_currency, self.settings.ledger.krw_per_usd)
        return await open_ledger(self._store, self.clock, self.settings.home / "journal", self._tell_alert, fx)

    def _world(self, settings: config.Settings) -> World:
        """What local engines run in."""
        folder = settings.source.parent if settings.source else Path()
        site = Site(WORKER, settings.home, folder.resolve())
        random = Random(secrets.randbits(64))
        return World(site, config.engine_environment(), partial(home.engine_socket, settings.home), self.clock, random)

    def run_engines(self) -> None:
        """Starts those that are not to wait for their first request. An App that answers one command has no use for them."""
        self.engines.run()

    def _tell_alert(self, alert: Alert) -> None:
        if self.webhook is not None:
            self.webhook.tell(alert)

    async def open_control(self) -> None:
        """Lets the command line of this NARU_HOME reach this process."""
        self._control_server = await serve_control(self, home.control_socket(self.settings.home))

    async def stop(self) -> None:
        """Closes connections, then writes what the ledger still holds, then the store: in this order nothing is lost."""
        self.is_draining = True
        if self._control_server is not None:
            self._control_server.close()
        self._watcher.stop()
        self.prober.stop()
        self.sweep.stop()
        self.gateway.cut_streams()
        if self.webhook is not None:
            await self.webhook.stop()
        await self._client.close()
        if self._hosted is not None:
            await self._hosted.close()
        await self.engines.stop()
        if self.gateway.cached is not None:
            await self.gateway.cached.cache.close()
        await self.gateway.ledger.end()
        if self._sandbox is not None:
            await self._sandbox.stop()
        self._store.close()
        if self._lock is not None:
            self._lock.close()

    def cut_streams(self) -> None:
        self.gateway.cut_streams()

    def drain(self) -> None:
        """From now on /readyz says no; requests are still answered."""
        self.is_draining = True

    def not_ready(self) -> str | None:
        if self.is_draining:
            return "draining"
        return "the ledger cannot be written" if self.gateway.ledger.is_failing else None

    async def _make_first_keys(self) -> FirstKeys:
        _, admin = await self.control.create_key(NewKey(name="first admin", role="owner"))
        _, caller = await self.control.create_key(NewKey(name="first key"))
        return FirstKeys(admin, caller)

    # --- Configuration --------------------------------------------------------------------------------------------

    async def take(self, settings: config.Settings) -> None:
        """Puts other settings into force: what may go wrong does so before the first assignment, and nothing waits between
        the first and the last. Requests under way go on with what they began with. Raises ConfigError."""
        upstreams, reach = await self._upstreams(settings)
        hook = _hook(settings.alerts)
        news = [each for each in not_in_effect(settings) if each not in not_in_effect(self.settings)]
        gateway, before = self.gateway, self.settings
        has_other_tools = (settings.agent, settings.mcp) != (before.agent, before.mcp)
        hosted = self._hosted_tools(settings) if has_other_tools else self._hosted
        has_other_cache = settings.cache != before.cache
        cached = self._cached(settings, gateway.auth.pepper) if has_other_cache else gateway.cached
        self.settings = settings
        gateway.take(upstreams, _policy(settings))
        gateway.failover.take(self._means(settings, gateway.failover.means.turns), settings.routing.retry_ratio)
        gateway.failover.fleet.renew(_breaker(settings.routing), changed_providers(before, settings))
        gateway.gate.change(settings.server.max_in_flight, settings.server.max_queue, GATE_WAIT_S)
        if has_other_cache:
            former, gateway.cached = gateway.cached, cached
            if former is not None:
                self._client.spawn(former.cache.close())
        former_hosted, self._hosted = self._hosted, hosted
        if former_hosted is not None and former_hosted is not hosted:
            self._client.spawn(former_hosted.close())
        self.prober.start(reach.probes(upstreams.table))
        gateway.allowances.take_over(upstreams.table.routes.values(), settings.server.queue_s)
        self._show_in(settings.ledger)
        self._tell_alerts_to(hook)
        self.sweep.retain(settings.log.retention_days)
        webhook = {} if self.webhook is None else {self.webhook.origin: MAX_WEBHOOK_CONNECTIONS}
        self._client.keep(webhook | reach.connections)
        self.engines.take(settings.engines, settings.server.drain_s)
        if settings.log_level != before.log_level:
            configure_log(settings.log_level)
        _warn_of(news)
        self.on_taken(settings)

    async def _upstreams(self, settings: config.Settings) -> tuple[Upstreams, Reach]:
        """Raises ConfigError. The sandbox that was started stays: requests may be at it."""
        if self._sandbox is None and any(map(needs_sandbox, settings.providers.values())):
            sandbox = Sandbox()
            self._sandbox_url = await sandbox.start()
            self._sandbox = sandbox
        catalog = load_catalog(settings.ledger.krw_per_usd)
        endpoints = {endpoint: dialect.name for endpoint, dialect in ENDPOINTS.items()}
        table = Deployments(settings, self._providers, catalog, endpoints, self.clock.now()).table()
        reach = Reach(settings, self._providers, self.dialects.named, self._client, self._sandbox_url)
        return Upstreams(table, reach.target), reach

    def _show_in(self, settings: config.LedgerSettings) -> None:
        ledger, desk = self.gateway.ledger, self.control.desk
        ledger.fx = desk.fx = fx_of(settings.display_currency, settings.krw_per_usd)
        desk.krw_per_usd = settings.krw_per_usd

    def _tell_alerts_to(self, hook: Hook | None) -> None:
        if hook is not None and self.webhook is not None:
            self.webhook.point_to(hook)
        elif hook is not None:
            self.webhook = Webhook(self._client, self.clock, hook)
        elif self.webhook is not None:
            self._client.spawn(self.webhook.stop())
            self.webhook = None

    def reload(self, trigger: str) -> None:
        """Reads the configuration again, soon; what comes of it is logged and counted."""

        async def read() -> None:
            await self._reloader.reload(trigger)

        self._client.spawn(read())

    def _saved(self) -> None:
        self.reload("save")

    def _note_reload(self, outcome: Outcome) -> None:
        self.gateway.metrics.reloaded(outcome.result, outcome.at)

    def watch(self) -> None:
        """From now on the file is reloaded when it is saved."""
        self._watcher.start()

    # --- HTTP -----------------------------------------------------------------------------------------------------

    async def serve(self, exchange: Exchange) -> None:
        """A hot request, from whichever way in."""
        await (self.gateway if self._hosted is None else self._hosted.hosted).serve(exchange)

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http" and scope["method"] == "POST" and self.dialects.at(scope["path"]) is not None:
            await serve_asgi(self.serve, scope, receive, send, self.settings.server.max_body_bytes)
        else:
            await self.web(scope, receive, send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            await self.start(make_first_keys=False)
            await self.open_control()
            self.run_engines()
            self.watch()
        except ConfigError as error:
            await send({"type": "lifespan.startup.failed", "message": error.message})
            return
        if not self.gateway.auth.records:
            log.warning("no key exists yet; make one with `naru keys create NAME`", home=str(self.settings.home))
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.stop()
        await send({"type": "lifespan.shutdown.complete"})

    def _web(self) -> Starlette:
        side = SideRoutes(self.gateway, self.control, self.engines, self.not_ready).routes()
        admin = AdminApi(self.control, self.gateway, self._reloader, self.engines).routes()
        routes: list[BaseRoute] = [*side, *admin]
        handlers = {HTTPException: self._on_http_error, NaruError: self._on_error, Exception: self._on_crash}
        web = Starlette(routes=routes, exception_handlers=handlers)
        # A redirect would repeat the client's own Host in an address that it then trusts (reliability.md B11).
        web.router.redirect_slashes = False
        return web

    def _on_error(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, NaruError)
        path = request.url.path
        usual = ERROR_SHAPES_OF[family_of_caller(request)]
        shape = next((dialect for prefix, dialect in ERROR_SHAPES if path.startswith(prefix)), usual)
        status, body = shape.encode_error(error)
        return Response(body, status, media_type="application/json")

    def _on_http_error(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        path = request.url.path
        if error.status_code == 405 or path in HOT:
            allowed = "POST" if path in HOT else (error.headers or {}).get("Allow", "another method")
            return self._on_error(
                request, MethodNotAllowed(f"{request.method} is not possible on {path}. Use {allowed}.")
            )
        return self._on_error(request, unknown_path(path, [*HOT, "/v1/models", "/v1/usage", "/v1/explain"]))

    def _on_crash(self, request: Request, error: Exception) -> Response:
        log.error("a request failed", path=request.url.path, exc_info=error)
        return self._on_error(request, InternalError("Naru failed on this request; its log has the cause."))


def _hook(settings: config.AlertSettings) -> Hook | None:
    if not settings.webhook:
        return None
    return Hook(settings.webhook.reveal(), settings.secret.reveal(), settings.allow_private)


def _noted(load: Load, saves: Saves) -> Load:
    """What was read for another reason need not be read again because it was saved."""

    def noted(path: Path | None) -> config.Settings:
        saves.note()
        return load(path)

    return noted


def _warn_of(settings: Iterable[tuple[str, str]]) -> None:
    for key, why in settings:
        log.warning("a setting has no effect yet", setting=key, why=why)


def _policy(settings: config.Settings) -> Policy:
    server, is_power_safe = settings.server, settings.ledger.durability == "power"
    return Policy(server.max_body_bytes, is_power_safe, settings.log.content, server.hold_s, server.keepalive_s)


def _breaker(routing: config.RoutingSettings) -> BreakerPolicy:
    return BreakerPolicy(routing.breaker_failures, routing.breaker_open_s, routing.breaker_max_open_s)


def _proxies(settings: config.ProxySettings) -> Proxies:
    given = {"http": settings.http, "https": settings.https}
    return Proxies({scheme: url.reveal() for scheme, url in given.items() if url is not None}, settings.no_proxy)


def open_store(settings: config.Settings) -> Store:
    """The store that settings.store.url names. Raises ConfigError."""
    scheme, _, path = settings.store.url.reveal().partition("://")
    if scheme != "sqlite":
        raise ConfigError(
            f"store.url begins with {scheme}://, which this version does not have. Use sqlite:///path/to/naru.db."
        )
    return SqliteStore(Path("/" + path.lstrip("/")) if path.startswith("/") else Path(path))


def create() -> App:
    """For ASGI servers: an App from naru.toml and the environment."""

    def load(path: Path | None) -> config.Settings:
        return config.settings_of_process(path, {})

    settings = load(None)
    configure_log(settings.log_level)
    return App(settings, load=load)
