"""naru.toml, the environment and flags -> frozen Settings. The only module of the product that reads os.environ.

What wins: flags, then NARU_… variables, then the file, then defaults. The file is the one named by a flag, else by
NARU_CONFIG, else ./naru.toml, else NARU_HOME/naru.toml; without one, defaults hold. Anything unknown is an error that
names the file, the key and the nearest known name. docs/configuration.md lists every setting.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Container, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from naru.config_engines import check_engine_names, environment_for_engines, is_demo_installed, read_engines, with_demo
from naru.config_mcp import check_agent, read_mcp
from naru.config_models import check_models, check_region
from naru.config_read import PROVIDER_NAME, Reader, bare, nearest, without_none
from naru.config_schema import (
    SECTIONS,
    AgentSettings,
    AlertSettings,
    CacheSettings,
    ClientSettings,
    DeploymentSettings,
    EngineSettings,
    LedgerSettings,
    LogSettings,
    McpSettings,
    ModelSettings,
    ProviderSettings,
    ProxySettings,
    RoutingSettings,
    Secret,
    ServerSettings,
    Settings,
    StoreSettings,
    Timeouts,
)
from naru.config_urls import is_loopback, is_private, url_problem
from naru.errors import ConfigError
from naru.providers import Provider, load_providers

__all__ = [
    "AgentSettings",
    "AlertSettings",
    "CacheSettings",
    "ClientSettings",
    "DeploymentSettings",
    "EngineSettings",
    "LedgerSettings",
    "LogSettings",
    "McpSettings",
    "ModelSettings",
    "ProviderSettings",
    "ProxySettings",
    "RoutingSettings",
    "Secret",
    "ServerSettings",
    "Settings",
    "StoreSettings",
    "Timeouts",
    "engine_environment",
    "environment_names",
    "load_settings",
    "settings_of_process",
    "usual_file",
]

TOP_LEVEL = (*SECTIONS, "log_level", "providers", "models", "engines", "mcp")
#: Sections of tables that may say enabled = false.
CAN_BE_DISABLED = ("providers", "mcp")
SANDBOX = "sandbox"
#: Settings of a provider whose requests are signed; the environment has them with AWS_ in front.
SIGNING = ("access_key_id", "secret_access_key", "session_token")
VARIABLE = re.compile(r"\$(\$?)\{(\w+)\}")
YES_NO = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}


def settings_of_process(path: Path | None, flags: Mapping[str, object]) -> Settings:
    """load_settings with this process's environment."""
    return load_settings(path, os.environ, flags)


def engine_environment() -> dict[str, str]:
    """Of this process, as far as it is an engine's business."""
    return environment_for_engines(os.environ)


