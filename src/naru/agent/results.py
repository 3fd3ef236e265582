"""What a tool returned, as the model reads it."""

from __future__ import annotations

import msgspec
from pydantic_core import to_json

from naru.agent.tool import ToolError

#: Most providers refuse an empty text, and "null" reads like a failure.
NOTHING = "Done. There is no result to show."


def to_text(result: object) -> str:
    """Text as it is; anything else as JSON, in one line and with its letters unescaped (a Hangul escape is six times its
    letter in tokens). Models, dataclasses, msgspec Structs, sets, dates, Decimals and numpy arrays are known. Raises ToolError
    for bytes, for what has no JSON, and for what contains itself."""
    if result is None:
        return NOTHING
    if isinstance(result, str):
        return result.encode("utf-8", "replace").decode() if _has_surrogates(result) else str(result)
    if isinstance(result, bytes | bytearray | memoryview):
        raise ToolError(
            f"The tool returned {len(result)} raw bytes, which is no text. Let it return text, or decode them."
        )
    try:
        return to_json(result, inf_nan_mode="strings", fallback=_other).decode()
    except (ValueError, TypeError, RecursionError) as error:
        raise ToolError(
            f"The tool returned a {type(result).__name__} that cannot be written as JSON: {error}"
        ) from error


def _has_surrogates(text: str) -> bool:
    """Half a pair, from a text that was cut or badly decoded: it could not be sent."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def _other(value: object) -> object:
    """What pydantic has no JSON for."""
    if isinstance(value, msgspec.Struct):
        return msgspec.to_builtins(value)
    as_list = getattr(value, "tolist", None)  # numpy's arrays and scalars, torch's tensors
    if callable(as_list):
        return as_list()
    raise TypeError(f"a {type(value).__name__} has no JSON form; return a dict, a dataclass or text.")
