"""naru check: what works here, what does not, and what to do about it."""

from __future__ import annotations

import http.client
import shutil
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
import msgspec

from naru import config, home
from naru.cli.backend import config_option, connect, json_option
from naru.cli.exits import FAILED, OK
from naru.cli.output import print_json, print_table
from naru.engines.commands import program_of
from naru.errors import ConfigError, NaruError
from naru.providers import Provider, load_providers

TIMEOUT_S = 5.0
MIN_FREE_BYTES = 500 * 1024 * 1024
MAX_SKEW_S = 120.0
#: Usual local servers that can be offered when they answer: (name, kind, address).
LOCAL_SERVERS = (("Ollama", "ollama", "http://127.0.0.1:11434/v1"), ("vLLM", "vllm", "http://127.0.0.1:8000/v1"))

#: What Naru's own worker runs models with: module -> the extra that brings it.
OWN_NEEDS = {
    "auto": {"openvino_genai": "local", "transformers": "transformers"},
    "openvino": {"openvino_genai": "local"},
    "transformers": {"transformers": "transformers"},
}


class Finding(msgspec.Struct, frozen=True):
    """`state`: ok | warn | fail. `text` says what to do when it is not ok."""

    what: str
    state: str
    text: str


class Probe(msgspec.Struct, frozen=True):
    """What a GET of a model list answered; `error` is set when nothing did."""

    status: int = 0
    server_time: float | None = None
    error: str = ""


@click.command("check")
@config_option
@json_option
def command(config_path: Path | None, as_json: bool) -> int:
    """Look over configuration, credentials (one free call each), store, disk, clock, local engines and servers.

    Nothing is generated and nothing is billed. Exit code 0 when nothing failed, 1 otherwise, 78 for a bad configuration.
    """
    settings = config.settings_of_process(config_path, {})
    findings = [
        *_machine(settings),
        *_store(settings, config_path),
        *_engines(settings, config_path),
        *_providers(settings),
    ]
    if as_json:
        print_json({"findings": findings})
    else:
        print_table(("what", "state", "finding"), [(f.what, f.state, f.text) for f in findings], "")
    return FAILED if any(finding.state == "fail" for finding in findings) else OK


def _machine(settings: config.Settings) -> Iterator[Finding]:
    yield Finding("configuration", "ok", str(settings.source or "no file: defaults and environment"))
    try:
        home.prepare(settings.home)
        free = shutil.disk_usage(settings.home).free
    except (ConfigError, OSError) as error:
        yield Finding("NARU_HOME", "fail", str(error))
        return
    text = f"{settings.home}, {free / 1e9:.1f} GB free"
    yield Finding("NARU_HOME", "ok" if free >= MIN_FREE_BYTES else "warn", text)


def _store(settings: config.Settings, config_path: Path | None) -> Iterator[Finding]:
    try:
        gateway = connect(config_path)
        keys = gateway.request("GET", "/admin/keys")["data"]
        last = gateway.request("GET", "/admin/config/reload")["last"]
    except (NaruError, OSError) as error:
        yield Finding("store", "fail", str(error))
        return
    yield from _reload(last)
    active = sum(1 for key in keys if key["state"] == "active")
    if active:
        yield Finding("store", "ok", f"{active} active keys")
    else:
        yield Finding("store", "warn", "no active key: `naru keys create NAME` makes one")


def _reload(last: dict[str, Any] | None) -> Iterator[Finding]:
    """What became of the file when the running gateway read it again."""
    if last is None:
        return
    waiting = ", ".join(each["key"] for each in last["needs_restart"])
    if last["error"]:
        yield Finding("reload", "fail", f"what runs is not what the file says: {last['error']}")
    elif waiting:
        yield Finding("reload", "warn", f"these settings wait for a restart of the gateway: {waiting}")
    else:
        yield Finding("reload", "ok", f"{last['source'] or 'no file'} is in force")


def _engines(settings: config.Settings, config_path: Path | None) -> Iterator[Finding]:
    if not settings.engines:
        return
    try:
        running = {each["name"]: each for each in connect(config_path).request("GET", "/admin/engines")["data"]}
    except (NaruError, OSError):
        running = {}  # the store's finding says why
    for name, engine in settings.engines.items():
        missing = _missing(engine, settings.source.parent if settings.source else Path())
        yield _engine(f"engine {name}", engine, missing, running.get(name, {}))


def _engine(what: str, engine: config.EngineSettings, missing: str, shown: dict[str, Any]) -> Finding:
    if missing:
        return Finding(what, "fail", missing)
    state = shown.get("state", "stopped")
    if state in ("failed", "backing_off"):
        return Finding(what, "fail", f"{state}: {shown['last_error']}. {shown['log_file']} has more")
    if state == "stopped" and engine.start == "first_use":
        return Finding(what, "ok", f"{engine.model}: starts with the first request for it")
    return Finding(what, "ok", f"{engine.model}: {state}")


