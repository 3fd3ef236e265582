"""Which models were pulled to this machine: one small record each in NARU_HOME/models. The files themselves are in the cache
that Hugging Face's own programs share, so that no model is on the disk twice.

    NARU_HOME/models/Qwen--Qwen3-0.6B/COMMIT.json            a whole repository, in one format
    NARU_HOME/models/Qwen--Qwen3-0.6B-GGUF/COMMIT.FILE.json  one .gguf file of it

A record is written when every file is there and was checked; a download that was interrupted has none.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

import msgspec
from msgspec import Struct

from naru.errors import BadRequest, ConfigError, NotFound

_PART = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9])?"
_REFERENCE = re.compile(
    rf"({_PART}/{_PART})(?:@([A-Za-z0-9._/-]{{1,100}}))?(?::([A-Za-z0-9][A-Za-z0-9._/-]{{0,200}}\.gguf))?"
)


class HubReference(Struct, frozen=True):
    """`org/name`, `org/name@revision`, `org/name:file.gguf`, `org/name@revision:file.gguf`; what is not said is empty."""

    repo: str
    revision: str = ""
    file: str = ""

    def __str__(self) -> str:
        return self.repo + (f"@{self.revision}" if self.revision else "") + (f":{self.file}" if self.file else "")


class PulledFile(Struct, frozen=True):
    """`path` in the repository; `digest` is what it was checked with: the SHA-256 of an LFS file, else git's blob id."""

    path: str
    bytes: int
    digest: str


class Pulled(Struct, frozen=True, kw_only=True):
    """`kind`: openvino, safetensors or gguf. `folder`: the snapshot in the cache. `revision`: what was asked for ("main");
    `file`: the .gguf that was chosen, else empty. `pulled_at`: seconds since 1970."""

    repo: str
    revision: str
    commit: str
    kind: str
    folder: str
    files: tuple[PulledFile, ...]
    license: str
    pulled_at: float
    file: str = ""

    @property
    def reference(self) -> str:
        """What `naru engine serve` takes for it."""
        return f"{self.repo}:{self.file}" if self.file else self.repo

    @property
    def path(self) -> Path:
        """The folder, or the .gguf file in it."""
        return Path(self.folder) / self.file if self.file else Path(self.folder)

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files)


_decode = msgspec.json.Decoder(Pulled).decode


def parse_reference(text: str) -> HubReference:
    """Raises BadRequest."""
    match = _REFERENCE.fullmatch(text)
    if match is None or ".." in text or "--" in match[1]:
        raise BadRequest(
            f"{text!r} is no model of the Hub: write ORG/NAME, ORG/NAME@REVISION or ORG/NAME:FILE.gguf, such as Qwen/Qwen3-0.6B."
        )
    return HubReference(match[1], match[2] or "", match[3] or "")


def is_reference(text: str) -> bool:
    return _REFERENCE.fullmatch(text) is not None


def save(home: Path, pulled: Pulled) -> Path:
    """Writes the record, whole or not at all. Raises ConfigError where NARU_HOME cannot be written."""
    file = _record(home, pulled)
    new = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        new.write_bytes(msgspec.json.format(msgspec.json.encode(pulled), indent=1))
        new.replace(file)
    except OSError as error:
        raise ConfigError(
            f"{file} cannot be written: {error.strerror}. Point NARU_HOME at a folder you may write."
        ) from error
    return file


def pulled_models(home: Path) -> list[Pulled]:
    """By name; of one name the last pulled first. Raises ConfigError for a record that is broken."""
    found = [_read(file) for file in sorted((home / "models").glob("*/[!.]*.json"))]
    return sorted(found, key=lambda pulled: (pulled.reference.lower(), -pulled.pulled_at))


def find(home: Path, reference: HubReference) -> Pulled | None:
    """The last pulled one that the reference means: its file or any, its revision (or a commit's beginning) or any."""
    able = [pulled for pulled in pulled_models(home) if _means(reference, pulled)]
    return max(able, key=lambda pulled: pulled.pulled_at, default=None)


def remove(home: Path, reference: HubReference) -> list[Pulled]:
    """Deletes the records that the reference means, and their files, but for those that another record or another snapshot
    of the cache still uses. Raises NotFound."""
    records = pulled_models(home)
    gone = [pulled for pulled in records if _means(reference, pulled)]
    if not gone:
        known = ", ".join(dict.fromkeys(pulled.reference for pulled in records)) or "none"
        raise NotFound(f"{reference} was not pulled to this machine. Pulled: {known}.", code="model_not_found")
    kept = {(p.folder, file.path) for p in records if p not in gone for file in p.files}
    for pulled in gone:
        _delete_files(pulled, (file.path for file in pulled.files if (pulled.folder, file.path) not in kept))
        _record(home, pulled).unlink(missing_ok=True)
    return gone


def _record(home: Path, pulled: Pulled) -> Path:
    ending = f".{pulled.file.replace('/', '--')}" if pulled.file else ""
    return home / "models" / pulled.repo.replace("/", "--") / f"{pulled.commit}{ending}.json"


def _read(file: Path) -> Pulled:
    try:
        return _decode(file.read_bytes())
    except (OSError, msgspec.DecodeError) as error:
        raise ConfigError(f"{file} is damaged ({error}). Delete it and pull the model again.") from error


def _means(reference: HubReference, pulled: Pulled) -> bool:
    if reference.repo.lower() != pulled.repo.lower():
        return False
    if reference.file and reference.file != pulled.file:
        return False
    return (
        not reference.revision or reference.revision == pulled.revision or pulled.commit.startswith(reference.revision)
    )


def _delete_files(pulled: Pulled, paths: Iterable[str]) -> None:
    """The snapshot's links, and then the blobs that nothing in the repository's snapshots points at any more."""
    folder = Path(pulled.folder)
    blobs = set()
    for path in paths:
        link = folder / path
        if link.is_symlink():
            blobs.add(_blob_of(link))
        link.unlink(missing_ok=True)
    used = {_blob_of(link) for link in folder.parent.rglob("*") if link.is_symlink()}
    for blob in blobs - used:
        blob.unlink(missing_ok=True)
    for empty in sorted((path for path in folder.rglob("*") if path.is_dir()), reverse=True):
        _remove_empty(empty)
    _remove_empty(folder)


def _blob_of(link: Path) -> Path:
    """One step only: a blob may itself be a link to a file that several repositories share, which is not ours to delete."""
    return Path(os.path.normpath(link.parent / link.readlink()))


def _remove_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
