"""What naru.toml may say: frozen structures, and the reading of a table into one with errors that help.

Every field's name, default and limits stand here once; config.py derives the environment's names from them, and
docs/configuration.md is checked against them.
"""

from __future__ import annotations

import difflib
import fractions
import math
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import msgspec
from msgspec import Meta, Struct

from naru.errors import ConfigError
from naru.ledger.pricing import (
    FREE,
    RATES,
    UNIT_KEYS,
    Price,
    PriceRow,
    Rate,
    UnitRate,
    krw_to_nano,
    make_price,
    rate_of,
    unit_rate,
    usd_to_nano,
)
from naru.limits.meters import Limits
from naru.protocol.service import OPEN_TIERS, SERVER_TOOLS, USUAL_TIERS

MIB = 1 << 20

Port = Annotated[int, Meta(ge=0, le=65535)]
Count = Annotated[int, Meta(ge=1)]
Seconds = Annotated[float, Meta(gt=0)]
Fraction = Annotated[float, Meta(ge=0, le=1)]
LogLevel = Literal["debug", "info", "warning", "error"]
Strategy = Literal["priority", "weighted", "least_busy", "latency", "cost"]


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
    enabled: bool = False
    ttl_s: Seconds = 3600.0


class Timeouts(Struct, frozen=True, kw_only=True):
    """`ttft_s`: to the first content. `idle_s`: between two pieces. `total_s`: over all attempts."""

    connect_s: Seconds = 5.0
    ttft_s: Seconds = 60.0
    idle_s: Seconds = 60.0
    total_s: Seconds = 600.0


class HedgeSettings(Struct, frozen=True, kw_only=True):
    """`after`: p50, p90, p95 or p99 of the time to first content. `budget`: the most hedges, as a part of requests."""

    after: Literal["p50", "p90", "p95", "p99"] = "p95"
    budget: Fraction = 0.05


