"""What naru.toml may say: frozen structures, which config_read.py makes of its tables.

Every field's name, default and limits stand here once; config.py derives the environment's names from them, and
docs/configuration.md is checked against them.
"""

from __future__ import annotations

import hashlib
import re
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from naru.ledger.pricing import FREE, Price
from naru.limits.meters import Limits

MIB = 1 << 20

Port = Annotated[int, Meta(ge=0, le=65535)]
Count = Annotated[int, Meta(ge=1)]
Seconds = Annotated[float, Meta(gt=0)]
Fraction = Annotated[float, Meta(ge=0, le=1)]
LogLevel = Literal["debug", "info", "warning", "error"]
Strategy = Literal["priority", "weighted", "least_busy", "latency", "cost"]
EngineKind = Literal["auto", "openvino", "transformers", "vllm", "sglang", "llamacpp", "ollama"]

#: Those of Naru's own worker; every other kind is a server of its own, and named as the provider that it is.
OWN_ENGINES = frozenset({"auto", "openvino", "transformers"})
#: What kinds of engines have of the settings that not all have. What is left out is refused by name, never ignored.
ENGINE_OPTIONS: dict[str, frozenset[str]] = {
    "engine": frozenset({"device", "context", "max_streams", "cache_gb", "quant", "adapters"}),
    "vllm": frozenset({"context", "max_streams", "adapters"}),
    "sglang": frozenset({"device", "context", "max_streams", "adapters"}),
    "llamacpp": frozenset({"device", "context", "max_streams"}),
    "ollama": frozenset({"context", "max_streams"}),
}
SIZE = re.compile(r"(\d+(?:\.\d+)?) ?(kb|mb|gb|tb|kib|mib|gib|tib)?", re.IGNORECASE)
SIZE_UNITS = {"": 1} | {f"{letter}b": 1000**n for n, letter in enumerate("kmgt", 1)}
SIZE_UNITS |= {f"{letter}ib": 1024**n for n, letter in enumerate("kmgt", 1)}
#: What follows the colon in `model:adapter`.
ADAPTER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


