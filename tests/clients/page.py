"""The snippets of docs/clients.md, which tests run as they stand there: only address, key and model are put in."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).parent.parent.parent / "docs" / "clients.md"
_SECTION = re.compile(r"^## (.+?)\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def snippet(title: str, language: str, place: int = 0) -> str:
    """The block of this language under this heading."""
    sections = dict(_SECTION.findall(PAGE.read_text()))
    return [body for kind, body in _FENCE.findall(sections[title]) if kind == language][place]


def at(text: str, port: int) -> str:
    """The snippet, with the port of a running gateway for the one that it names."""
    assert "127.0.0.1:8000" in text
    return text.replace("127.0.0.1:8000", f"127.0.0.1:{port}")
