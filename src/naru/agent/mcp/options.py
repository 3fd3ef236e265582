"""What a developer or an operator says about one MCP server, checked before anything starts."""

from __future__ import annotations

import fnmatch
import ipaddress
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from msgspec import Struct

#: Stands before `__` in a tool's name. No `__` of its own, and no `_` at its end, so that `name__tool` is read in one way only;
#: a letter first, since Gemini wants that of functions; short, since 64 characters are all that OpenAI and Anthropic allow.
SERVER_NAME = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:[_-][A-Za-z0-9]+)*")
MAX_SERVER_NAME = 32

Log = Callable[[str], None]


class Options(Struct, frozen=True, kw_only=True):
    """One of `command` and `url`. Patterns are of file names' kind (`read_*`), and for the server's own names of its tools.

    `env` is added to a small environment (PATH, HOME and the like); nothing else of ours is passed on. `public_only`: the URL
    came from somebody far away, so only addresses of the public internet are connected to. `log` gets the lines that the
    program writes to standard error. Raises ValueError."""

    name: str
    command: tuple[str, ...] = ()
    url: str = ""
    env: Mapping[str, str] = {}
    headers: Mapping[str, str] = {}
    cwd: Path | None = None
    timeout_s: float = 60.0
    connect_timeout_s: float = 30.0
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    needs_approval: tuple[str, ...] = ()
    public_only: bool = False
    log: Log | None = None

    def __post_init__(self) -> None:
        if problem := _problem(self):
            raise ValueError(f"MCP server {self.name[:40]!r}: {problem}")

    def __repr__(self) -> str:
        """Headers, environments, arguments and addresses hold keys often enough."""
        return f"Options(name={self.name!r}, {'command' if self.command else 'url'}=…)"

    def takes(self, tool: str) -> bool:
        """By the tool's own name: in `include`, where there is one, and not in `exclude`."""
        return (not self.include or matches(tool, self.include)) and not matches(tool, self.exclude)


def matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def is_pattern(text: str) -> bool:
    return any(letter in text for letter in "*?[")


def _problem(options: Options) -> str:
    if not SERVER_NAME.fullmatch(options.name) or len(options.name) > MAX_SERVER_NAME:
        return (
            f"its name stands before its tools' names: a letter first, then letters and digits, with single dashes or "
            f"underscores between them, {MAX_SERVER_NAME} characters at most"
        )
    if bool(options.command) == bool(options.url):
        return "give it either a command (a program with its arguments) or a url"
    if min(options.timeout_s, options.connect_timeout_s) <= 0:
        return "timeout_s and connect_timeout_s are above 0"
    if options.command:
        return _command_problem(options)
    if options.env or options.cwd is not None:
        return "env and cwd are for a command; what a url needs goes into headers"
    return _url_problem(options.url)


def _command_problem(options: Options) -> str:
    if options.public_only:
        return "public_only is for a url; nobody far away chooses a command"
    if options.headers:
        return "headers are for a url; what a command needs goes into env"
    if not options.command[0].strip():
        return "the command is empty"
    texts = (*options.command, *options.env, *options.env.values())
    return "the command and its environment hold no NUL" if any("\0" in text for text in texts) else ""


def _url_problem(text: str) -> str:
    try:
        url = urlsplit(text)
        host, _ = url.hostname or "", url.port
    except ValueError as error:
        return f"the url is none: {error}"
    if url.scheme not in ("http", "https") or not host:
        return "the url begins with https:// (or http://, on this machine) and a host"
    if url.username is not None or url.password is not None:
        return "the url must not hold a user or password; credentials go into headers"
    if url.scheme == "http" and not is_loopback(host):
        return f"http:// is for this machine only, and {host} is another; use https://"
    return ""


def is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
