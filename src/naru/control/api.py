"""/admin/*: JSON over HTTP for the command line, the console and scripts.

One table says which role each route needs (`ROUTES`); nothing else decides it. The private Unix socket of the same NARU_HOME
needs no key: its file mode is the credential.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from naru.control.asks import (
    AccountChange,
    BudgetChange,
    KeyChange,
    NewAccount,
    NewBudget,
    NewCode,
    NewCredit,
    NewKey,
    RedemptionFor,
    Rotation,
    chosen,
    read_body,
)
from naru.control.credits import shown_code, shown_credit
from naru.control.desk import LOCAL_ACTOR, Actor
from naru.control.engines import Engines
from naru.control.money import usd
from naru.control.reports import FORMATS, shown_entry
from naru.control.service import Control
from naru.control.shown import shown_account, shown_deployments, shown_key, shown_prices
from naru.errors import BadRequest, Conflict, TooLarge
from naru.gateway.serve import Gateway
from naru.reload import Reloader

T = TypeVar("T")
#: Set in the ASGI scope by the server of the control socket, which no network client can reach.
LOCAL = "naru.local"
#: The largest body that describes something here.
MAX_BODY_BYTES = 64 * 1024


class Ask(Struct, frozen=True):
    """One request to the control plane, its caller known."""

    request: Request
    actor: Actor

    @property
    def query(self) -> dict[str, str]:
        return dict(self.request.query_params)

    def named(self, part: str) -> str:
        return str(self.request.path_params[part])

    async def body(self, kind: type[T]) -> T:
        return read_body(await body_of(self.request), kind)


Handler = Callable[["AdminApi", Ask], Awaitable[object]]


async def body_of(request: Request) -> bytes:
    """Raises TooLarge as soon as it is."""
    found = b""
    async for piece in request.stream():
        found += piece
        if len(found) > MAX_BODY_BYTES:
            raise TooLarge(f"The body is larger than {MAX_BODY_BYTES} bytes. Nothing here takes so much.")
    return found


def json_response(value: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")


class AdminApi:
    def __init__(self, control: Control, gateway: Gateway, reloader: Reloader, engines: Engines) -> None:
        self.control = control
        self.gateway = gateway
        self.reloader = reloader
        self.engines = engines

    def routes(self) -> list[Route]:
        return [self._route(*row) for row in ROUTES]

    def _route(self, method: str, path: str, role: str, handler: Handler) -> Route:
        async def guarded(request: Request) -> Response:
            found = await handler(self, Ask(request, self._actor(request, role)))
            return found if isinstance(found, Response) else json_response(found)

        return Route(path, guarded, methods=[method])

    def _actor(self, request: Request, role: str) -> Actor:
        if request.scope.get(LOCAL):
            return LOCAL_ACTOR
        peer = request.client.host if request.client is not None else ""
        key = self.control.desk.auth.identify(request.scope["headers"], role, peer)
        return Actor(key.id, key.role)

    # --- Keys -------------------------------------------------------------------------------------------------------

    async def list_keys(self, ask: Ask) -> object:
        return {"data": [shown_key(record, self.control.desk) for record in self.control.keys.all()]}

    async def create_key(self, ask: Ask) -> object:
        record, text = await self.control.keys.create(await ask.body(NewKey), ask.actor)
        budgets = await self.control.budgets.shown(record.owner)
        return {"key": text, **shown_key(record, self.control.desk), "budgets": budgets}

    async def show_key(self, ask: Ask) -> object:
        record = self.control.desk.key(ask.named("key"))
        return shown_key(record, self.control.desk) | {
            "budgets": await self.control.budgets.shown(record.owner),
            "credits": await self.control.credits.balance(record.owner),
        }

    async def change_key(self, ask: Ask) -> object:
        record = await self.control.keys.change(ask.named("key"), await ask.body(KeyChange), ask.actor)
        return shown_key(record, self.control.desk)

    async def rotate_key(self, ask: Ask) -> object:
        record, old, text = await self.control.keys.rotate(ask.named("key"), await ask.body(Rotation), ask.actor)
        desk = self.control.desk
        return {"key": text, **shown_key(record, desk), "replaces": shown_key(old, desk)}

    async def revoke_key(self, ask: Ask) -> object:
        return shown_key(await self.control.keys.revoke(ask.named("key"), ask.actor), self.control.desk)

    # --- Accounts, budgets, credits ---------------------------------------------------------------------------------

    async def list_accounts(self, ask: Ask) -> object:
        return {"data": [shown_account(record, self.control.desk) for record in self.control.accounts.all()]}

    async def create_account(self, ask: Ask) -> object:
        record = await self.control.accounts.create(await ask.body(NewAccount), ask.actor)
        return shown_account(record, self.control.desk)

    async def show_account(self, ask: Ask) -> object:
        record = self.control.desk.account(ask.named("account"))
        return shown_account(record, self.control.desk) | {
            "budgets": await self.control.budgets.shown(record.id),
            "credits": await self.control.credits.balance(record.id),
        }

    async def change_account(self, ask: Ask) -> object:
        record = await self.control.accounts.change(ask.named("account"), await ask.body(AccountChange), ask.actor)
        return shown_account(record, self.control.desk)

    async def close_account(self, ask: Ask) -> object:
        is_wished = chosen(ask.query.get("revoke_keys", "false"), ("true", "false"), "revoke_keys") == "true"
        account, revoked = await self.control.keys.close_account(ask.named("account"), is_wished, ask.actor)
        return shown_account(self.control.desk.account(account), self.control.desk) | {"revoked_keys": revoked}

    async def show_credits(self, ask: Ask) -> object:
        desk = self.control.desk
        return await self.control.credits.shown(desk.owner(ask.named("account"))) | {"fx": desk.fx}

    async def add_credit(self, ask: Ask) -> object:
        owner = self.control.desk.owner(ask.named("account"))
        record = await self.control.credits.add(owner, await ask.body(NewCredit), ask.actor)
        balance = await self.control.credits.balance(owner)
        return {**shown_credit(record), "owner": owner, "balance": balance, "shown_at": self.control.desk.fx}

    async def list_credits(self, ask: Ask) -> object:
        return {"data": await self.control.credits.balances(), "fx": self.control.desk.fx}

    async def list_codes(self, ask: Ask) -> object:
        now = self.control.desk.clock.now()
        return {"data": [shown_code(code, now) for code in await self.control.credits.codes()]}

    async def create_code(self, ask: Ask) -> object:
        record, text = await self.control.credits.create_code(await ask.body(NewCode), ask.actor)
        return {"code": text, **shown_code(record, self.control.desk.clock.now())}

    async def redeem_code(self, ask: Ask) -> object:
        wish = await ask.body(RedemptionFor)
        owner = self.control.desk.owner(wish.owner)
        record = await self.control.credits.redeem(wish.code, owner, ask.actor)
        return {**shown_credit(record), "owner": owner, "balance": await self.control.credits.balance(owner)}

    async def list_budgets(self, ask: Ask) -> object:
        owner = ask.query.get("owner")
        budgets = await self.control.budgets.shown(self.control.desk.owner(owner) if owner else None)
        return {"data": budgets, "fx": self.control.desk.fx}

    async def create_budget(self, ask: Ask) -> object:
        return await self._budget((await self.control.budgets.create(await ask.body(NewBudget), ask.actor)).id)

    async def show_budget(self, ask: Ask) -> object:
        return await self._budget(ask.named("budget"))

    async def change_budget(self, ask: Ask) -> object:
        record = await self.control.budgets.change(ask.named("budget"), await ask.body(BudgetChange), ask.actor)
        return await self._budget(record.id)

    async def remove_budget(self, ask: Ask) -> object:
        shown = await self._budget(ask.named("budget"))
        removed = await self.control.budgets.remove(ask.named("budget"), ask.actor)
        return {**shown, "removed_at": removed.removed_at}

    async def _budget(self, budget_id: str) -> dict[str, Any]:
        record = self.control.budgets.one(budget_id)
        return next(each for each in await self.control.budgets.shown(record.owner) if each["id"] == record.id)

    # --- The books --------------------------------------------------------------------------------------------------

    async def usage(self, ask: Ask) -> object:
        rows = await self.control.reports.usage(ask.query)
        return {"data": rows, "tz": self.control.reports.span(ask.query).zone, "fx": self.control.desk.fx}

    async def requests(self, ask: Ask) -> object:
        entries, following = await self.control.reports.requests(ask.query)
        return {"data": [shown_entry(each, False) for each in entries], "next": following, "fx": self.control.desk.fx}

    async def show_request(self, ask: Ask) -> object:
        entry = await self.control.reports.request(ask.named("request"))
        # What people wrote, where the operator keeps it, is not for everybody who may see figures.
        return shown_entry(entry, with_content=ask.actor.role != "viewer")

    async def audit(self, ask: Ask) -> object:
        records, following = await self.control.reports.audit(ask.query)
        data = [{**msgspec.to_builtins(each), "detail": msgspec.json.decode(each.detail)} for each in records]
        return {"data": data, "next": following}

    async def verify(self, ask: Ask) -> object:
        findings = await self.control.reports.verify()
        return {"is_clean": not findings, "findings": findings}

    async def export(self, ask: Ask) -> object:
        form = chosen(ask.query.get("format", "csv"), FORMATS, "format")
        pieces = await self.control.reports.export(ask.query)
        headers = {
            "content-disposition": f'attachment; filename="naru-ledger.{form}"',
            "x-content-type-options": "nosniff",
        }
        media_type = "text/csv; charset=utf-8" if form == "csv" else "application/json"
        return StreamingResponse(pieces, headers=headers, media_type=media_type)

    async def deployments(self, ask: Ask) -> object:
        gateway = self.gateway
        return {"data": shown_deployments(gateway.table, gateway.failover.fleet.known(), gateway.loop.time())}

    async def show_cache(self, ask: Ask) -> object:
        cached = self.gateway.cached
        if cached is None:
            return {"enabled": False}
        figures = msgspec.structs.asdict(cached.cache.figures)
        return {"enabled": True, **figures, "saved_usd": usd(figures["saved_nano"])}

    async def clear_cache(self, ask: Ask) -> object:
        """Every answer that was kept is forgotten."""
        cached = self.gateway.cached
        if cached is None:
            raise Conflict("There is no cache: set cache.enabled in naru.toml.", code="cache_disabled")
        cleared = await cached.cache.clear()
        await self.control.desk.note(ask.actor, "cache.clear", "cache", {"cleared": cleared})
        return {"cleared": cleared}

    async def prices(self, ask: Ask) -> object:
        return {"data": shown_prices(self.gateway.table), "unit": "nano-USD per million tokens"}

    # --- Local engines ----------------------------------------------------------------------------------------------

    async def list_engines(self, ask: Ask) -> object:
        # What an engine prints may name files and people.
        return {"data": self.engines.shown(with_log=ask.actor.role != "viewer")}

    async def restart_engine(self, ask: Ask) -> object:
        return await self._change_engine(ask, "restart", self.engines.restart)

    async def stop_engine(self, ask: Ask) -> object:
        return await self._change_engine(ask, "stop", self.engines.halt)

    async def _change_engine(self, ask: Ask, action: str, change: Callable[[str], None]) -> object:
        """Begun, not done: the answer shows the state that it was found in."""
        name = ask.named("engine")
        found = next((each for each in self.engines.shown(with_log=False) if each["name"] == name), None)
        change(name)
        await self.control.desk.note(ask.actor, f"engine.{action}", name, {"state": found and found["state"]})
        return found

    # --- Configuration ----------------------------------------------------------------------------------------------

    async def reload(self, ask: Ask) -> object:
        """Raises BadRequest with what is wrong; then nothing has changed."""
        outcome = await self.reloader.reload("api")
        said = [str(change) for change in outcome.changes]
        detail = {"result": outcome.result, "changes": said, "error": outcome.error}
        await self.control.desk.note(ask.actor, "config.reload", outcome.source, detail)
        if outcome.error is not None:
            raise BadRequest(f"{outcome.error}. Nothing was changed.", code="config_refused")
        return outcome.shown()

    async def last_reload(self, ask: Ask) -> object:
        last = self.reloader.last
        return {"last": None if last is None else last.shown()}


#: method, path, the least role, who answers. A caller's key is never enough.
ROUTES: tuple[tuple[str, str, str, Handler], ...] = (
    ("GET", "/admin/keys", "viewer", AdminApi.list_keys),
    ("POST", "/admin/keys", "admin", AdminApi.create_key),
    ("GET", "/admin/keys/{key}", "viewer", AdminApi.show_key),
    ("PATCH", "/admin/keys/{key}", "admin", AdminApi.change_key),
    ("DELETE", "/admin/keys/{key}", "admin", AdminApi.revoke_key),
    ("POST", "/admin/keys/{key}/rotate", "admin", AdminApi.rotate_key),
    ("GET", "/admin/accounts", "viewer", AdminApi.list_accounts),
    ("POST", "/admin/accounts", "admin", AdminApi.create_account),
    ("GET", "/admin/accounts/{account}", "viewer", AdminApi.show_account),
    ("PATCH", "/admin/accounts/{account}", "admin", AdminApi.change_account),
    ("DELETE", "/admin/accounts/{account}", "admin", AdminApi.close_account),
    ("GET", "/admin/accounts/{account}/credits", "viewer", AdminApi.show_credits),
    ("POST", "/admin/accounts/{account}/credits", "admin", AdminApi.add_credit),
    ("GET", "/admin/credits", "viewer", AdminApi.list_credits),
    ("GET", "/admin/codes", "viewer", AdminApi.list_codes),
    ("POST", "/admin/codes", "admin", AdminApi.create_code),
    ("POST", "/admin/codes/redeem", "admin", AdminApi.redeem_code),
    ("GET", "/admin/budgets", "viewer", AdminApi.list_budgets),
    ("POST", "/admin/budgets", "admin", AdminApi.create_budget),
    ("GET", "/admin/budgets/{budget}", "viewer", AdminApi.show_budget),
    ("PATCH", "/admin/budgets/{budget}", "admin", AdminApi.change_budget),
    ("DELETE", "/admin/budgets/{budget}", "admin", AdminApi.remove_budget),
    ("GET", "/admin/usage", "viewer", AdminApi.usage),
    ("GET", "/admin/requests", "viewer", AdminApi.requests),
    ("GET", "/admin/requests/{request}", "viewer", AdminApi.show_request),
    ("GET", "/admin/deployments", "viewer", AdminApi.deployments),
    ("GET", "/admin/cache", "viewer", AdminApi.show_cache),
    ("DELETE", "/admin/cache", "admin", AdminApi.clear_cache),
    ("GET", "/admin/prices", "viewer", AdminApi.prices),
    ("GET", "/admin/engines", "viewer", AdminApi.list_engines),
    ("POST", "/admin/engines/{engine}/restart", "admin", AdminApi.restart_engine),
    ("POST", "/admin/engines/{engine}/stop", "admin", AdminApi.stop_engine),
    ("POST", "/admin/config/reload", "admin", AdminApi.reload),
    ("GET", "/admin/config/reload", "viewer", AdminApi.last_reload),
    ("GET", "/admin/audit", "viewer", AdminApi.audit),
    ("GET", "/admin/ledger/verify", "viewer", AdminApi.verify),
    ("GET", "/admin/ledger/export", "viewer", AdminApi.export),
)