class Secret:
    """Text that no log, repr or traceback shows. `reveal` is the one way to it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._text == other._text

    def __hash__(self) -> int:
        return hash((Secret, self._text))

    def __repr__(self) -> str:
        return "Secret(…)" if self._text else "Secret()"


class ServerSettings(Struct, frozen=True, kw_only=True):
    """`on_disconnect`: what becomes of a plain (not streamed) call upstream when its client leaves. `fetch_images`: from
    where pictures by address are fetched for a provider that takes none."""

    host: str = "127.0.0.1"
    port: Port = 8000
    workers: Count = 1
    max_body_bytes: Count = 32 * MIB
    drain_s: Seconds = 30.0
    pre_stop_s: Annotated[float, Meta(ge=0)] = 1.0
    on_disconnect: Literal["finish", "abort"] = "finish"
    queue_s: Annotated[float, Meta(ge=0)] = 0.0
    max_in_flight: Count = 4096
    max_queue: Annotated[int, Meta(ge=0)] = 256
    hold_s: Seconds = 10.0
    keepalive_s: Seconds = 15.0
    fetch_images: Literal["off", "public", "any"] = "off"


class StoreSettings(Struct, frozen=True, kw_only=True):
    """`url` and `redis` may hold passwords, so they are secrets."""

    url: Secret = Secret("sqlite:///${NARU_HOME}/naru.db")
    redis: Secret = Secret("")


class LedgerSettings(Struct, frozen=True, kw_only=True):
    durability: Literal["process", "power"] = "process"
    unpriced: Literal["refuse", "free"] = "refuse"
    display_currency: Literal["USD", "KRW"] = "USD"
    krw_per_usd: Annotated[Decimal, Meta(gt=0)] | None = None


class LogSettings(Struct, frozen=True, kw_only=True):
    """`content`: whether requests and answers are kept in the ledger, redacted, for `retention_days`."""

    content: bool = False
    retention_days: Count = 30


class AlertSettings(Struct, frozen=True, kw_only=True):
    """Who is told of budget alerts. Addresses of webhooks hold tokens often enough to be secrets."""

    webhook: Secret = Secret("")
    secret: Secret = Secret("")
    allow_private: bool = False


class CacheSettings(Struct, frozen=True, kw_only=True):
    """`max_bytes` bounds what this process keeps in memory, `max_entry_bytes` a single answer."""

    enabled: bool = False
    ttl_s: Seconds = 3600.0
    max_bytes: Count = 64 * MIB
    max_entry_bytes: Count = 4 * MIB


#: Naru's own tools that a gateway may offer: none of them reads this machine's files.
HOSTED_TOOLS = ("calculator", "weather", "web_fetch")


class AgentSettings(Struct, frozen=True, kw_only=True):
    """Tools that the gateway runs itself for requests that name them in `naru.tools`: those of `tools`, MCP servers and
    HOSTED_TOOLS, and no others. The rest is what one such run may use at most."""

    tools: tuple[str, ...] = ()
    max_turns: Annotated[int, Meta(ge=1, le=100)] = 10
    max_seconds: Seconds = 300.0
    max_total_tokens: Count | None = None
    max_cost_usd: Annotated[Decimal, Meta(ge=0)] | None = None


class RoutingSettings(Struct, frozen=True, kw_only=True):
    """When a deployment that fails is left alone, and how many requests may be tried again, as a part of all."""

    breaker_failures: Count = 5
    breaker_open_s: Seconds = 30.0
    breaker_max_open_s: Seconds = 300.0
    retry_ratio: Fraction = 0.2


class Timeouts(Struct, frozen=True, kw_only=True):
    """`ttft_s`: to the first content. `idle_s`: between two pieces. `total_s`: over all attempts. None: by the request's size and
    whether the model thinks first (routing/deadlines.py)."""

    connect_s: Seconds = 5.0
    ttft_s: Seconds | None = None
    idle_s: Seconds = 60.0
    total_s: Seconds | None = None


class HedgeSettings(Struct, frozen=True, kw_only=True):
    """`after`: p50, p90, p95 or p99 of the time to first content. `budget`: the most hedges, as a part of requests."""

    after: Literal["p50", "p90", "p95", "p99"] = "p95"
    budget: Fraction = 0.05


class ProviderSettings(Struct, frozen=True, kw_only=True):
    """`base_url` None: the kind's own host for `region`. `region` "": the provider has but one. `probe_s`: how often it is asked
    whether it is there, and how busy; 0: never.

    `access_key_id`, `secret_access_key` and `session_token` sign requests where there is no `api_key`."""

    name: str
    kind: str = ""
    enabled: bool = True
    api_key: Secret | None = None
    access_key_id: Secret | None = None
    secret_access_key: Secret | None = None
    session_token: Secret | None = None
    base_url: str | None = None
    region: str = ""
    allow_private: bool = False
    headers: dict[str, Secret] = {}
    price: Price | None = None
    max_connections: Count = 2000
    ca_file: Path | None = None
    tags: tuple[str, ...] = ()
    probe_s: Annotated[float, Meta(ge=0)] = 0.0


class DeploymentSettings(Struct, frozen=True, kw_only=True):
    provider: str
    model: str
    weight: Count = 1
    priority: Count = 1
    region: str = ""
    endpoint: Literal["chat", "responses"] | None = None
    price: Price | None = None
    limits: Limits | None = None
    tags: tuple[str, ...] = ()


class ModelSettings(Struct, frozen=True, kw_only=True):
    """`fallbacks` are asked after all deployments; `context_fallbacks` when a request was too long for them, `policy_fallbacks`
    when their providers' rules refuse it. `region` and `tags` are what all who answer must have. `continue_cut`: a plain text
    that is cut short is gone on with by another deployment."""

    name: str
    deployments: tuple[DeploymentSettings, ...]
    strategy: Strategy = "priority"
    fallbacks: tuple[str, ...] = ()
    context_fallbacks: tuple[str, ...] = ()
    policy_fallbacks: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    price: Price | None = None
    timeouts: Timeouts = Timeouts()
    limits: Limits | None = None
    hedge: HedgeSettings | None = None
    affinity: Literal["off", "session", "prefix"] = "off"
    region: str = ""
    tags: tuple[str, ...] = ()
    continue_cut: bool = False


class EngineSettings(Struct, frozen=True, kw_only=True):
    """A local model in a child process, which the gateway starts, watches and stops.

    `engine`: who runs it; auto, openvino and transformers are Naru's own worker. `command`: the program, where it is not the
    usual one. `adapters`: LoRA adapters by name, each a folder or a Hub id. `names`: other names that the model answers to.
    `start_s`: how long it may take to be ready. `idle_s`: stopped after so long without a request; 0 keeps it. `memory`: started
    anew when its processes hold more than that ("8gb"); 0: no limit. Raises ValueError for what its kind does not have."""

    name: str
    model: str
    engine: EngineKind = "auto"
    device: str = ""
    context: Count | None = None
    max_streams: Count | None = None
    cache_gb: Annotated[float, Meta(gt=0)] | None = None
    quant: Literal["8bit", "4bit"] | None = None
    adapters: dict[str, str] = {}
    command: str = ""
    args: tuple[str, ...] = ()
    env: dict[str, Secret] = {}
    names: tuple[str, ...] = ()
    price: Price = FREE
    start: Literal["gateway", "first_use"] = "first_use"
    start_s: Seconds = 600.0
    idle_s: Annotated[float, Meta(ge=0)] = 0.0
    memory: str = "0"

    def __post_init__(self) -> None:
        options = ENGINE_OPTIONS[self.provider_kind]
        for option in sorted(ENGINE_OPTIONS["engine"] - options):
            if getattr(self, option):
                raise ValueError(f'engine = "{self.engine}" has no {option}; its own flags go into args')
        for adapter in self.adapters:
            if not ADAPTER_NAME.fullmatch(adapter):
                raise ValueError(f'"{adapter}" is no name for an adapter: letters, digits, dots, dashes, underscores')
        if not self.model.strip():
            raise ValueError("model is empty: name a shipped model, a Hub id, a folder, or a .gguf file")
        size_of(self.memory)

    @property
    def provider_kind(self) -> str:
        """The provider whose data tells how it is spoken to."""
        return "engine" if self.engine in OWN_ENGINES else self.engine

    @property
    def memory_bytes(self) -> int:
        return size_of(self.memory)

    @property
    def served(self) -> dict[str, str]:
        """Every name that callers may use -> the one that the engine itself is asked for."""
        plain = dict.fromkeys((self.model_name, *self.names), self.model_name)
        tuned = {f"{name}:{each}": f"{self.model_name}:{each}" for name in plain for each in self.adapters}
        return plain | tuned

    @property
    def model_name(self) -> str:
        """What callers call the model: of a path its last part, since where files are is nobody's business."""
        if self.model.startswith(("/", "./", "../", "~")) or (self.model.endswith(".gguf") and ":" not in self.model):
            return Path(self.model).name.removesuffix(".gguf") or self.model
        return self.model

    @property
    def version(self) -> str:
        """Differs where the process would be another one: prices and patience are the gateway's alone."""
        env = {name: text.reveal() for name, text in self.env.items()}
        said = (
            self.model, self.engine, self.device, self.context, self.max_streams, self.cache_gb, self.quant, self.adapters,
            self.command, self.args, env, self.names,
        )  # fmt: skip
        return hashlib.sha256(msgspec.json.encode(said)).hexdigest()[:12]

    def as_provider(self) -> ProviderSettings:
        """What routing sees of it: a provider under the engine's name."""
        return ProviderSettings(
            name=self.name,
            kind=self.provider_kind,
            base_url=f"{ENGINE_SCHEME}://{self.name}/v1",
            allow_private=True,
            price=self.price,
        )


