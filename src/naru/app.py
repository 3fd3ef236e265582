"""The composition root: `App(settings)` builds everything one gateway needs. Nothing else constructs implementations.

An App is a plain ASGI application: any server can run it (`uvicorn --factory naru.app:create`). `naru serve` runs it on
uvicorn with the hot paths answered inside the protocol; both ways share `gateway.serve`.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
from collections.abc import Mapping
from math import ceil
from pathlib import Path
from random import Random
from typing import IO

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
from naru.protocol.anthropic_messages import ANTHROPIC_MESSAGES
from naru.protocol.bedrock import BEDROCK
from naru.protocol.bridge import Dialects
from naru.protocol.clova import CLOVA
from naru.protocol.dialect import ClientSide, UpstreamSide
from naru.protocol.embeddings import EMBEDDINGS, EMBEDDINGS_CLOVA, EMBEDDINGS_GEMINI
from naru.protocol.gemini import GEMINI
from naru.protocol.media import EDITS, IMAGES, SPEECH, TRANSCRIPTION, TRANSLATION
from naru.protocol.openai_chat import OPENAI_CHAT
from naru.protocol.openai_completions import OPENAI_COMPLETIONS
from naru.protocol.openai_responses import OPENAI_RESPONSES
from naru.protocol.rerank import RERANK, RERANK_CLOVA, RERANK_DASHSCOPE
from naru.providers import Provider, load_providers
from naru.routing.breaker import BreakerPolicy
from naru.routing.budget import RetryBudget
from naru.routing.fleet import Fleet
from naru.routing.table import Deployment
from naru.storage.port import Store
from naru.storage.sqlite import SqliteStore
from naru.targets import Sign, Target, Upstreams, host_of, target_for
from naru.testing.sandbox import Sandbox
from naru.transport.asgi import Receive, Send, serve_asgi
from naru.transport.asgi import Scope as AsgiScope
from naru.transport.connect import Connector, Origin, Proxies
from naru.transport.exchange import Exchange
from naru.transport.fetch import ImageFetcher
from naru.transport.sigv4 import AwsCredentials, RequestSigner, Scope
from naru.transport.upstream import UpstreamClient
from naru.webhook import Hook, Webhook

log = structlog.get_logger("naru")

#: Client path -> dialect. What is here is hot, and passes the one choke point for money.
HOT: Mapping[str, ClientSide] = {
    "/v1/chat/completions": OPENAI_CHAT,
    "/v1/completions": OPENAI_COMPLETIONS,
    "/v1/responses": OPENAI_RESPONSES,
    "/v1/messages": ANTHROPIC_MESSAGES,
    "/v1/embeddings": EMBEDDINGS,
    "/v1/rerank": RERANK,
    "/v1/audio/transcriptions": TRANSCRIPTION,
    "/v1/audio/translations": TRANSLATION,
    "/v1/audio/speech": SPEECH,
    "/v1/images/generations": IMAGES,
    "/v1/images/edits": EDITS,
}
#: The same for paths that name the model: prefix, what follows the name, dialect.
PATTERNS: tuple[tuple[str, str, ClientSide], ...] = (
    ("/v1beta/models/", ":generateContent", GEMINI),
    ("/v1beta/models/", ":streamGenerateContent", GEMINI),
    ("/v1/models/", ":generateContent", GEMINI),
    ("/v1/models/", ":streamGenerateContent", GEMINI),
)
#: An endpoint of a provider (its name in `Provider.paths`) -> the dialect spoken there.
ENDPOINTS: Mapping[str, UpstreamSide] = {
    "chat": OPENAI_CHAT,
    "completions": OPENAI_COMPLETIONS,
    "responses": OPENAI_RESPONSES,
    "messages": ANTHROPIC_MESSAGES,
    "generate": GEMINI,
    "converse": BEDROCK,
    "clova_v3": CLOVA,
    "clova_v1": CLOVA,
    "embeddings": EMBEDDINGS,
    "embeddings_gemini": EMBEDDINGS_GEMINI,
    "embeddings_clova": EMBEDDINGS_CLOVA,
    "rerank": RERANK,
    "rerank_dashscope": RERANK_DASHSCOPE,
    "rerank_clova": RERANK_CLOVA,
    "transcription": TRANSCRIPTION,
    "translation": TRANSLATION,
    "speech": SPEECH,
    "images": IMAGES,
    "edits": EDITS,
}


#: Whose form the errors of other paths take: by prefix, else by whose client asks.
ERROR_SHAPES: tuple[tuple[str, ClientSide], ...] = (("/v1/messages", ANTHROPIC_MESSAGES), ("/v1beta/", GEMINI))
ERROR_SHAPES_OF: Mapping[str, ClientSide] = {
    "openai": OPENAI_CHAT,
    "anthropic": ANTHROPIC_MESSAGES,
    "gemini": GEMINI,
}

#: A request waits so long for a place in this process, where the place that it lacks is not one of its own limits.
GATE_WAIT_S = 5.0
#: Retries that a quiet gateway has in hand.
LEAST_RETRIES = 10.0
#: Written-out model names come from callers, so what is kept for them is bounded.
MAX_TARGETS = 10_000


class FirstKeys(msgspec.Struct, frozen=True):
    """Made when the store holds no key at all; shown once and kept nowhere."""

    admin: str
    caller: str


class App:
    """One gateway. `start` and `stop` may be called by the ASGI lifespan or by hand."""

    def __init__(self, settings: config.Settings, clock: Clock | None = None) -> None:
        self.settings = settings
        self.clock = clock or SystemClock()
        self.first_keys: FirstKeys | None = None
        self.is_draining = False
        self.gateway: Gateway
        self.control: Control
        self.web: Starlette
        self.webhook: Webhook | None = None
        self.cache: ResponseCache | None = None
        self.sweep: Sweep
        self._lock: IO[str] | None = None
        self._store: Store
        self._client: UpstreamClient
        self._sandbox: Sandbox | None = None
        self._control_server: ControlServer | None = None
        self._providers = load_providers()
        self._targets: dict[tuple[str, str], Target] = {}
        self._base_urls: dict[str, str] = {}

    # --- Life -----------------------------------------------------------------------------------------------------

    async def start(self, make_first_keys: bool = True) -> None:
        """Opens the store, takes the home's lock, starts the sandbox. Raises ConfigError. No upstream is contacted."""
        settings = self.settings
        for key, why in not_in_effect(settings):
            log.warning("a setting has no effect yet", setting=key, why=why)
        home.prepare(settings.home)
        self._lock = home.lock(settings.home)
        self._store = open_store(settings)
        records = await asyncio.wrap_future(self._store.keys())
        auth = Auth(home.pepper(settings.home), self.clock, records)
        self._client = UpstreamClient(Connector(proxies=_proxies(settings.proxies)))
        await self._start_sandboxes()
        catalog = load_catalog(settings.ledger.krw_per_usd)
        endpoints = {endpoint: dialect.name for endpoint, dialect in ENDPOINTS.items()}
        deployments = Deployments(settings, self._providers, catalog, endpoints, self.clock.now())
        self.dialects = Dialects(HOT, PATTERNS, ENDPOINTS.values())
        ledger = await self._open_ledger()
        self.gateway = self._gateway(auth, ledger, Upstreams(deployments.table(), self.target))
        self._start_webhook()
        self.sweep = Sweep(self._store, self.clock, settings.log.retention_days)
        self.sweep.start()
        self.control = Control(self._desk(auth))
        self.web = self._web()
        if make_first_keys and not auth.records:
            self.first_keys = await self._make_first_keys()

    def _gateway(self, auth: Auth, ledger: Ledger, upstreams: Upstreams) -> Gateway:
        server, routing = self.settings.server, self.settings.routing
        images = ImageFetcher(self._client, server.fetch_images == "any") if server.fetch_images != "off" else None
        loop = asyncio.get_running_loop()
        means = Means(self.dialects, TurnStore(self.clock), self.clock, loop, images, server.on_disconnect == "abort")
        allowances = Allowances(lambda: ledger.treasury.accounts, self.clock, server.queue_s)
        breaker = BreakerPolicy(routing.breaker_failures, routing.breaker_open_s, routing.breaker_max_open_s)
        random = Random(secrets.randbits(64))
        retries = RetryBudget(routing.retry_ratio, LEAST_RETRIES)
        failover = Failover(means, Fleet(breaker), allowances, Metrics(), random, retries)
        gate = Gate(server.max_in_flight, server.max_queue, GATE_WAIT_S, allowances.now_ns)
        policy = Policy(
            server.max_body_bytes,
            self.settings.ledger.durability == "power",
            self.settings.log.content,
            server.hold_s,
            server.keepalive_s,
        )
        self.cache = self._response_cache(auth.pepper)
        cached = CachedAnswers(self.cache) if self.cache is not None else None
        return Gateway(auth, ledger, upstreams, failover, gate, policy, cached)

    def _response_cache(self, pepper: bytes) -> ResponseCache | None:
        settings, redis = self.settings.cache, self.settings.store.redis.reveal()
        if not settings.enabled:
            return None
        store = open_redis(redis, self.clock) if redis else MemoryStore(self.clock, settings.max_bytes)
        secret = hmac.digest(pepper, b"response cache", "sha256")
        return ResponseCache(store, self.clock, secret, CacheSettings(ceil(settings.ttl_s), settings.max_entry_bytes))

    async def _open_ledger(self) -> Ledger:
        fx = fx_of(self.settings.ledger.display_currency, self.settings.ledger.krw_per_usd)
        return await open_ledger(self._store, self.clock, self.settings.home / "journal", self._tell_alert, fx)

    def _start_webhook(self) -> None:
        alerts = self.settings.alerts
        if alerts.webhook:
            hook = Hook(alerts.webhook.reveal(), alerts.secret.reveal(), alerts.allow_private)
            self.webhook = Webhook(self._client, self.clock, hook)

    def _tell_alert(self, alert: Alert) -> None:
        if self.webhook is not None:
            self.webhook.tell(alert)

    def _desk(self, auth: Auth) -> Desk:
        ledger = self.gateway.ledger
        desk = Desk(self._store, auth, self.clock, ledger.treasury, secrets.token_bytes)
        desk.krw_per_usd, desk.fx = self.settings.ledger.krw_per_usd, ledger.fx
        return desk

    async def open_control(self) -> None:
        """Lets the command line of this NARU_HOME reach this process."""
        self._control_server = await serve_control(self, home.control_socket(self.settings.home))

    async def stop(self) -> None:
        """Closes connections, then writes what the ledger still holds, then the store: in this order nothing is lost."""
        self.is_draining = True
        if self._control_server is not None:
            self._control_server.close()
        self.sweep.stop()
        self.gateway.cut_streams()
        if self.webhook is not None:
            await self.webhook.stop()
        await self._client.close()
        if self.cache is not None:
            await self.cache.close()
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

    async def _start_sandboxes(self) -> None:
        for provider in self.settings.providers.values():
            if provider.kind == "sandbox" and not provider.base_url:
                if self._sandbox is None:
                    self._sandbox = Sandbox()
                    self._base_urls["sandbox"] = await self._sandbox.start()
                self._base_urls[provider.name] = self._base_urls["sandbox"]

    # --- Upstreams ------------------------------------------------------------------------------------------------

    def target(self, deployment: Deployment, dialect: str) -> Target:
        """What it takes to call a deployment in one of its dialects; made at the first call and kept."""
        key = (deployment.id, dialect)
        target = self._targets.get(key)
        if target is None or target.deployment is not deployment:
            if len(self._targets) > MAX_TARGETS:
                self._targets.clear()
            target = self._targets[key] = self._make_target(deployment, dialect)
        return target

    def _make_target(self, deployment: Deployment, dialect: str) -> Target:
        settings = self.settings.providers[deployment.provider]
        kind = self._providers[settings.kind]
        base_url = self._base_urls.get(settings.name) or settings.base_url or kind.base_url(deployment.region or None)
        scheme, _, rest = base_url.rstrip("/").partition("://")
        host, _, prefix = rest.partition("/")
        origin = Origin.of(f"{scheme}://{host}", settings.allow_private or kind.is_local, str(settings.ca_file or ""))
        headers = {**dict(kind.headers), **{name: secret.reveal() for name, secret in settings.headers.items()}}
        if settings.api_key is not None:
            headers |= kind.credential(settings.api_key.reveal())
        called = kind.call_paths(deployment.endpoints[dialect], deployment.model)
        prefix = f"/{prefix}" if prefix else ""
        pool = self._client.pool(origin, settings.max_connections)
        paths = [path[1:] if path.startswith("//") else prefix + path for path in called]
        sign = _signer(kind, settings, deployment.region, host_of(pool), paths)
        return target_for(deployment, self.dialects.named[dialect], pool, paths, headers, sign)

    # --- HTTP -----------------------------------------------------------------------------------------------------

    async def serve(self, exchange: Exchange) -> None:
        """A hot request, from whichever way in."""
        await self.gateway.serve(exchange)

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
        side = SideRoutes(self.gateway, self.control, self.not_ready).routes()
        admin = AdminApi(self.control, self.gateway).routes()
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


def _signer(kind: Provider, settings: config.ProviderSettings, region: str, host: str, paths: list[str]) -> Sign | None:
    """For a provider whose requests are signed; with a bearer key they need not be."""
    key_id, secret, token = settings.access_key_id, settings.secret_access_key, settings.session_token
    if key_id is None or secret is None or settings.api_key is not None:
        return None
    credentials = AwsCredentials(key_id.reveal(), secret.reveal(), token.reveal() if token is not None else "")
    return RequestSigner(credentials, Scope(region, kind.signs_as), host, (paths[0], paths[1]))


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
    settings = config.settings_of_process(None, {})
    configure_log(settings.log_level)
    return App(settings)
