"""Naru (나루): a self-hosted AI gateway. One key and one OpenAI-compatible endpoint for every model a team uses.

from naru import Naru, AsyncNaru, tool
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from naru.agent.function import tool
    from naru.client.client import AsyncNaru, Naru

__version__ = version("naru")
__all__ = ["AsyncNaru", "Naru", "__version__", "tool"]

#: The SDK needs the OpenAI client, which takes half a second to import and which a server does without.
_LAZY = {"Naru": "naru.client.client", "AsyncNaru": "naru.client.client", "tool": "naru.agent.function"}


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f"module 'naru' has no attribute {name!r}")
    try:
        return getattr(import_module(_LAZY[name]), name)
    except ModuleNotFoundError as error:
        raise ImportError(f"naru.{name} needs other packages: pip install 'naru[agent]' ({error}).") from error
