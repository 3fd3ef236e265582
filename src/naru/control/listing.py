"""Models as each protocol lists them. Routes in, plain values out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from naru.routing.table import Route

#: What Google's clients may ask of a model here.
GEMINI_METHODS = ("generateContent", "streamGenerateContent", "countTokens")
#: The catalogue does not know release dates; Anthropic's documentation has an epoch value stand for that.
UNKNOWN_DAY = "1970-01-01T00:00:00Z"

Listed = dict[str, Any]


def openai_model(route: Route, name: str = "") -> Listed:
    deployment = route.deployments[0]
    return {
        "id": name or route.name,
        "object": "model",
        "created": 0,
        "owned_by": deployment.provider,
        "naru": {
            "deployments": [d.id for d in route.deployments],
            "is_priced": any(d.price is not None for d in route.deployments),
            "max_output_tokens": deployment.max_output,
        },
    }


def openai_models(routes: Sequence[Route]) -> Listed:
    return {"object": "list", "data": [openai_model(route) for route in routes]}


def anthropic_model(route: Route, name: str = "") -> Listed:
    return {
        "type": "model",
        "id": name or route.name,
        "display_name": name or route.name,
        "created_at": UNKNOWN_DAY,
        "lifecycle": "active",
        "max_tokens": route.deployments[0].max_output,
    }


def anthropic_models(routes: Sequence[Route]) -> Listed:
    """One page, whatever `limit` says: nobody has so many models that a second would help."""
    models = [anthropic_model(route) for route in routes]
    first, last = (models[0]["id"], models[-1]["id"]) if models else (None, None)
    return {"data": models, "has_more": False, "first_id": first, "last_id": last}


def gemini_model(route: Route, name: str = "") -> Listed:
    shown: Listed = {
        "name": f"models/{name or route.name}",
        "displayName": name or route.name,
        "supportedGenerationMethods": GEMINI_METHODS,
    }
    limit = route.deployments[0].max_output
    return shown if limit is None else {**shown, "outputTokenLimit": limit}


def gemini_models(routes: Sequence[Route]) -> Listed:
    return {"models": [gemini_model(route) for route in routes]}


#: By whose clients ask (side.family_of_caller).
LISTS: Mapping[str, Callable[[Sequence[Route]], Listed]] = {
    "openai": openai_models,
    "anthropic": anthropic_models,
    "gemini": gemini_models,
}
MODELS: Mapping[str, Callable[[Route, str], Listed]] = {
    "openai": openai_model,
    "anthropic": anthropic_model,
    "gemini": gemini_model,
}
