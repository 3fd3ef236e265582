"""Naru's own tools by name, as `naru chat --tools weather,calculator` names them."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from naru.agent.builtin.calculator import calculate
from naru.agent.builtin.files import files
from naru.agent.builtin.weather import get_current_weather
from naru.agent.builtin.web import make_web_fetch
from naru.agent.tool import Tool

#: Each gives its tools anew. `files` reads the folder that the program runs in, and writes nothing; for another one call
#: `naru.agent.builtin.files.files`.
BUILTIN: Mapping[str, Callable[[], list[Tool]]] = MappingProxyType(
    {
        "calculator": lambda: [calculate.tool],
        "files": lambda: files(Path.cwd()),
        "weather": lambda: [get_current_weather.tool],
        "web_fetch": lambda: [make_web_fetch().tool],
    }
)


def builtin(name: str) -> list[Tool]:
    """The tools of one name; most have one, `files` three. Raises ValueError, with the nearest name."""
    made = BUILTIN.get(name)
    if made is None:
        # The names that the model calls count as near: `calculate` means the calculator.
        near = difflib.get_close_matches(name.lower(), BUILTIN, n=1, cutoff=0.5)
        hint = f"Did you mean {near[0]}?" if near else f"There are: {', '.join(BUILTIN)}."
        raise ValueError(f"There is no built-in tool {name!r}. {hint}")
    return made()