def _missing(engine: config.EngineSettings, folder: Path) -> str:
    """What has to be installed for it, in a sentence."""
    program = program_of(engine, folder)
    if program:
        way = f"install it, or give its path as command in [engines.{engine.name}]"
        return "" if shutil.which(program) else f'its program "{program}" was not found: {way}'
    wanted = OWN_NEEDS[engine.engine]
    if any(find_spec(module) is not None for module in wanted):
        return ""
    extras = " or ".join(f"naru[{extra}]" for extra in wanted.values())
    return f"nothing that runs models is installed: pip install {extras}"


def _providers(settings: config.Settings) -> Iterator[Finding]:
    kinds = load_providers()
    jobs: list[Callable[[], Finding | None]] = [
        lambda p=provider: _credential(p, kinds[p.kind])  # type: ignore[misc]
        for provider in settings.providers.values()
        if provider.kind != "sandbox"
    ]
    used = {provider.kind for provider in settings.providers.values()}
    own = f"{settings.server.host}:{settings.server.port}"
    jobs += [
        lambda server=server: _local_server(*server)  # type: ignore[misc]
        for server in LOCAL_SERVERS
        if server[1] not in used and urlsplit(server[2]).netloc != own
    ]
    if not used - {"sandbox"}:
        variables = ", ".join(kind.env[0] for kind in list(kinds.values())[:40] if kind.env)
        yield Finding("providers", "warn", f"only the sandbox. Set one of {variables}, or declare one in naru.toml")
    with ThreadPoolExecutor(8) as pool:
        yield from (finding for finding in pool.map(lambda job: job(), jobs) if finding is not None)


def _credential(provider: config.ProviderSettings, kind: Provider) -> Finding:
    what = f"provider {provider.name}"
    base_url = provider.base_url or kind.base_url(provider.region or None)
    headers = {**dict(kind.headers), **{name: secret.reveal() for name, secret in provider.headers.items()}}
    if provider.api_key is not None:
        headers |= kind.credential(provider.api_key.reveal())
    path = kind.paths.get("models", "/models")
    url = base_url + path if not path.startswith("//") else f"{_origin(base_url)}{path[1:]}"
    probe = _get(url, headers, str(provider.ca_file or ""))
    if probe.error:
        return Finding(what, "fail", f"{base_url}: {probe.error}")
    if "models" not in kind.paths:
        return Finding(what, "warn", f"{base_url} answers, but has no list of models; the credential is unproven")
    if probe.status in (401, 403):
        variable = kind.env[0] if kind.env else "api_key"
        return Finding(
            what, "fail", f"the credential is refused (status {probe.status}). Check {variable} and the region."
        )
    if probe.server_time is not None and abs(probe.server_time - time.time()) > MAX_SKEW_S:
        return Finding(
            what, "warn", f"this machine's clock differs from theirs by {probe.server_time - time.time():+.0f} s"
        )
    if probe.status >= 400:
        return Finding(
            what, "warn", f"it answers, but its model list has status {probe.status}; the credential is unproven"
        )
    return Finding(what, "ok", f"{base_url} accepts the credential")


def _local_server(name: str, kind: str, base_url: str) -> Finding | None:
    probe = _get(f"{base_url}/models", {}, "")
    if probe.error or probe.status != 200:
        return None
    return Finding(name, "ok", f'runs on {base_url}. To use it add [providers.{kind}] with price = "free" to naru.toml')


def _origin(base_url: str) -> str:
    parts = urlsplit(base_url)
    return f"{parts.scheme}://{parts.netloc}"


def _get(url: str, headers: dict[str, str], ca_file: str) -> Probe:
    """One GET without redirects; the certificate is always verified."""
    parts = urlsplit(url)
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        context = ssl.create_default_context(cafile=ca_file or None)
        connection = http.client.HTTPSConnection(parts.hostname or "", parts.port, timeout=TIMEOUT_S, context=context)
    else:
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", parts.path, headers=headers)
        response = connection.getresponse()
        return Probe(response.status, _date(response.getheader("date")))
    except socket.gaierror:
        return Probe(error="the name cannot be resolved; check the network, or HTTPS_PROXY")
    except (OSError, http.client.HTTPException) as error:
        return Probe(error=f"no answer ({error})")
    finally:
        connection.close()


def _date(text: str | None) -> float | None:
    try:
        return parsedate_to_datetime(text).timestamp() if text else None
    except ValueError:
        return None
