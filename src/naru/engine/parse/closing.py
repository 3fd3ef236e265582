"""What an unfinished JSON text lacks at its end."""

from __future__ import annotations

import re

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|"(?:[^"\\]|\\.)*(?P<half>\\?)$|[{}\[\]]', re.DOTALL)
_PAIR = {"{": "}", "[": "]"}


def closing_of(text: str) -> str:
    """The quotes and brackets that close `text`, so that what came of a call can be read. Only where the operator asked for
    `repair`: a client that runs a call with half its arguments may do harm."""
    if not text:
        return "{}"
    open_brackets: list[str] = []
    end = ""
    for token in _TOKEN.finditer(text):
        found = token.group()
        if found in _PAIR:
            open_brackets.append(_PAIR[found])
        elif found in ("}", "]"):
            if open_brackets:
                open_brackets.pop()
        elif token["half"] is not None:
            end = ("\\" if token["half"] else "") + '"'
    bare = text.rstrip()
    if not end and bare.endswith(":"):
        end = " null"
    elif not end and bare.endswith(","):
        end = ' "": null' if open_brackets and open_brackets[-1] == "}" else " null"
    return end + "".join(reversed(open_brackets))