class McpSettings(Struct, frozen=True, kw_only=True):
    """A server of tools (Model Context Protocol): a program on this machine, or an address.

    Only what stands here is ever started or connected to. Addresses and arguments hold tokens often enough to be secrets.
    `include`, `exclude`, `needs_approval`: the server's own names of its tools, or patterns (`read_*`); "*" stands for all."""

    name: str
    enabled: bool = True
    command: tuple[Secret, ...] = ()
    url: Secret = Secret("")
    env: dict[str, Secret] = {}
    headers: dict[str, Secret] = {}
    timeout_s: Seconds = 60.0
    connect_timeout_s: Seconds = 30.0
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    needs_approval: tuple[str, ...] = ()


#: Addresses of engines: engine://NAME. Where it listens is known only while it runs.
ENGINE_SCHEME = "engine"


def size_of(text: str) -> int:
    """Bytes: "8gb", "512 MiB", "0". Raises ValueError."""
    found = SIZE.fullmatch(text.strip())
    if found is None:
        raise ValueError(f'memory: expected a size such as "8gb" or "512mib", got "{text[:16]}"')
    return int(float(found[1]) * SIZE_UNITS[(found[2] or "").lower()])


class ProxySettings(Struct, frozen=True, kw_only=True):
    """From HTTPS_PROXY, HTTP_PROXY and NO_PROXY, in capitals or not. Proxy URLs may hold passwords."""

    https: Secret | None = None
    http: Secret | None = None
    no_proxy: tuple[str, ...] = ()


class ClientSettings(Struct, frozen=True, kw_only=True):
    """Where the command line finds a gateway on another machine: NARU_BASE_URL and NARU_ADMIN_KEY. `api_key` (NARU_API_KEY) is a
    caller's, for commands that call models."""

    base_url: str = ""
    admin_key: Secret | None = None
    api_key: Secret | None = None


class Settings(Struct, frozen=True, kw_only=True):
    """Everything, resolved. `source` is the file that was read. `providers` and `mcp` are the enabled ones."""

    home: Path
    source: Path | None = None
    log_level: LogLevel = "info"
    server: ServerSettings = ServerSettings()
    store: StoreSettings = StoreSettings()
    ledger: LedgerSettings = LedgerSettings()
    cache: CacheSettings = CacheSettings()
    routing: RoutingSettings = RoutingSettings()
    log: LogSettings = LogSettings()
    alerts: AlertSettings = AlertSettings()
    proxies: ProxySettings = ProxySettings()
    client: ClientSettings = ClientSettings()
    providers: dict[str, ProviderSettings] = {}
    models: dict[str, ModelSettings] = {}
    engines: dict[str, EngineSettings] = {}
    mcp: dict[str, McpSettings] = {}
    agent: AgentSettings = AgentSettings()

    @property
    def upstreams(self) -> dict[str, ProviderSettings]:
        """Everybody who may answer: the enabled providers, and the engines as such."""
        return self.providers | {name: engine.as_provider() for name, engine in self.engines.items()}


#: Sections with a fixed set of keys, each of which the environment may also set.
SECTIONS: dict[str, type[Struct]] = {
    "server": ServerSettings,
    "store": StoreSettings,
    "ledger": LedgerSettings,
    "cache": CacheSettings,
    "routing": RoutingSettings,
    "log": LogSettings,
    "alerts": AlertSettings,
    "agent": AgentSettings,
}
