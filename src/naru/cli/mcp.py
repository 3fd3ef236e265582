"""naru mcp serve"""

from __future__ import annotations

import asyncio
import socket
from importlib import import_module
from pathlib import Path
from types import ModuleType

import click

from naru import __version__, config
from naru.cli.backend import config_option
from naru.config import Settings
from naru.errors import ConfigError

ANYWHERE = ("0.0.0.0", "::", "")


@click.group("mcp")
def command() -> None:
    """Naru and the Model Context Protocol."""


@command.command("serve")
@click.option("--http", "address", metavar="HOST:PORT", help="Listen there (streamable HTTP) instead of using stdio.")
@config_option
def serve(*, address: str | None, config_path: Path | None) -> None:
    """Offer a gateway's models, chat and usage as tools to an MCP client.

    The gateway is the one at NARU_BASE_URL, else the one on this machine; the key is NARU_API_KEY (nk-…). With --http,
    callers may send a key of their own as Authorization: Bearer; at an address that others can reach they have to.
    """
    settings = config.settings_of_process(config_path, {})
    server = _server()
    key = settings.client.api_key.reveal() if settings.client.api_key else ""
    if address is None:
        gateway = server.Gateway(base_url=_base_url(settings), key=_needed(key))
        asyncio.run(server.serve_stdio(gateway, __version__))
        return
    with _listener(address) as listener:
        host, port = listener.getsockname()[:2]
        # Whoever reaches the port would use NARU_API_KEY as their own, so it is not lent to other machines.
        own = _needed(key) if server.is_loopback(host) else ""
        shown = f"[{host}]" if ":" in host else host
        click.echo(f"MCP (streamable HTTP) on http://{shown}:{port}{server.PATH}", err=True)
        gateway = server.Gateway(base_url=_base_url(settings), key=own)
        asyncio.run(server.serve_http(gateway, __version__, listener))


def _server() -> ModuleType:
    """Heavy to import, and no part of a plain installation."""
    try:
        return import_module("naru.agent.mcp_server")
    except ModuleNotFoundError as error:
        raise ConfigError(f"`naru mcp` needs {error.name}: install naru with its extra, naru[agent].") from error


def _needed(key: str) -> str:
    if not key:
        raise ConfigError("NARU_API_KEY is not set. Give it a caller's key (nk-…); `naru keys create NAME` makes one.")
    return key


def _base_url(settings: Settings) -> str:
    """With /v1 at its end. Without NARU_BASE_URL: where the gateway of this configuration listens."""
    if settings.client.base_url:
        return settings.client.base_url.rstrip("/").removesuffix("/v1") + "/v1"
    host = "127.0.0.1" if settings.server.host in ANYWHERE else settings.server.host
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.server.port}/v1"


def _listener(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise click.BadParameter(f"expected HOST:PORT, as 127.0.0.1:8765, got {address!r}", param_hint="--http")
    try:
        family = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, int(port)), family=family)
    except OSError as error:
        raise ConfigError(f"--http: cannot listen on {address}: {error.strerror or error}.") from None
