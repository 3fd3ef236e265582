"""What was used and what it cost: sums, single requests, the books as a whole."""

from __future__ import annotations

import csv
import hmac
import io
from collections.abc import AsyncIterator, Mapping
from typing import Any

import msgspec
from msgspec import Struct

from naru.control.asks import chosen, moment, whole_number
from naru.control.desk import Desk
from naru.control.money import usd
from naru.errors import BadRequest, NotFound
from naru.ledger.treasury import of
from naru.ledger.windows import check_zone
from naru.storage.records import AuditRecord, LedgerEntry, Only, UsageRow

GROUPINGS = ("key", "model", "deployment", "day")
OUTCOMES = ("completed", "partial", "cancelled", "failed", "refused", "recovered")
FORMATS = ("csv", "json")
MAX_PAGE = 1000
EXPORT_PAGE = 500
#: What a spreadsheet would run (OWASP, CSV injection).
FORMULA = ("=", "+", "-", "@", "\t", "\r")
#: In an export, what a spreadsheet can show; `content` never leaves this way.
EXPORTED = tuple(name for name in LedgerEntry.__struct_fields__ if name not in ("content", "tried", "plan"))

Query = Mapping[str, str]


class Span(Struct, frozen=True):
    """[since, until) in Unix seconds, and the time zone of its days."""

    since: float
    until: float
    zone: str


class Reports:
    def __init__(self, desk: Desk) -> None:
        self.desk = desk

    async def usage(self, query: Query, keys: tuple[str, ...] | None = None) -> list[UsageRow]:
        """Grouped by one of GROUPINGS; of these keys only, or of those that the query names."""
        by = chosen(query.get("by", "model"), GROUPINGS, "by")
        span = self.span(query)
        return await of(self.desk.store.usage(by, span.since, span.until, keys or self._keys(query), span.zone))

    async def requests(self, query: Query) -> tuple[list[LedgerEntry], str | None]:
        """A page, newest first, and the cursor of the next one."""
        span, limit = self.span(query), page_size(query)
        cursor = query.get("cursor") or None
        if cursor is not None and await of(self.desk.store.entry(cursor)) is None:
            raise bad_cursor()
        entries = await of(self.desk.store.entries(span.since, span.until, limit + 1, cursor, self._only(query)))
        return entries[:limit], entries[limit - 1].request_id if len(entries) > limit else None

    async def request(self, request_id: str) -> LedgerEntry:
        found = await of(self.desk.store.entry(request_id))
        if found is None:
            raise NotFound(
                f"The ledger has no request {request_id[:100]!r}. It is written within moments of a request's end.",
                code="request_not_found",
            )
        return found

    async def audit(self, query: Query) -> tuple[list[AuditRecord], str | None]:
        limit, cursor = page_size(query), query.get("cursor") or None
        before = None if cursor is None else whole_number(cursor, "cursor", 1, 10**15 - 1)
        records = await of(self.desk.store.audit(limit + 1, before))
        return records[:limit], str(records[limit - 1].id) if len(records) > limit else None

    async def verify(self) -> list[str]:
        return await of(self.desk.store.problems())

    async def export(self, query: Query) -> AsyncIterator[bytes]:
        """All entries of a span, newest first, in pieces. Raises before the first of them."""
        form, span, only = chosen(query.get("format", "csv"), FORMATS, "format"), self.span(query), self._only(query)
        return self._pieces(form, span, only)

    async def _pieces(self, form: str, span: Span, only: Only) -> AsyncIterator[bytes]:
        cursor, is_first = None, True
        yield b"[" if form == "json" else csv_lines([EXPORTED])
        while page := await of(self.desk.store.entries(span.since, span.until, EXPORT_PAGE, cursor, only)):
            cursor = page[-1].request_id
            if form == "csv":
                yield csv_lines([csv_row(entry) for entry in page])
            else:
                joined = b",\n".join(msgspec.json.encode(shown_entry(entry, False)) for entry in page)
                yield joined if is_first else b",\n" + joined
            is_first = False
        if form == "json":
            yield b"]\n"

    def span(self, query: Query) -> Span:
        now = self.desk.clock.now()
        zone = check_zone(query.get("tz", "UTC"))
        since = moment(query.get("since", "30d"), now, "since", zone)
        until = moment(query["until"], now, "until", zone) if query.get("until") else now + 1
        if until <= since:
            raise BadRequest("until comes after since.", param="until")
        return Span(since, until, zone)

    def _keys(self, query: Query) -> tuple[str, ...] | None:
        """The keys that `account`, `team` or `key` name; None: all."""
        account = query.get("account") or query.get("team")
        if account:
            found = self.desk.keys_below(self.desk.account(account).id)
        elif query.get("key"):
            found = self.desk.keys_of(self.desk.key(query["key"]).owner)
        else:
            return None
        return found

    def _only(self, query: Query) -> Only:
        outcome = query.get("outcome")
        user = query.get("user")
        return Only(
            self._keys(query),
            query.get("model"),
            chosen(outcome, OUTCOMES, "outcome") if outcome else None,
            self.user_hash(user) if user else None,
        )

    def user_hash(self, user: str) -> str:
        """As gateway.call has it: callers' names for their users are kept as a digest only."""
        return hmac.digest(self.desk.auth.pepper, b"user" + msgspec.json.encode(user), "sha256")[:12].hex()


def page_size(query: Query) -> int:
    return whole_number(query.get("limit", "50"), "limit", 1, MAX_PAGE)


def bad_cursor() -> BadRequest:
    return BadRequest("That is no cursor. Send the `next` of the page before.", param="cursor")


def shown_entry(entry: LedgerEntry, with_content: bool) -> dict[str, Any]:
    shown: dict[str, Any] = msgspec.to_builtins(entry)
    if not with_content:
        del shown["content"]
    # Where nothing had to be decided the record keeps no plan of its own.
    alone = {"attempts": [entry.deployment] if entry.deployment else [], "refused": []}
    shown["plan"] = msgspec.json.decode(entry.plan) if entry.plan else alone
    return shown | {"cost_usd": usd(entry.cost_nano)}


def csv_row(entry: LedgerEntry) -> list[str]:
    return [_cell(getattr(entry, name)) for name in EXPORTED]


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        value = " ".join(value)
    text = str(value)
    return f"'{text}" if isinstance(value, str) and text.startswith(FORMULA) else text


def csv_lines(rows: list[Any]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()