def load_settings(path: Path | None, environ: Mapping[str, str], flags: Mapping[str, object]) -> Settings:
    """Reads everything once. `flags` are named as in `environment_names`' values, plus `home`; None means not given.

    Raises ConfigError, which names the file and the key, or the variable, or the flag.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    home = _home(environ, given.pop("home", None))
    source = _find_file(path, environ, home)
    reader = Reader(str(source) if source else "configuration")
    table = _read_file(source, {**environ, "NARU_HOME": str(home)}, reader)
    sections = _sections(table, environ, given, reader)
    base = msgspec.structs.replace(
        _base(home, source, sections, reader), proxies=_proxies(environ), client=_client(environ)
    )
    models = {
        name: reader.struct(ModelSettings, item, f"models.{name}", name=name) for name, item in table["models"].items()
    }
    engines = read_engines(table["engines"], reader)
    providers = _Providers(reader, environ, source.parent if source else Path())
    enabled = providers.enabled(table["providers"], models, engines)
    check_engine_names(engines, enabled, reader)
    engines = with_demo(engines, enabled, is_demo_installed())
    tools = read_mcp(table["mcp"], reader)
    check_agent(base.agent, tools, reader)
    settings = msgspec.structs.replace(base, providers=enabled, models=models, engines=engines, mcp=tools)
    check_models(settings, providers.kinds, reader)
    return settings


def environment_names() -> dict[str, str]:
    """Every NARU_ variable that sets one setting, and the setting: NARU_PORT -> server.port, NARU_STORE_URL -> …

    The server's own settings go without the section's name. Flags are called as the settings are.
    """
    names = {"NARU_LOG_LEVEL": "log_level"}
    for section, cls in SECTIONS.items():
        prefix = "" if section == "server" else f"{section}_"
        names |= {f"NARU_{prefix}{field}".upper(): f"{section}.{field}" for field in cls.__struct_fields__}
    return names


def _base(home: Path, source: Path | None, sections: dict[str, dict[str, Any]], reader: Reader) -> Settings:
    """The sections that need nothing else. Tells the reader the rate that prices in won need."""
    sections["store"].setdefault("url", Secret(f"sqlite:///{home}/naru.db"))
    ledger = LedgerSettings(**sections["ledger"])
    if ledger.display_currency == "KRW" and ledger.krw_per_usd is None:
        raise reader.error("ledger.krw_per_usd", "is missing: display_currency is KRW (say krw_per_usd = 1390)")
    reader.krw_per_usd = ledger.krw_per_usd
    return Settings(
        home=home,
        source=source,
        server=ServerSettings(**sections["server"]),
        store=StoreSettings(**sections["store"]),
        ledger=ledger,
        cache=CacheSettings(**sections["cache"]),
        routing=RoutingSettings(**sections["routing"]),
        log=LogSettings(**sections["log"]),
        alerts=_alerts(AlertSettings(**sections["alerts"]), reader),
        agent=AgentSettings(**sections["agent"]),
        **sections[""],
    )


def _alerts(settings: AlertSettings, reader: Reader) -> AlertSettings:
    """Never unsigned: whoever receives an alert has to be able to tell that it is ours."""
    if not settings.webhook:
        if settings.secret:
            raise reader.error("alerts.webhook", "is missing: there is a secret and no address to send to")
        return settings
    if not settings.secret:
        raise reader.error(
            "alerts.secret", "is missing: alerts are always signed. Any long random text; the receiver has it too"
        )
    try:
        url = urlsplit(settings.webhook.reveal())
        host = (url.hostname or "").rstrip(".")
        problem = url_problem(url, host, takes_query=True)
    except ValueError as error:
        raise reader.error("alerts.webhook", f"is not a URL: {error}") from None
    if problem:
        raise reader.error("alerts.webhook", problem)
    if not settings.allow_private and is_private(host):
        raise reader.error("alerts.webhook", f"{host} is a private address; if that is meant, set allow_private = true")
    return settings


# --- Files and variables ------------------------------------------------------------------------------------------


def _home(environ: Mapping[str, str], flag: object) -> Path:
    text = flag or environ.get("NARU_HOME")
    if text:
        return Path(str(text)).expanduser()
    return Path(environ["HOME"] if environ.get("HOME") else Path.home()) / ".naru"


def _find_file(path: Path | None, environ: Mapping[str, str], home: Path) -> Path | None:
    named = path or (Path(environ["NARU_CONFIG"]) if environ.get("NARU_CONFIG") else None)
    if named is not None:
        if not named.is_file():
            raise ConfigError(f"{named}: there is no such file")
        return named
    return usual_file(home)


def usual_file(home: Path) -> Path | None:
    """The file that is read where none is named."""
    return next((file for file in (Path("naru.toml"), home / "naru.toml") if file.is_file()), None)


def _read_file(file: Path | None, environ: Mapping[str, str], reader: Reader) -> dict[str, Any]:
    """The file's tables with variables put in, and empty ones for those that it leaves out."""
    table = _parse(file) if file else {}
    reader.known(table, TOP_LEVEL, "")
    for name in TOP_LEVEL:
        if name != "log_level":
            table[name] = reader.table(table.get(name, {}), name)
    for section in CAN_BE_DISABLED:
        for name, item in table[section].items():
            reader.table(item, f"{section}.{name}")
    return _expand_all(table, environ, reader)


def _parse(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"), parse_float=Decimal)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: this is not TOML: {error}") from None
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from None


def _expand_all(table: dict[str, Any], environ: Mapping[str, str], reader: Reader) -> dict[str, Any]:
    """Puts variables into every text, but leaves disabled providers and tool servers alone: their keys need not exist."""
    expanded: dict[str, Any] = {}
    for section, value in table.items():
        off = {}
        if section in CAN_BE_DISABLED:
            off = {name: item for name, item in value.items() if item.get("enabled") is False}
            value = {name: item for name, item in value.items() if name not in off}
        expanded[section] = _expand(value, section, environ, reader)
        if off:
            expanded[section] |= off
    return expanded


def _expand(value: Any, key: str, environ: Mapping[str, str], reader: Reader) -> Any:
    if isinstance(value, dict):
        return {name: _expand(item, f"{key}.{name}".lstrip("."), environ, reader) for name, item in value.items()}
    if isinstance(value, list):
        return [_expand(item, f"{key}[{index}]", environ, reader) for index, item in enumerate(value)]
    if not isinstance(value, str):
        return value

    def put(match: re.Match[str]) -> str:
        escaped, name = match.groups()
        if escaped:
            return match[0][1:]
        if not environ.get(name):
            is_optional = key.split(".")[0] in CAN_BE_DISABLED
            way_out = ", or set enabled = false in this table" if is_optional else ""
            hint = nearest(name, environ)
            raise reader.error(key, f"the variable {name} is not set{hint}. Set it, or write the value here{way_out}")
        return environ[name]

    return VARIABLE.sub(put, value)


