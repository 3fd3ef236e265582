"""The recorded traffic of the Messages API, where it is there. Each value is the JSON or the stream as it came."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import yaml

from tests.protocol.samples import TRANSCRIPTS

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@cache
def exchanges() -> tuple[tuple[str, dict[str, Any], dict[str, Any]], ...]:
    """(name, request, response) of every call of /v1/messages and below."""
    found: list[tuple[str, dict[str, Any], dict[str, Any]]] = []
    for path in sorted(TRANSCRIPTS.rglob("*.yaml")):
        text = path.read_text(encoding="utf-8")
        if "/v1/messages" not in text:
            continue
        found += [
            (f"{path.stem}[{place}]", item["request"], item["response"])
            for place, item in enumerate(yaml.load(text, Loader=_LOADER)["interactions"])
            if "/v1/messages" in item.get("request", {}).get("uri", "")
        ]
    return tuple(found)


def requests() -> Iterator[tuple[str, dict[str, Any]]]:
    """(path, body)"""
    for _, request, _ in exchanges():
        if request.get("parsed_body"):
            yield request["uri"].removeprefix("https://api.anthropic.com"), request["parsed_body"]


def answers() -> Iterator[dict[str, Any]]:
    for _, _, response in exchanges():
        if response["status"]["code"] == 200 and "content" in (response.get("parsed_body") or {}):
            yield response["parsed_body"]


def counts() -> Iterator[tuple[str, dict[str, Any], int]]:
    for name, request, response in exchanges():
        if "count_tokens" in request["uri"] and response["status"]["code"] == 200:
            yield name, request["parsed_body"], response["parsed_body"]["input_tokens"]


def refusals() -> Iterator[tuple[int, dict[str, Any]]]:
    for _, _, response in exchanges():
        if response["status"]["code"] >= 400:
            yield response["status"]["code"], response["parsed_body"]


def streams() -> Iterator[tuple[str, bytes]]:
    for name, _, response in exchanges():
        if "string" in (response.get("body") or {}):
            yield name, response["body"]["string"].encode()
