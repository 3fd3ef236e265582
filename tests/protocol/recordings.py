"""The recorded chat traffic, where it is there. Each value is the JSON or the stream as it came."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import yaml

from tests.protocol.samples import TRANSCRIPTS

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@cache
def exchanges() -> tuple[tuple[str, dict[str, Any], dict[str, Any]], ...]:
    """(file, request, response) of every call of a path ending in /chat/completions."""
    found: list[tuple[str, dict[str, Any], dict[str, Any]]] = []
    for path in sorted(TRANSCRIPTS.rglob("*.yaml")):
        text = path.read_text(encoding="utf-8")
        if "/chat/completions" not in text:
            continue
        found += [
            (path.stem, item["request"], item["response"])
            for item in yaml.load(text, Loader=_LOADER)["interactions"]
            if item.get("request", {}).get("uri", "").split("?")[0].endswith("/chat/completions")
        ]
    return tuple(found)


def requests() -> Iterator[dict[str, Any]]:
    for _, request, _ in exchanges():
        if request.get("parsed_body"):
            yield request["parsed_body"]


def answers() -> Iterator[dict[str, Any]]:
    for _, _, response in exchanges():
        if response["status"]["code"] == 200 and "parsed_body" in response:
            yield response["parsed_body"]


def refusals() -> Iterator[tuple[int, dict[str, Any]]]:
    for _, _, response in exchanges():
        if response["status"]["code"] >= 400:
            yield response["status"]["code"], response["parsed_body"]


def streams() -> Iterator[tuple[str, bytes]]:
    for name, _, response in exchanges():
        if "string" in (response.get("body") or {}):
            yield name, response["body"]["string"].encode()
