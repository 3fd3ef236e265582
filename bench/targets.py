"""What is measured: each target is a child process in front of the mock upstream, or the upstream itself."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Protocol

from bench.process import Child, free_port

NGINX_CONF = """
{user}
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    keepalive_requests 1000000000;
    upstream mock {{
        server 127.0.0.1:{upstream};
        keepalive 1024;
        keepalive_requests 1000000000;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{
            proxy_pass http://mock;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
        }}
    }}
}}
"""

NARU_TOML = """
[server]
host = "127.0.0.1"
port = {port}

[providers.mock]
kind = "custom"
base_url = "http://127.0.0.1:{upstream}/v1"
allow_private = true
api_key = "x"

[providers.claude]
kind = "anthropic"
base_url = "http://127.0.0.1:{upstream}/v1"
allow_private = true
api_key = "x"

[models."bench-translated"]
deployments = [{{ provider = "claude", model = "mock" }}]
price = {{ input = 1.0, output = 2.0 }}

[models."bench"]
deployments = [{{ provider = "mock", model = "mock" }}]
price = {{ input = 1.0, output = 2.0 }}
"""


#: High enough never to refuse, so that every check is made and none is hit.
KEY_LIMITS = {
    "--budget": "1000000usd/month",
    "--rpm": "100000000",
    "--tpm": "1000000000000",
    "--concurrency": "100000",
}


class Unavailable(Exception):
    """The target cannot be measured here; the message says why."""


class Target(Protocol):
    """`start` returns when the process runs, not when it answers. `key` is the bearer token to send."""

    name: str
    port: int
    key: str
    child: Child | None

    def start(self) -> None: ...
    def stop(self) -> None: ...


class Direct:
    """The mock upstream itself: what the added latencies are measured against."""

    name = "direct"
    key = "none"
    child: Child | None = None

    def __init__(self, upstream_port: int) -> None:
        self.port = upstream_port

    def start(self) -> None:
        """It runs already."""

    def stop(self) -> None:
        """The bench stops it at its end."""


class Nginx:
    """A plain reverse proxy with one worker: the practical limit."""

    name = "nginx"
    key = "none"

    def __init__(self, folder: Path, upstream_port: int, core: set[int]) -> None:
        program = shutil.which("nginx", path=f"{os.defpath}:/usr/sbin:/usr/local/sbin")
        if program is None:
            raise Unavailable("nginx is not installed (Debian: apt-get install nginx-light)")
        self._program = program
        self._folder = folder
        self._core = core
        self.port = free_port()
        self.child: Child | None = None
        folder.mkdir()
        user = "user root;" if os.geteuid() == 0 else ""
        text = NGINX_CONF.format(user=user, folder=folder, upstream=upstream_port, port=self.port)
        (folder / "nginx.conf").write_text(text)

    def start(self) -> None:
        error_log = str(self._folder / "error.log")
        command = [self._program, "-e", error_log, "-p", str(self._folder), "-c", str(self._folder / "nginx.conf")]
        self.child = Child(command, log=self._folder / "output.log", core=self._core, environment={})

    def stop(self) -> None:
        if self.child is not None:
            self.child.stop()


class Naru:
    """The gateway with everything on: a key with limits and a budget, prices, journal, metrics."""

    name = "naru"

    def __init__(self, folder: Path, upstream_port: int, core: set[int]) -> None:
        self._folder = folder
        self._core = core
        self.port = free_port()
        self.child: Child | None = None
        folder.mkdir()
        self._config = folder / "naru.toml"
        self._config.write_text(NARU_TOML.format(port=self.port, upstream=upstream_port))
        self._environment = {
            "PATH": os.defpath,
            "HOME": str(folder),
            "LANG": "C.UTF-8",
            "NARU_HOME": str(folder / "home"),
        }
        self.without: list[str] = []
        self.key = self._create_key()

    def _create_key(self) -> str:
        """A key with every limit that this version knows; the ones it does not are named in `without`."""
        limits = dict(KEY_LIMITS)
        while True:
            made = self._keys_create([word for option in limits.items() for word in option])
            said = made.stderr.decode(errors="replace")
            unknown = re.search(r"No such option:? '?(--[a-z]+)", said)
            if made.returncode == 0:
                self.without = [option for option in KEY_LIMITS if option not in limits]
                return str(json.loads(made.stdout)["key"])
            if unknown is None or limits.pop(unknown[1], None) is None:
                raise Unavailable(f"`naru keys create` failed: {said.strip()[-500:]}")

    def _keys_create(self, limits: list[str]) -> subprocess.CompletedProcess[bytes]:
        command = [sys.executable, "-m", "naru", "keys", "create", "bench", "--json", *limits]
        try:
            return subprocess.run(command, env=self._environment, capture_output=True, timeout=20, check=False)
        except subprocess.TimeoutExpired:
            raise Unavailable("`naru keys create` did not end within 20 s") from None

    def start(self) -> None:
        command = [sys.executable, "-m", "naru", "serve", "--config", str(self._config), "--port", str(self.port)]
        log = self._folder / "output.log"
        self.child = Child(command, log=log, core=self._core, environment=self._environment)

    def stop(self) -> None:
        if self.child is not None:
            self.child.stop()
