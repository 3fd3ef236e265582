"""Everything on the data plane that is not hot: model lists, the caller's own usage, explain, health, metrics, 404s."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route as WebRoute

from naru.control.api import body_of, json_response
from naru.control.asks import Redemption, read_body
from naru.control.credits import shown_credit
from naru.control.engines import Engines
from naru.control.explain import explain
from naru.control.exposition import Exposition
from naru.control.listing import GEMINI_METHODS, LISTS, MODELS, gemini_model, gemini_models
from naru.control.service import Control
from naru.errors import BadRequest, NotFound
from naru.gateway.auth import allow_model
from naru.gateway.serve import Gateway
from naru.protocol.anthropic_messages import ANTHROPIC_MESSAGES
from naru.protocol.gemini import counting as gemini_counting
from naru.protocol.gemini.counting import read_count
from naru.protocol.openai_responses import OPENAI_RESPONSES
from naru.protocol.openai_responses import counting as responses_counting
from naru.routing.table import Route
from naru.storage.records import KeyRecord


class SideRoutes:
    """`not_ready` returns the reason why this process should get no traffic, or None."""

    def __init__(
        self, gateway: Gateway, control: Control, engines: Engines, not_ready: Callable[[], str | None]
    ) -> None:
        self.gateway = gateway
        self.control = control
        self.engines = engines
        self.not_ready = not_ready

    def routes(self) -> list[WebRoute]:
        return [
            WebRoute("/", self.front, methods=["GET"]),
            WebRoute("/v1/models", self.models, methods=["GET"]),
            WebRoute("/v1/models/{model:path}:countTokens", self.count_gemini_tokens, methods=["POST"]),
            WebRoute("/v1/models/{model:path}", self.model, methods=["GET"]),
            WebRoute("/v1/models/{model:path}", self.no_method, methods=["POST"]),
            WebRoute("/v1beta/models", self.gemini_models, methods=["GET"]),
            WebRoute("/v1beta/models/{model:path}:countTokens", self.count_gemini_tokens, methods=["POST"]),
            WebRoute("/v1beta/models/{model:path}", self.gemini_model, methods=["GET"]),
            WebRoute("/v1beta/models/{model:path}", self.no_method, methods=["POST"]),
            WebRoute("/v1/messages/count_tokens", self.count_tokens, methods=["POST"]),
            WebRoute("/v1/responses/input_tokens", self.count_responses_tokens, methods=["POST"]),
            WebRoute("/v1/responses/compact", self.compact, methods=["POST"]),
            WebRoute("/v1/responses/{id}", self.stored_response, methods=["GET", "DELETE"]),
            WebRoute("/v1/responses/{id}/cancel", self.stored_response, methods=["POST"]),
            WebRoute("/v1/responses/{id}/input_items", self.stored_response, methods=["GET"]),
            WebRoute("/v1/usage", self.usage, methods=["GET"]),
            WebRoute("/v1/credits/redeem", self.redeem, methods=["POST"]),
            WebRoute("/v1/explain", self.explain, methods=["POST"]),
            WebRoute("/livez", self.livez, methods=["GET"]),
            WebRoute("/readyz", self.readyz, methods=["GET"]),
            WebRoute("/healthz", self.readyz, methods=["GET"]),
            WebRoute("/metrics", self.metrics, methods=["GET"]),
        ]

    async def front(self, request: Request) -> Response:
        """What probes of an address get: Claude Code and others look whether anything answers before they begin."""
        return json_response({"name": "naru", "openai": "/v1", "anthropic": "/", "gemini": "/", "ready": "/readyz"})

    async def models(self, request: Request) -> Response:
        routes = self._routes(self._key(request))
        return json_response(LISTS[family_of_caller(request)](routes))

    async def gemini_models(self, request: Request) -> Response:
        return json_response(gemini_models(self._routes(self._key(request))))

    def _routes(self, key: KeyRecord) -> list[Route]:
        return [r for r in self.gateway.table.routes.values() if not key.models or r.name in key.models]

    async def count_tokens(self, request: Request) -> Response:
        """Anthropic's token count, estimated here; nothing is sent and nothing is billed."""
        key = self._key(request)
        envelope = ANTHROPIC_MESSAGES.read(await request.body(), request.url.path)
        allow_model(key, self.gateway.table.resolve(envelope.model).name)
        return Response(ANTHROPIC_MESSAGES.count_tokens(envelope), media_type="application/json")

    async def count_gemini_tokens(self, request: Request) -> Response:
        key = self._key(request)
        envelope = read_count(await request.body(), request.path_params["model"])
        allow_model(key, self.gateway.table.resolve(envelope.model).name)
        return Response(gemini_counting.count_tokens(envelope), media_type="application/json")

    async def count_responses_tokens(self, request: Request) -> Response:
        key = self._key(request)
        envelope = OPENAI_RESPONSES.read(await request.body())
        allow_model(key, self.gateway.table.resolve(envelope.model).name)
        return Response(responses_counting.count_tokens(envelope), media_type="application/json")

    async def stored_response(self, request: Request) -> Response:
        """Every way to ask for a response by its id."""
        self._key(request)
        raise NotFound(
            "Responses are not stored here (each says `store: false`), so none can be fetched, continued or deleted by "
            "its id. Keep what you were answered, and send the whole input with each request.",
            code="response_not_found",
        )

    async def compact(self, request: Request) -> Response:
        self._key(request)
        raise NotFound(
            "Conversations are not compacted here. Ask a model for a summary, or leave out the oldest items.",
            code="unsupported_endpoint",
        )

    async def model(self, request: Request) -> Response:
        name = request.path_params["model"]
        return json_response(MODELS[family_of_caller(request)](self._route(request, name), name))

    async def gemini_model(self, request: Request) -> Response:
        name = request.path_params["model"]
        return json_response(gemini_model(self._route(request, name), name))

    async def no_method(self, request: Request) -> Response:
        """A POST to a model with a method of Google's that is none of those answered."""
        self._key(request)
        raise NotFound(
            f"There is nothing at {request.url.path[:200]!r}. Of a model one can ask here: {', '.join(GEMINI_METHODS)}. "
            "Embeddings are at /v1/embeddings.",
            code="unknown_url",
        )

    def _route(self, request: Request, name: str) -> Route:
        key = self._key(request)
        route = self.gateway.table.resolve(name)
        allow_model(key, route.name)
        return route

    async def usage(self, request: Request) -> Response:
        """The caller's own: also of the secrets that its key had before it was rotated."""
        key = self._key(request)
        query = {name: value for name, value in request.query_params.items() if name in ("by", "since", "until", "tz")}
        rows = await self.control.reports.usage(query, self.control.desk.keys_of(key.owner))
        return json_response({"object": "list", "data": rows, **await self.control.own(key)})

    async def redeem(self, request: Request) -> Response:
        key = self._key(request)
        credit = await self.control.credits.redeem_by(key, read_body(await body_of(request), Redemption))
        is_own = credit.owner == key.owner
        balance = await self.control.credits.balance(credit.owner) if is_own else None
        return json_response({**shown_credit(credit), "owner": credit.owner, "balance": balance})

    async def explain(self, request: Request) -> Response:
        key = None if request.scope.get("naru.local") else self._key(request)
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
        found = explain(dialect, path, msgspec.json.encode(fields), self.gateway, request.headers.raw, key)
        return json_response(found)

    async def livez(self, request: Request) -> Response:
        return json_response({"status": "ok"})

    async def readyz(self, request: Request) -> Response:
        reason = self.not_ready()
        return json_response({"status": "ok"} if reason is None else {"status": reason}, 200 if reason is None else 503)

    async def metrics(self, request: Request) -> Response:
        return Response(generate_latest(Exposition(self.gateway, self.engines)), media_type=CONTENT_TYPE_LATEST)

    def _key(self, request: Request) -> KeyRecord:
        peer = request.client.host if request.client is not None else ""
        return self.gateway.auth.identify(request.scope["headers"], address=peer)


def family_of_caller(request: Request) -> str:
    """Whose clients the caller's is, on paths that several have: anthropic | gemini | openai.

    Google's ask at /v1 as well as at /v1beta; they and Anthropic's say who they are in a header of their own.
    """
    if "anthropic-version" in request.headers:
        return "anthropic"
    if "x-goog-api-key" in request.headers or "x-goog-api-client" in request.headers:
        return "gemini"
    return "openai"


def unknown_path(path: str, known: list[str]) -> NotFound:
    return NotFound(
        f"There is nothing at {path[:200]!r}. The endpoints here are: {', '.join(known)}.", code="unknown_url"
    )
