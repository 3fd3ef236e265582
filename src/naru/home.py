"""NARU_HOME on disk: the lock that keeps two gateways apart, the pepper, and the control socket's place."""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import tempfile
from pathlib import Path
from typing import IO

from naru.errors import ConfigError

PEPPER_BYTES = 32
#: sockaddr_un holds 108 bytes on Linux, 104 elsewhere.
MAX_SOCKET_PATH = 100


def prepare(home: Path) -> None:
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise ConfigError(
            f"NARU_HOME {home} cannot be made: {error.strerror}. Point NARU_HOME at a folder you may write."
        ) from error


def lock(home: Path) -> IO[str]:
    """Holds NARU_HOME for this process until the returned file is closed. Raises ConfigError naming the other process."""
    file = (home / "naru.lock").open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        owner = file.read().strip() or "unknown"
        file.close()
        raise ConfigError(
            f"Another Naru (process {owner}) already runs on {home}. Stop it, or give this one a NARU_HOME of its own."
        ) from None
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file


def pepper(home: Path) -> bytes:
    """The secret under which key digests are made. Kept beside the database, not in it, so that either alone is useless."""
    path = home / "pepper"
    try:
        value = path.read_bytes()
    except FileNotFoundError:
        value = secrets.token_bytes(PEPPER_BYTES)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(value)
    if len(value) != PEPPER_BYTES:
        raise ConfigError(f"{path} is damaged. Restore it from a backup: without it no existing key works.")
    return value


def control_socket(home: Path) -> Path:
    """Where the running gateway of this NARU_HOME listens for its own command line."""
    return socket_path(home, "control")


def engine_socket(home: Path, name: str) -> Path:
    """Where the worker of an engine listens for the gateway of this NARU_HOME."""
    return socket_path(home, f"engine-{name}")


def socket_path(home: Path, name: str) -> Path:
    """In the home, or in the folder for temporary files where that would be too long a path for a socket."""
    path = home.resolve() / f"{name}.sock"
    if len(os.fsencode(path)) <= MAX_SOCKET_PATH:
        return path
    digest = hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"naru-{os.getuid()}-{digest}.sock"
