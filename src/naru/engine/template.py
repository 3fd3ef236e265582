"""Chat templates from a model's own files, rendered as Hugging Face's tokenizers do (local_serving.md 1.1).

The differences to plain Jinja that change tokens: `tojson` neither escapes HTML nor Korean, blocks are trimmed, `generation`
is a tag that prints its body. A template is a program from the internet: it runs in Jinja's immutable sandbox, with bounds on
its size, its loops and what it builds.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2
from jinja2.exceptions import SecurityError
from msgspec import Struct

from naru.engine.sandbox import OutOfBounds, Refused, Sandbox, Steps
from naru.errors import BadRequest, ConfigError, TooLarge

MAX_TEMPLATE_BYTES = 1 << 20
MAX_OUTPUT = 16 << 20  # characters
MAX_STEPS = 1_000_000  # rounds of all loops together
_MAX_CONFIG_BYTES = 64 << 20  # tokenizer_config.json lists every added token

#: What a caller may set in `chat_template_kwargs`: switches that templates of the supported families read.
ALLOWED_KWARGS = frozenset(
    {
        "enable_thinking", "thinking", "thinking_budget", "reasoning_effort", "force_reasoning", "skip_reasoning",
        "preserve_thinking", "clear_thinking", "add_vision_id", "date_string", "builtin_tools", "tools_in_user_message",
    }
)  # fmt: skip
#: Tokens that templates name.
_TOKEN_NAMES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
#: Hugging Face writes the first; the second is seen in the wild.
_FOLDERS = ("additional_chat_templates", "chat_templates")

Json = dict[str, Any]


class Turn(Struct, frozen=True):
    """What is rendered. `messages` are as history.py prepares them; `now` is for templates that print the date."""

    messages: Sequence[Json]
    now: datetime
    tools: Sequence[Json] = ()
    documents: Sequence[Json] = ()
    add_generation_prompt: bool = True
    continue_final_message: bool = False
    enable_thinking: bool | None = None
    kwargs: Json = {}


class ChatTemplate:
    """One template, compiled. `source` is its text, for format detection; `file` is named in errors."""

    def __init__(self, source: str, file: str, tokens: Mapping[str, str] | None = None) -> None:
        if len(source.encode(errors="replace")) > MAX_TEMPLATE_BYTES:
            raise ConfigError(f"The chat template in {file} is larger than {MAX_TEMPLATE_BYTES} bytes.")
        self.source = source
        self.file = file
        self._tokens = dict(tokens or {})
        try:
            self._template = Sandbox(MAX_OUTPUT).from_string(source)
        except (jinja2.TemplateError, RecursionError, SyntaxError, ValueError) as error:
            raise ConfigError(f"The chat template in {file} is broken: {error}") from error

    def render(self, turn: Turn) -> str:
        """The prompt. Raises BadRequest if the template does not take the messages, ConfigError if it misbehaves."""
        if turn.continue_final_message and turn.add_generation_prompt:
            raise BadRequest("add_generation_prompt and continue_final_message exclude each other.")
        names = _variables(turn)
        try:
            text = self._run({**self._tokens, **names})
        except Refused as error:
            raise BadRequest(f"The model's chat template refuses the messages: {error}", param="messages") from error
        except (SecurityError, OutOfBounds, RecursionError, MemoryError) as error:
            raise ConfigError(f"The chat template in {self.file} was stopped: {error}") from error
        except (jinja2.TemplateError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
            raise BadRequest(
                f"The model's chat template cannot render the messages: {error}", param="messages"
            ) from error
        return _without_end(text, turn.messages) if turn.continue_final_message else text

    def _run(self, names: Json) -> str:
        pieces: list[str] = []
        size = 0
        for piece in self._template.generate({**names, "naru_steps": Steps(MAX_STEPS)}):
            size += len(piece)
            if size > MAX_OUTPUT:
                raise TooLarge(f"The rendered prompt is longer than {MAX_OUTPUT} characters.", param="messages")
            pieces.append(piece)
        return "".join(pieces)


class Templates:
    """The templates of one model by name. Hugging Face's choice: `tool_use` where tools are given and it exists."""

    def __init__(self, by_name: Mapping[str, ChatTemplate], folder: str) -> None:
        self._by_name = dict(by_name)
        self._folder = folder

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(sorted(self._by_name))

    def choose(self, name: str | None = None, has_tools: bool = False) -> ChatTemplate:
        wanted = name or ("tool_use" if has_tools and "tool_use" in self._by_name else "default")
        if wanted not in self._by_name:
            known = ", ".join(self.names) or "none"
            raise ConfigError(f"{self._folder} has no chat template {wanted!r}; it has: {known}.")
        return self._by_name[wanted]


