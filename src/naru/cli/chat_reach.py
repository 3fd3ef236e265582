"""Which gateway a chat talks to, and with which key."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import httpx2
import msgspec
import openai
from msgspec import Struct

from naru import config
from naru.chat import tools
from naru.chat.gateway import Gateway
from naru.chat.store import write_private
from naru.cli.backend import Client, running
from naru.client import environment
from naru.client.client import AsyncNaru
from naru.errors import NotFound, UpstreamUnreachable
from naru.home import control_socket
from naru.toolservers import ToolServers

KEY_FILE = "chat.key"
SERVERS_LOG = "logs/chat-mcp.log"
#: Over a socket there is no host; HTTP wants one all the same.
SOCKET_URL = "http://localhost/v1"


class Reached(Struct, frozen=True):
    """`home` is where conversations are kept."""

    gateway: Gateway
    home: Path


class _Key(Struct):
    id: str
    key: str


def reach(config_path: Path | None) -> Reached:
    """NARU_BASE_URL's, else the one that runs here, else OPENAI_BASE_URL's. Raises UpstreamUnreachable where none is named and
    none runs, Unauthorized where one is named without a key."""
    settings = config.settings_of_process(config_path, {})
    if not settings.client.base_url:
        for home in _homes(settings.home):
            admin = running(home)
            if admin is not None:
                servers = tools.servers(settings.mcp, home / SERVERS_LOG)
                own = settings.client.api_key
                client = _over_socket(home, own.reveal() if own else _kept_key(home, admin), servers)
                return Reached(Gateway(client, f"the gateway on {home}", servers), home)
        if not environment.is_named():
            raise UpstreamUnreachable(
                f"No gateway runs on {settings.home}. Start one with `naru serve` (or `make serve`), or set NARU_BASE_URL and "
                "NARU_API_KEY to use one elsewhere."
            )
    url = environment.base_url()
    servers = tools.servers(settings.mcp, settings.home / SERVERS_LOG)
    return Reached(Gateway(AsyncNaru(base_url=url, mcp=servers.by_name), url, servers), settings.home)


def _homes(home: Path) -> list[Path]:
    """Where NARU_HOME is not set, also the one that `make serve` uses: beside the environment that this program runs in."""
    beside = Path(sys.prefix).parent / ".naru"
    is_usual = home == Path.home() / ".naru"
    return [home, beside] if is_usual and beside.is_dir() and beside.stat().st_uid == os.getuid() else [home]


def _over_socket(home: Path, key: str, servers: ToolServers) -> AsyncNaru:
    """Over the private socket the gateway is found on whatever port it listens."""
    http = openai.DefaultAsyncHttpxClient(
        transport=httpx2.AsyncHTTPTransport(uds=str(control_socket(home))), base_url=SOCKET_URL, trust_env=False
    )
    return AsyncNaru(base_url=SOCKET_URL, api_key=key, http_client=http, mcp=servers.by_name)


def _kept_key(home: Path, admin: Client) -> str:
    """The key named chat, made at the first use and again once it no longer works."""
    file = home / KEY_FILE
    try:
        kept = msgspec.json.decode(file.read_bytes(), type=_Key)
        if admin.request("GET", f"/admin/keys/{kept.id}")["state"] == "active":
            return kept.key
    except (FileNotFoundError, msgspec.DecodeError, NotFound):
        pass  # a new one
    made = admin.request("POST", "/admin/keys", body={"name": "chat", "role": "caller"})
    write_private(file, msgspec.json.encode(_Key(made["id"], made["key"])))
    return str(made["key"])
