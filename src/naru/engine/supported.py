"""Which files and architectures each engine takes, as data: data/engines.json, whose note says where the rows are from."""

from __future__ import annotations

from pathlib import Path

import msgspec
from msgspec import Struct

FILE = Path(__file__).parent / "data" / "engines.json"


class Engine(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`classes`: task -> classes of config.json; `gguf`: values of general.architecture. Files of a kind that is not in
    `kinds` are not read at all. `label` stands in the middle of a sentence."""

    label: str
    kinds: tuple[str, ...]
    classes: dict[str, frozenset[str]]
    gguf: frozenset[str]

    @property
    def title(self) -> str:
        """The label at a sentence's beginning."""
        return self.label[:1].upper() + self.label[1:]


class Table(Struct, frozen=True, forbid_unknown_fields=True):
    note: str
    engines: dict[str, Engine]


def load_engines(path: Path = FILE) -> dict[str, Engine]:
    """Name, as commands and settings write it, -> what it takes."""
    return msgspec.json.decode(path.read_bytes(), type=Table).engines