def load(folder: Path) -> Templates:
    """Every chat template in a model's folder. A .jinja file goes before tokenizer_config.json, as in Hugging Face."""
    config_path = folder / "tokenizer_config.json"
    config = _read_config(config_path)
    tokens = {name: text for name in _TOKEN_NAMES if (text := _token(config.get(name))) is not None}
    sources = _from_config(config.get("chat_template"), config_path)
    for path in _template_files(folder):
        name = "default" if path.parent == folder else path.stem
        sources[name] = (_read(path, MAX_TEMPLATE_BYTES), str(path))
    return Templates({name: ChatTemplate(text, file, tokens) for name, (text, file) in sources.items()}, str(folder))


def _template_files(folder: Path) -> list[Path]:
    more = [path for name in _FOLDERS for path in sorted((folder / name).glob("*.jinja"))]
    default = folder / "chat_template.jinja"
    return [*more, default] if default.is_file() else more


def _read_config(path: Path) -> Json:
    if not path.is_file():
        return {}
    try:
        config = json.loads(_read(path, _MAX_CONFIG_BYTES))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not JSON: {error}") from error
    if not isinstance(config, dict):
        raise ConfigError(f"{path} is not a JSON object.")
    return config


def _read(path: Path, limit: int) -> str:
    try:
        if path.stat().st_size > limit:
            raise ConfigError(f"{path} is larger than {limit} bytes.")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error


def _from_config(value: Any, path: Path) -> dict[str, tuple[str, str]]:
    """`chat_template` is a text, or a list of {"name", "template"}."""
    if value is None:
        return {}
    if isinstance(value, str):
        return {"default": (value, str(path))}
    entries = [{"name": name, "template": text} for name, text in value.items()] if isinstance(value, dict) else value
    sources = {}
    for entry in entries if isinstance(entries, list) else [None]:
        name, text = (entry.get("name"), entry.get("template")) if isinstance(entry, dict) else (None, None)
        if not isinstance(name, str) or not isinstance(text, str):
            raise ConfigError(f"chat_template in {path} is neither a text nor a list of named templates.")
        sources[name] = (text, f"{path} ({name})")
    return sources


def _token(value: Any) -> str | None:
    """A token is a text or an object that holds it as `content`."""
    content = value.get("content") if isinstance(value, dict) else value
    return content if isinstance(content, str) else None


def _variables(turn: Turn) -> Json:
    unknown = sorted(turn.kwargs.keys() - ALLOWED_KWARGS)
    if unknown:
        raise BadRequest(
            f"chat_template_kwargs.{unknown[0]} may not be set. Known: {', '.join(sorted(ALLOWED_KWARGS))}.",
            param="chat_template_kwargs",
        )
    names: Json = {
        **turn.kwargs,
        "messages": list(turn.messages),
        "tools": list(turn.tools) or None,
        "documents": list(turn.documents) or None,
        "add_generation_prompt": turn.add_generation_prompt,
        "raise_exception": _refuse,
        "strftime_now": _clock(turn.now),
    }
    if turn.enable_thinking is not None:
        names["enable_thinking"] = turn.enable_thinking
    return names


def _refuse(message: object) -> None:
    raise Refused(str(message))


def _clock(now: datetime) -> Callable[[str], str]:
    def strftime_now(form: str) -> str:
        return now.strftime(form)

    return strftime_now


def _without_end(text: str, messages: Sequence[Json]) -> str:
    """Cut behind the last message's content, so that the model goes on with it; its trailing blanks are kept if the template
    kept them."""
    content = messages[-1].get("content") if messages else None
    if not isinstance(content, str) or not content.strip() or (at := text.rfind(content.strip())) < 0:
        raise BadRequest("The last message has no text that the model could go on with.", param="messages")
    whole = content.lstrip()
    return text[: at + len(whole if text.startswith(whole, at) else content.strip())]