class ProviderSettings(Struct, frozen=True, kw_only=True):
    """`base_url` None: the kind's own host for `region`. `region` "": the provider has but one.

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


class DeploymentSettings(Struct, frozen=True, kw_only=True):
    provider: str
    model: str
    weight: Count = 1
    priority: Count = 1
    region: str = ""
    endpoint: Literal["chat", "responses"] | None = None
    price: Price | None = None
    limits: Limits | None = None


class ModelSettings(Struct, frozen=True, kw_only=True):
    name: str
    deployments: tuple[DeploymentSettings, ...]
    strategy: Strategy = "priority"
    fallbacks: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    price: Price | None = None
    timeouts: Timeouts = Timeouts()
    limits: Limits | None = None
    hedge: HedgeSettings | None = None


class EngineSettings(Struct, frozen=True, kw_only=True):
    """A local model in a child process. `idle_s`: stopped after so long without a request; 0 keeps it."""

    name: str
    model: str
    idle_s: Annotated[float, Meta(ge=0)] = 0.0


class ProxySettings(Struct, frozen=True, kw_only=True):
    """From HTTPS_PROXY, HTTP_PROXY and NO_PROXY, in capitals or not. Proxy URLs may hold passwords."""

    https: Secret | None = None
    http: Secret | None = None
    no_proxy: tuple[str, ...] = ()


class ClientSettings(Struct, frozen=True, kw_only=True):
    """Where the command line finds a gateway on another machine: NARU_BASE_URL and NARU_ADMIN_KEY."""

    base_url: str = ""
    admin_key: Secret | None = None


class Settings(Struct, frozen=True, kw_only=True):
    """Everything, resolved. `source` is the file that was read. `providers` are the enabled ones."""

    home: Path
    source: Path | None = None
    log_level: LogLevel = "info"
    server: ServerSettings = ServerSettings()
    store: StoreSettings = StoreSettings()
    ledger: LedgerSettings = LedgerSettings()
    cache: CacheSettings = CacheSettings()
    log: LogSettings = LogSettings()
    alerts: AlertSettings = AlertSettings()
    proxies: ProxySettings = ProxySettings()
    client: ClientSettings = ClientSettings()
    providers: dict[str, ProviderSettings] = {}
    models: dict[str, ModelSettings] = {}
    engines: dict[str, EngineSettings] = {}


#: Sections with a fixed set of keys, each of which the environment may also set.
SECTIONS: dict[str, type[Struct]] = {
    "server": ServerSettings,
    "store": StoreSettings,
    "ledger": LedgerSettings,
    "cache": CacheSettings,
    "log": LogSettings,
    "alerts": AlertSettings,
}


# --- Reading ------------------------------------------------------------------------------------------------------

S = TypeVar("S", bound=Struct)


class Reader:
    """Turns tables into structures. `origin` names the file in errors; `krw_per_usd` converts prices given in won."""

    def __init__(self, origin: str, krw_per_usd: Decimal | None = None) -> None:
        self.origin = origin
        self.krw_per_usd = krw_per_usd

    def error(self, key: str, message: str) -> ConfigError:
        return ConfigError(f"{self.origin}: {key}: {message}")

    def table(self, value: object, key: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise self.error(key, f"expected a table, got {said(value)}")
        return value

    def known(self, given: Iterable[str], names: Iterable[str], key: str) -> None:
        """Raises ConfigError for the first given name that is none of `names`."""
        names = list(names)
        for name in given:
            if name not in names:
                where = f"{key}.{name}" if key else name
                raise self.error(where, f"no such key{nearest(name, names)}. Known here: {', '.join(sorted(names))}")

    def struct(self, cls: type[S], value: object, key: str, **fixed: str) -> S:
        """`fixed` are fields that the table does not set (its own name)."""
        table = self.table(value, key)
        fields = {field.name: field for field in msgspec.structs.fields(cls) if field.name not in fixed}
        self.known(table, fields, key)
        for name, field in fields.items():
            if field.required and name not in table:
                raise self.error(f"{key}.{name}", "is missing")
        read = {name: self.value(fields[name].type, item, f"{key}.{name}") for name, item in table.items()}
        try:
            return cls(**read, **fixed)
        except ValueError as error:  # a struct that checks its own fields
            raise self.error(key, str(error)) from None

    def value(self, kind: Any, value: object, key: str) -> Any:
        """One value as the annotation `kind` wants it."""
        kind = without_none(kind)
        if kind is Price:
            return self.price(value, key)
        if isinstance(kind, type) and issubclass(kind, Struct):
            return self.struct(kind, value, key)
        if get_origin(kind) is tuple:
            return self.items(get_args(kind)[0], value, key)
        if get_origin(kind) is dict:
            inner = get_args(kind)[1]
            return {name: self.value(inner, item, f"{key}.{name}") for name, item in self.table(value, key).items()}
        if kind in TEXTUAL:
            if not isinstance(value, str):
                raise self.error(key, "expected text in quotes")
            return kind(value)
        return self.leaf(kind, value, key)

    def items(self, kind: Any, value: object, key: str) -> tuple[Any, ...]:
        if not isinstance(value, (list, tuple)):
            raise self.error(key, f"expected a list, got {said(value)}")
        return tuple(self.value(kind, item, f"{key}[{index}]") for index, item in enumerate(value))

    def leaf(self, kind: Any, value: object, key: str) -> Any:
        plain, limits = bare(kind)
        if plain is float and isinstance(value, (int, Decimal)) and not isinstance(value, bool):
            value = float(value)
        if plain is Decimal and isinstance(value, int) and not isinstance(value, bool):
            value = Decimal(value)
        fits = value in get_args(plain) if get_origin(plain) is Literal else type(value) is plain
        if isinstance(value, (float, Decimal)) and not math.isfinite(value):
            fits = False  # nan and inf are numbers to TOML
        if not fits or not all(limit(value) for limit in limits):
            hint = nearest(value, get_args(plain)) if isinstance(value, str) and get_origin(plain) is Literal else ""
            raise self.error(key, f"expected {expected(kind)}, got {said(value)}{hint}")
        return value

    def price(self, value: object, key: str) -> Price:
        """`"free"`, or a table of USD (or KRW): per million tokens, per unit of sound or images, or both."""
        if value == "free":
            return FREE
        if not isinstance(value, dict):
            allowed = (
                '"free" or { input = …, output = … } in USD per million tokens, or { per_minute = … } and its like'
            )
            raise self.error(key, f"expected {allowed}, got {said(value)}")
        self.known(value, [*RATES, *UNIT_KEYS, "least", "currency", "tiers", "tools"], key)
        given = [name for name in UNIT_KEYS if name in value]
        if "input" not in value and (not given or any(name in value for name in RATES)):
            raise self.error(
                f"{key}.input",
                "is missing: the price of a million input tokens. What is billed otherwise has one of "
                f"{', '.join(UNIT_KEYS)}",
            )
        currency = value.get("currency", "USD")
        if currency not in ("USD", "KRW"):
            raise self.error(f"{key}.currency", f'expected "USD" or "KRW", got {said(currency)}')
        figures = {
            name: self.nano(value[name], currency, f"{key}.{name}") for name in (*RATES, *given) if name in value
        }
        rates = {name: figures[name] for name in RATES if name in figures}
        rate = rate_of(rates, self.units(value, given, figures, key))
        fx = f"{self.krw_per_usd} KRW/USD" if currency == "KRW" else ""
        tiers = {
            name: self.tier(said_of, currency, f"{key}.tiers.{name}")
            for name, said_of in self.table(value.get("tiers", {}), f"{key}.tiers").items()
        }
        tools = self.table(value.get("tools", {}), f"{key}.tools")
        self.known(tools, SERVER_TOOLS, f"{key}.tools")
        calls = {name: self.nano(money, currency, f"{key}.tools.{name}", 1000) for name, money in tools.items()}
        return make_price((PriceRow(rate=rate),), source="config", currency=currency, fx=fx, tiers=tiers, tools=calls)

    def tier(self, value: object, currency: str, key: str) -> fractions.Fraction | Rate:
        """A part or a multiple of the price (0.5, 2), or rates of its own."""
        name = key.rpartition(".")[2]
        if name != name.lower() or name in USUAL_TIERS or name in OPEN_TIERS:
            raise self.error(
                key, "is what the price itself is for; name another tier, in small letters, such as priority or flex"
            )
        if isinstance(value, dict):
            self.known(value, RATES, key)
            if "input" not in value:
                raise self.error(f"{key}.input", "is missing: the price of a million input tokens in this tier")
            return rate_of({name: self.nano(money, currency, f"{key}.{name}") for name, money in value.items()}, None)
        part = self.leaf(Annotated[Decimal, Meta(gt=0)], value, key)
        return fractions.Fraction(part)

    def units(
        self, value: Mapping[str, object], given: list[str], figures: Mapping[str, int], key: str
    ) -> UnitRate | None:
        """What is billed by the second, the character or the image."""
        if len(given) > 1:
            raise self.error(f"{key}.{given[1]}", f"a price counts one kind of unit, and it has {given[0]} already")
        if not given:
            if "least" in value:
                raise self.error(f"{key}.least", f"needs one of {', '.join(UNIT_KEYS)} beside it")
            return None
        least = value.get("least", 0)
        if not isinstance(least, int) or isinstance(least, bool) or least < 0:
            raise self.error(f"{key}.least", f"expected a whole number of units from 0, got {said(least)}")
        return unit_rate(given[0], figures[given[0]], least)

    def nano(self, value: object, currency: str, key: str, per: int = 1) -> int:
        amount = self.leaf(Decimal, value, key) / per
        try:
            if currency == "USD":
                return usd_to_nano(amount)
            if self.krw_per_usd is None:
                raise self.error(key, "a price in KRW needs ledger.krw_per_usd")
            return krw_to_nano(amount, self.krw_per_usd)
        except ValueError as error:
            raise self.error(key, str(error)) from None


TEXTUAL = (Secret, Path)
NAMES: dict[Any, str] = {
    str: "text in quotes",
    int: "a whole number",
    float: "a number",
    Decimal: "a number",
    bool: "true or false",
}


def nearest(name: str, names: Iterable[str]) -> str:
    """A bracket to put behind a message, with the name most like this one; nothing when none is."""
    close = difflib.get_close_matches(name, list(names), n=1, cutoff=0.5)
    return f" (did you mean {close[0]}?)" if close else ""


def without_none(kind: Any) -> Any:
    if get_origin(kind) in (Union, UnionType):
        return next(part for part in get_args(kind) if part is not type(None))
    return kind


def bare(kind: Any) -> tuple[Any, list[Callable[[Any], bool]]]:
    """An annotation's type, and its limits as tests."""
    if get_origin(kind) is not Annotated:
        return kind, []
    plain, meta = get_args(kind)
    tests: list[Callable[[Any], bool]] = []
    if meta.ge is not None:
        tests.append(lambda value: bool(value >= meta.ge))
    if meta.gt is not None:
        tests.append(lambda value: bool(value > meta.gt))
    if meta.le is not None:
        tests.append(lambda value: bool(value <= meta.le))
    return plain, tests


def expected(kind: Any) -> str:
    """What an annotation allows, in words."""
    plain, _ = bare(kind)
    if get_origin(plain) is Literal:
        return " or ".join(f'"{item}"' for item in get_args(plain))
    words = [NAMES[plain]]
    if get_origin(kind) is Annotated:
        meta = get_args(kind)[1]
        words += [f"above {meta.gt}"] if meta.gt is not None else []
        words += [f"from {meta.ge}"] if meta.ge is not None else []
        words += [f"to {meta.le}"] if meta.le is not None else []
    return " ".join(words)


def said(value: object) -> str:
    """A value as the operator wrote it. Text is shown whole only when it is short: a long one may be a key."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{value}"' if len(value) <= 16 else "a text"
    if isinstance(value, Mapping):
        return "a table"
    if isinstance(value, (list, tuple)):
        return "a list"
    return str(value) if isinstance(value, (int, float, Decimal)) else "something else"