def _sections(
    table: Mapping[str, Any], environ: Mapping[str, str], flags: Mapping[str, object], reader: Reader
) -> dict[str, dict[str, Any]]:
    """Section -> field -> value, from the file, the environment and the flags; the section "" is the top level."""
    types = {f"{section}.{field.name}": field.type for section, cls in SECTIONS.items() for field in _fields(cls)}
    types["log_level"] = next(field.type for field in _fields(Settings) if field.name == "log_level")
    values: dict[str, Any] = {}
    for section, cls in SECTIONS.items():
        reader.known(table[section], cls.__struct_fields__, section)
        values |= {f"{section}.{name}": item for name, item in table[section].items()}
    values |= {"log_level": table["log_level"]} if "log_level" in table else {}
    read = {key: reader.value(types[key], item, key) for key, item in values.items()}
    from_environment = Reader("environment")
    for name, key in environment_names().items():
        if environ.get(name):
            read[key] = from_environment.value(types[key], _typed(types[key], environ[name]), name)
    from_flags = Reader("command line")
    for flag, item in flags.items():
        key = flag if flag in types else f"server.{flag}"
        from_flags.known([key], types, "")
        read[key] = from_flags.value(types[key], item, f"--{flag}")
    sections: dict[str, dict[str, Any]] = {"": {}, **{name: {} for name in SECTIONS}}
    for key, item in read.items():
        section, _, name = key.rpartition(".")
        sections[section][name] = item
    return sections


def _fields(cls: type[msgspec.Struct]) -> tuple[msgspec.structs.FieldInfo, ...]:
    return msgspec.structs.fields(cls)


def _typed(kind: Any, text: str) -> object:
    """A variable's text as TOML would have given it; what does not fit stays text, and the reader says so."""
    plain, _ = bare(without_none(kind))
    try:
        if plain is bool:
            return YES_NO.get(text.lower(), text)
        if plain is int:
            return int(text)
        return Decimal(text) if plain in (float, Decimal) else text
    except (ValueError, ArithmeticError):
        return text


def _proxies(environ: Mapping[str, str]) -> ProxySettings:
    """The lower-case names win, as in curl."""

    def get(name: str) -> str:
        return environ.get(name) or environ.get(name.upper()) or ""

    return ProxySettings(
        https=Secret(get("https_proxy")) if get("https_proxy") else None,
        http=Secret(get("http_proxy")) if get("http_proxy") else None,
        no_proxy=tuple(host.strip() for host in get("no_proxy").split(",") if host.strip()),
    )


def _client(environ: Mapping[str, str]) -> ClientSettings:
    admin, caller = environ.get("NARU_ADMIN_KEY"), environ.get("NARU_API_KEY")
    return ClientSettings(
        base_url=environ.get("NARU_BASE_URL", ""),
        admin_key=Secret(admin) if admin else None,
        api_key=Secret(caller) if caller else None,
    )


# --- Providers ----------------------------------------------------------------------------------------------------


