"""/admin/*: JSON over HTTP for the command line, the console and scripts. Every route needs an admin key, except on the private
Unix socket of the same NARU_HOME, whose file mode is the credential."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from naru import keys
from naru.control.service import Control, NewKey
from naru.errors import BadRequest
from naru.gateway.auth import Auth
from naru.metrics import Metrics
from naru.routing.table import Table
from naru.storage.records import KeyRecord

Handler = Callable[[Request], Awaitable[object]]
#: Set in the ASGI scope by the server of the control socket, which no network client can reach.
LOCAL = "naru.local"


def json_response(value: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")


class AdminApi:
    def __init__(
        self, control: Control, auth: Auth, table: Callable[[], Table], metrics: Callable[[], Metrics]
    ) -> None:
        self.control = control
        self.auth = auth
        self.table = table
        self.metrics = metrics

    def routes(self) -> list[Route]:
        return [
            self._route("/admin/keys", self.list_keys, "GET"),
            self._route("/admin/keys", self.create_key, "POST"),
            self._route("/admin/keys/{key}", self.show_key, "GET"),
            self._route("/admin/keys/{key}", self.revoke_key, "DELETE"),
            self._route("/admin/usage", self.usage, "GET"),
            self._route("/admin/requests", self.requests, "GET"),
            self._route("/admin/deployments", self.deployments, "GET"),
        ]

    def _route(self, path: str, handler: Handler, method: str) -> Route:
        async def guarded(request: Request) -> Response:
            if not request.scope.get(LOCAL):
                self.auth.identify(request.scope["headers"], role="admin")
            return json_response(await handler(request))

        return Route(path, guarded, methods=[method])

    async def list_keys(self, request: Request) -> object:
        return {"data": [self._shown(record) for record in self.control.list_keys()]}

    async def create_key(self, request: Request) -> object:
        try:
            new = msgspec.json.decode(await request.body(), type=NewKey)
        except msgspec.MsgspecError as error:
            raise BadRequest(
                f'This does not describe a key: {error}. Send {{"name": …}} and what else it should have.'
            ) from None
        record, text = await self.control.create_key(new)
        return {"key": text, **self._shown(record)}

    async def show_key(self, request: Request) -> object:
        return self._shown(self.control.find_key(request.path_params["key"]))

    async def revoke_key(self, request: Request) -> object:
        return self._shown(await self.control.revoke_key(request.path_params["key"]))

    async def usage(self, request: Request) -> object:
        query = request.query_params
        rows = await self.control.usage(query.get("by", "model"), query.get("since", "30d"), query.get("until", ""))
        return {"data": rows}

    async def requests(self, request: Request) -> object:
        query = request.query_params
        limit = query.get("limit", "50")
        if not limit.isdecimal():
            raise BadRequest("limit is a whole number.", param="limit")
        return {"data": await self.control.requests(query.get("since", "30d"), int(limit))}

    async def deployments(self, request: Request) -> object:
        failed = self.metrics().attempts_failed
        return {
            "data": [
                {
                    "id": deployment.id,
                    "route": route.name,
                    "provider": deployment.provider,
                    "model": deployment.model,
                    "region": deployment.region,
                    "is_priced": deployment.price is not None,
                    "failures": {kind: count for (name, kind), count in failed.items() if name == deployment.id},
                }
                for route in self.table().routes.values()
                for deployment in route.deployments
            ]
        }

    def _shown(self, record: KeyRecord) -> dict[str, Any]:
        return {
            "id": record.id,
            "name": record.name,
            "role": record.role,
            "prefix": f"{keys.PREFIXES[record.role]}{record.id}-…",
            "state": record.state(self.control.clock.now()),
            "created_at": record.created_at,
            "expires_at": record.expires_at,
            "revoked_at": record.revoked_at,
            "models": record.models,
            "account": record.account,
        }
