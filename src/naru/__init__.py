"""Naru (나루): a self-hosted AI gateway. One key and one OpenAI-compatible endpoint for every model a team uses."""

from importlib.metadata import version

__version__ = version("naru")
