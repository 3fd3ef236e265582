"""Lines of a chat: a command, or a message."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from msgspec import Struct

from naru.errors import BadRequest

Json = dict[str, Any]

#: name -> (what may follow, help).
COMMANDS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "model": ("[NAME]", "Another model; without a name, those that there are."),
        "tools": (
            "[NAMES|off]",
            "Which tools the model may call, comma-separated; without a name, those that there are.",
        ),
        "think": (
            "[N|on|off|show]",
            "Thinking: a budget of N tokens, on, off, toggled; show prints the last thoughts whole.",
        ),
        "system": ("[TEXT|off]", "The system prompt; without a text, the present one."),
        "image": ("PATH", "Attach a picture to the next message."),
        "retry": ("", "Ask the last message again; the old answer is dropped."),
        "undo": ("", "Drop the last message and its answer."),
        "clear": ("", "Begin another conversation; this one stays saved."),
        "save": ("[FILE]", "Export the conversation, as Markdown or (FILE.json) as JSON."),
        "load": ("[NAME]", "Go on with a saved conversation; without a name, the latest ones."),
        "cost": ("", "Tokens and cost of this conversation, by model."),
        "help": ("", "This list."),
        "quit": ("", "End. So do Ctrl-D, and Ctrl-C twice."),
    }
)
ALIASES: Mapping[str, str] = MappingProxyType({"exit": "quit", "q": "quit", "?": "help", "new": "clear"})
KEYS = (
    ("Enter", "send"),
    ("Alt-Enter", "a new line; pasted text keeps its lines"),
    ("Ctrl-C", "stop the answer; clear the line; twice on an empty one: end"),
    ("@PATH", "put a text file in, or attach a picture"),
    ("//…", "a message that begins with a slash"),
)
#: A path such as /tmp/a.png is none: after the name comes white space, or nothing.
_COMMAND = re.compile(r"/([a-z?][a-z_-]*|\?)(?:\s+(.*))?", re.DOTALL | re.IGNORECASE)
EFFORTS = ("minimal", "low", "medium", "high")


class Command(Struct, frozen=True):
    name: str
    argument: str = ""


class Text(Struct, frozen=True):
    text: str


def read_line(line: str) -> Command | Text | None:
    """None for nothing at all. Raises BadRequest for a command that there is not, with the nearest one."""
    line = line.strip()
    if not line:
        return None
    if line.startswith("//"):
        return Text(line[1:])
    match = _COMMAND.fullmatch(line)
    if match is None:
        return Text(line)
    name = match[1].lower()
    name = ALIASES.get(name, name)
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, [*COMMANDS, *ALIASES], n=1, cutoff=0.4)
        hint = f"Did you mean /{near[0]}?" if near else "/help lists them."
        raise BadRequest(f"There is no command /{name}. {hint} (/{line} sends it as a message.)")
    return Command(name, (match[2] or "").strip())


# --- Thinking ---------------------------------------------------------------------------------------------------------


def think_of(text: str, before: str) -> str:
    """What /think makes of the setting: "" (the model's own way), on, off, a number of tokens, an effort. Raises BadRequest."""
    word = text.lower()
    if not word:
        return "on" if before == "off" else "off"
    if word in ("on", "off", *EFFORTS):
        return word
    if word in ("auto", "default"):
        return ""
    if not word.isascii() or not word.isdigit():
        raise BadRequest(f"Thinking is on, off, auto, a number of tokens, or {', '.join(EFFORTS)}; not {text!r}.")
    return str(int(word)) if int(word) else "off"


def thinking_fields(think: str) -> Json:
    """The gateway's own fields, which it maps to whatever the provider has."""
    if not think:
        return {}
    if think in EFFORTS:
        return {"reasoning_effort": think}
    if think.isdigit():
        return {"enable_thinking": True, "thinking_budget": int(think)}
    return {"enable_thinking": think == "on"}


def names_of(text: str) -> list[str]:
    """Of tools, from `a,b c`; off is none."""
    names = [name for name in re.split(r"[,\s]+", text) if name]
    return [] if names in (["off"], ["none"]) else list(dict.fromkeys(names))
