"""The recorded Responses traffic, where it is there. Each value is the JSON or the stream as it came."""

from __future__ import annotations

from functools import cache
from typing import Any

import yaml

from tests.protocol.samples import TRANSCRIPTS

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@cache
def exchanges() -> tuple[tuple[str, dict[str, Any], dict[str, Any]], ...]:
    """(file, request, response) of every POST to a path ending in /responses."""
    found: list[tuple[str, dict[str, Any], dict[str, Any]]] = []
    for path in sorted(TRANSCRIPTS.rglob("*.yaml")):
        text = path.read_text(encoding="utf-8")
        if "/responses" not in text:
            continue
        found += [
            (path.stem, item["request"], item["response"])
            for item in yaml.load(text, Loader=_LOADER)["interactions"]
            if item["request"]["method"] == "POST" and item["request"]["uri"].split("?")[0].endswith("/responses")
        ]
    return tuple(found)


def requests() -> list[dict[str, Any]]:
    return [request["parsed_body"] for _, request, _ in exchanges()]


def answers() -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """(request, answer) of what was answered whole."""
    return [
        (request["parsed_body"], response["parsed_body"])
        for _, request, response in exchanges()
        if response["status"]["code"] == 200 and "parsed_body" in response
    ]


def streams() -> list[tuple[str, bytes]]:
    return [
        (name, response["body"]["string"].encode())
        for name, _, response in exchanges()
        if response["status"]["code"] == 200 and "string" in (response.get("body") or {})
    ]


def refusals() -> list[tuple[int, bytes]]:
    return [
        (response["status"]["code"], response["body"]["string"].encode())
        for _, _, response in exchanges()
        if response["status"]["code"] >= 400 and "string" in (response.get("body") or {})
    ]
