"""Everything on the data plane that is not hot: model lists, the caller's own usage, explain, health, metrics, 404s."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route as WebRoute

from naru.control.api import json_response
from naru.control.explain import explain
from naru.control.exposition import Exposition
from naru.control.service import Control
from naru.errors import BadRequest, NotFound
from naru.gateway.auth import allow_model
from naru.gateway.serve import Gateway
from naru.protocol.anthropic_messages import ANTHROPIC_MESSAGES
from naru.routing.table import Route
from naru.storage.records import KeyRecord


class SideRoutes:
    """`not_ready` returns the reason why this process should get no traffic, or None."""

    def __init__(self, gateway: Gateway, control: Control, not_ready: Callable[[], str | None]) -> None:
        self.gateway = gateway
        self.control = control
        self.not_ready = not_ready

    def routes(self) -> list[WebRoute]:
        return [
            WebRoute("/v1/models", self.models, methods=["GET"]),
            WebRoute("/v1/models/{model:path}", self.model, methods=["GET"]),
            WebRoute("/v1beta/models", self.gemini_models, methods=["GET"]),
            WebRoute("/v1/messages/count_tokens", self.count_tokens, methods=["POST"]),
            WebRoute("/v1/usage", self.usage, methods=["GET"]),
            WebRoute("/v1/explain", self.explain, methods=["POST"]),
            WebRoute("/livez", self.livez, methods=["GET"]),
            WebRoute("/readyz", self.readyz, methods=["GET"]),
            WebRoute("/healthz", self.readyz, methods=["GET"]),
            WebRoute("/metrics", self.metrics, methods=["GET"]),
        ]

    async def models(self, request: Request) -> Response:
        key = self._key(request)
        models = [_shown(route) for route in self._routes(key)]
        # One answer for the clients of both protocols: `object` is OpenAI's, the rest of the page Anthropic's.
        first, last = (models[0]["id"], models[-1]["id"]) if models else (None, None)
        return json_response({"object": "list", "data": models, "has_more": False, "first_id": first, "last_id": last})

    async def gemini_models(self, request: Request) -> Response:
        models = [
            {
                "name": f"models/{route.name}",
                "displayName": route.name,
                "supportedGenerationMethods": ["generateContent", "streamGenerateContent"],
            }
            for route in self._routes(self._key(request))
        ]
        return json_response({"models": models})

    def _routes(self, key: KeyRecord) -> list[Route]:
        return [r for r in self.gateway.table.routes.values() if not key.models or r.name in key.models]

    async def count_tokens(self, request: Request) -> Response:
        """Anthropic's token count, estimated here; nothing is sent and nothing is billed."""
        key = self._key(request)
        envelope = ANTHROPIC_MESSAGES.read(await request.body(), request.url.path)
        allow_model(key, self.gateway.table.resolve(envelope.model).name)
        return Response(ANTHROPIC_MESSAGES.count_tokens(envelope), media_type="application/json")

    async def model(self, request: Request) -> Response:
        key = self._key(request)
        name = request.path_params["model"]
        route = self.gateway.table.resolve(name)
        allow_model(key, route.name)
        return json_response(_shown(route) | {"id": name})

    async def usage(self, request: Request) -> Response:
        key = self._key(request)
        query = request.query_params
        rows = await self.control.usage(
            query.get("by", "model"), query.get("since", "30d"), query.get("until", ""), key_id=key.id
        )
        return json_response({"object": "list", "data": rows})

    async def explain(self, request: Request) -> Response:
        if not request.scope.get("naru.local"):
            self._key(request)
        body = await request.body()
        try:
            fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
            path = msgspec.json.decode(fields.pop("path", b'"/v1/chat/completions"'), type=str)
        except (msgspec.MsgspecError, RecursionError) as error:
            raise BadRequest(f"Send the request body to explain, with its `path` if it is not chat: {error}.") from None
        dialect = self.gateway.dialects.at(path)
        if dialect is None:
            known = ", ".join(self.gateway.dialects.paths)
            raise BadRequest(f"{path[:100]!r} cannot be explained. Known: {known}.", param="path")
        found = explain(dialect, path, msgspec.json.encode(fields), self.gateway)
        return json_response(found)

    async def livez(self, request: Request) -> Response:
        return json_response({"status": "ok"})

    async def readyz(self, request: Request) -> Response:
        reason = self.not_ready()
        return json_response({"status": "ok"} if reason is None else {"status": reason}, 200 if reason is None else 503)

    async def metrics(self, request: Request) -> Response:
        return Response(generate_latest(Exposition(self.gateway)), media_type=CONTENT_TYPE_LATEST)

    def _key(self, request: Request) -> KeyRecord:
        return self.gateway.auth.identify(request.scope["headers"])


def _shown(route: Route) -> dict[str, Any]:
    deployment = route.deployments[0]
    return {
        "id": route.name,
        "object": "model",
        "created": 0,
        "type": "model",
        "display_name": route.name,
        "created_at": "1970-01-01T00:00:00Z",
        "owned_by": deployment.provider,
        "naru": {
            "deployments": [d.id for d in route.deployments],
            "is_priced": any(d.price is not None for d in route.deployments),
            "max_output_tokens": deployment.max_output,
        },
    }


def unknown_path(path: str, known: list[str]) -> NotFound:
    return NotFound(
        f"There is nothing at {path[:200]!r}. The endpoints here are: {', '.join(known)}.", code="unknown_url"
    )
