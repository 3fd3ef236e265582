"""A deterministic upstream without a model: echo, tools, think and json, and faults by query. See docs/sandbox.md."""

from naru.testing.sandbox.behaviour import MODELS, Behaviour, parse_model
from naru.testing.sandbox.server import Sandbox

__all__ = ["MODELS", "Behaviour", "Sandbox", "parse_model"]