class _Providers:
    """Makes ProviderSettings out of tables, out of the environment, or because a deployment names a kind."""

    def __init__(self, reader: Reader, environ: Mapping[str, str], folder: Path) -> None:
        self.reader = reader
        self.environ = environ
        self.folder = folder
        self.kinds = load_providers()

    def enabled(
        self, tables: Mapping[str, Any], models: Mapping[str, ModelSettings], engines: Container[str]
    ) -> dict[str, ProviderSettings]:
        """Declared ones; the sandbox unless disabled; those whose key is in the environment, when the file declares
        none, or when a deployment names them (and means no engine of that name)."""
        declared = {name: self.declared(name, table) for name, table in tables.items()}
        found = {name: provider for name, provider in declared.items() if provider.enabled}
        named = {
            each.provider for model in models.values() for each in model.deployments if each.provider not in engines
        }
        is_free_choice = not declared.keys() - {SANDBOX}
        for kind in self.kinds.values():
            is_wanted = kind.kind in named or kind.kind == SANDBOX or (is_free_choice and self.key_of(kind) is not None)
            if kind.kind not in declared and is_wanted and self.is_ready(kind):
                found[kind.kind] = self.complete(ProviderSettings(name=kind.kind, kind=kind.kind))
        return found

    def declared(self, name: str, table: object) -> ProviderSettings:
        key = f"providers.{name}"
        if not PROVIDER_NAME.fullmatch(name):
            raise self.reader.error(key, "a provider's name has letters, digits, dots, dashes and underscores")
        provider = self.reader.struct(ProviderSettings, table, key, name=name)
        kind = provider.kind or name
        if kind not in self.kinds:
            where = f"{key}.kind" if provider.kind else key
            why = "no such kind" if provider.kind else "say its kind; the name is not one"
            known = ", ".join(self.kinds)
            raise self.reader.error(where, f"{why}{nearest(kind, self.kinds)}. Kinds: {known}")
        provider = msgspec.structs.replace(provider, kind=kind)
        return self.complete(provider) if provider.enabled else provider

    def is_ready(self, kind: Provider) -> bool:
        """Whether it works without a table of its own: it has an address, and its key where it needs one."""
        has_address = bool(kind.hosts) or bool(self.environ.get(kind.address_env))
        return kind.kind == SANDBOX or (has_address and (not kind.needs_key or self.key_of(kind) is not None))

    def key_of(self, kind: Provider) -> Secret | None:
        """The provider's key from the environment. A key of Naru's own stands there when clients are pointed at a
        gateway by the same variable (OPENAI_API_KEY=nk-…); it is no credential for the provider."""
        given = (self.environ.get(name, "") for name in kind.env)
        return next((Secret(text) for text in given if text and not text.startswith(("nk-", "nka-"))), None)

    def complete(self, provider: ProviderSettings) -> ProviderSettings:
        """Fills in key, region and address, and checks them."""
        key, kind = f"providers.{provider.name}", self.kinds[provider.kind]
        provider = self.with_credential(provider, kind, key)
        base_url, region = provider.base_url or self.environ.get(kind.address_env) or None, provider.region
        if base_url is not None:
            base_url = self.checked_url(provider, kind, base_url)
        elif kind.kind != SANDBOX:
            check_region(kind, region, f"{key}.region" if region else f"{key}.base_url", self.reader)
            region = region or (next(iter(kind.hosts)) if len(kind.hosts) > 1 else "")
        if kind.signs_as and provider.api_key is None and not region:
            raise self.reader.error(f"{key}.region", "is missing: signatures hold for one region")
        ca_file = provider.ca_file
        if ca_file is not None:
            ca_file = self.folder / ca_file.expanduser()
            if not ca_file.is_file():
                raise self.reader.error(f"{key}.ca_file", f"there is no file {ca_file}")
        return msgspec.structs.replace(provider, base_url=base_url, region=region, ca_file=ca_file)

    def with_credential(self, provider: ProviderSettings, kind: Provider, key: str) -> ProviderSettings:
        """The table's own, else the environment's; a key before what signs. Raises ConfigError where there is none."""
        if not kind.signs_as and (odd := [name for name in SIGNING if getattr(provider, name) is not None]):
            raise self.reader.error(f"{key}.{odd[0]}", f"{kind.kind} signs no requests; its key belongs in api_key")
        if provider.access_key_id is None and provider.secret_access_key is None:
            api_key = provider.api_key or (self.key_of(kind) if kind.auth != "none" else None)
            provider = msgspec.structs.replace(provider, api_key=api_key)
            if api_key is None and kind.signs_as:
                given = {name: self.environ.get(f"AWS_{name.upper()}") for name in SIGNING}
                provider = msgspec.structs.replace(
                    provider, **{name: Secret(text) for name, text in given.items() if text}
                )
        if kind.signs_as and provider.api_key is None and provider.access_key_id and provider.secret_access_key:
            return provider
        if kind.needs_key and provider.api_key is None and "authorization" not in map(str.lower, provider.headers):
            variable = kind.env[0] if kind.env else "its variable"
            ways = ", or access_key_id and secret_access_key" if kind.signs_as else ""
            raise self.reader.error(f"{key}.api_key", f"is missing: set {variable}, or write api_key here{ways}")
        return provider

    def checked_url(self, provider: ProviderSettings, kind: Provider, text: str) -> str:
        key, text = f"providers.{provider.name}.base_url", text.rstrip("/")
        try:
            url = urlsplit(text)
            host = (url.hostname or "").rstrip(".")
            problem = url_problem(url, host)
        except ValueError as error:  # a port out of range, brackets that do not close
            raise self.reader.error(key, f"is not a URL: {error}") from None
        if problem:
            raise self.reader.error(key, problem)
        if not provider.allow_private and is_private(host) and not (kind.is_local and is_loopback(host)):
            raise self.reader.error(key, f"{host} is a private address; if that is meant, set allow_private = true")
        return text if url.path else text + kind.address_path
