"""How a command reaches its gateway: the running one of the same NARU_HOME over its private socket, a remote one by
NARU_BASE_URL and NARU_ADMIN_KEY, or, when none runs, the same admin API in this process over the store itself.

Commands see one method, `request`, and cannot tell which of the three answers.
"""

from __future__ import annotations

import asyncio
import http.client
import socket
import ssl
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, cast
from urllib.parse import urlencode, urlsplit

import click
import msgspec

from naru import config, home
from naru.errors import (
    BadRequest,
    ConfigError,
    Conflict,
    Forbidden,
    NaruError,
    NotFound,
    Overloaded,
    TooLarge,
    Unauthorized,
    UpstreamUnreachable,
)
from naru.log import configure as configure_log

TIMEOUT_S = 30.0

config_option = click.option(
    "--config", "config_path", type=click.Path(dir_okay=False, path_type=Path), help="naru.toml to use."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


class Backend(Protocol):
    where: str

    def send(self, method: str, target: str, body: bytes) -> tuple[int, bytes]: ...


class Client:
    """JSON over a backend; error answers become the same errors that the gateway raised."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend

    @property
    def where(self) -> str:
        """Which gateway answers, in words."""
        return self.backend.where

    def request(self, method: str, path: str, query: Mapping[str, Any] | None = None, body: object = None) -> Any:
        status, answer = self.backend.send(
            method, _target(path, query), b"" if body is None else msgspec.json.encode(body)
        )
        return _decoded(status, answer)

    def download(self, path: str, query: Mapping[str, Any]) -> bytes:
        """What is not JSON, as it came."""
        status, answer = self.backend.send("GET", _target(path, query), b"")
        if status >= 400:
            _decoded(status, answer)
        return answer


def _target(path: str, query: Mapping[str, Any] | None) -> str:
    given = {name: value for name, value in (query or {}).items() if value is not None}
    return f"{path}?{urlencode(given)}" if given else path


def _decoded(status: int, answer: bytes) -> Any:
    try:
        decoded = msgspec.json.decode(answer) if answer else {}
    except msgspec.DecodeError:
        raise NaruError(f"What answered is not a Naru gateway (status {status}). Check NARU_BASE_URL.") from None
    if status >= 400:
        raise _error(status, decoded)
    return decoded


def _error(status: int, answer: Any) -> NaruError:
    fields = answer.get("error", {}) if isinstance(answer, dict) else {}
    kinds = {
        400: BadRequest, 401: Unauthorized, 403: Forbidden, 404: NotFound, 409: Conflict, 413: TooLarge, 503: Overloaded,
    }  # fmt: skip
    return kinds.get(status, NaruError)(str(fields.get("message", f"status {status}")), code=fields.get("code"))


def connect(config_path: Path | None) -> Client:
    settings = config.settings_of_process(config_path, {})
    if settings.client.base_url:
        return Client(
            _Remote(settings.client.base_url, settings.client.admin_key.reveal() if settings.client.admin_key else "")
        )
    return running(settings.home) or Client(_InProcess(settings))


def running(home_path: Path) -> Client | None:
    """The gateway that runs on this NARU_HOME."""
    path = home.control_socket(home_path)
    return Client(_Socket(path, home_path)) if _answers(path) else None


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=TIMEOUT_S)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(TIMEOUT_S)
        self.sock.connect(str(self.path))


def _exchange(
    connection: http.client.HTTPConnection, method: str, target: str, body: bytes, key: str
) -> tuple[int, bytes]:
    headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {key}"} if key else {})
    try:
        connection.request(method, target, body or None, headers)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


class _Socket:
    def __init__(self, path: Path, home_path: Path) -> None:
        self.path = path
        self.where = f"the gateway running on {home_path}"

    def send(self, method: str, target: str, body: bytes) -> tuple[int, bytes]:
        return _exchange(_UnixConnection(self.path), method, target, body, "")


class _Remote:
    def __init__(self, base_url: str, key: str) -> None:
        self.parts = urlsplit(base_url)
        self.key = key
        self.where = f"the gateway at {base_url}"
        if not key:
            raise ConfigError("NARU_BASE_URL is set, so NARU_ADMIN_KEY must be too (the nka-… key of that gateway).")

    def send(self, method: str, target: str, body: bytes) -> tuple[int, bytes]:
        host = self.parts.hostname or ""
        connection: http.client.HTTPConnection
        if self.parts.scheme == "https":
            context = ssl.create_default_context()
            connection = http.client.HTTPSConnection(host, self.parts.port, timeout=TIMEOUT_S, context=context)
        else:
            connection = http.client.HTTPConnection(host, self.parts.port, timeout=TIMEOUT_S)
        try:
            return _exchange(
                connection, method, self.parts.path.removesuffix("/v1").rstrip("/") + target, body, self.key
            )
        except OSError as error:
            raise UpstreamUnreachable(f"No gateway answers at {self.parts.geturl()}: {error}.") from error


class _InProcess:
    def __init__(self, settings: config.Settings) -> None:
        self.settings = settings
        self.where = f"{settings.home} (no gateway runs on it now)"

    def send(self, method: str, target: str, body: bytes) -> tuple[int, bytes]:
        # Unconfigured, a warning of the App's would stand on stdout, in the middle of what `--json` prints.
        configure_log(self.settings.log_level)
        # The server's half of Naru is heavy to import, and the other two backends do without it.
        answer_once = import_module("naru.cli.inprocess").answer_once
        return cast(tuple[int, bytes], asyncio.run(answer_once(self.settings, method, target, body)))
