"""What the admin API takes: one structure for each body, and the checks of single fields. Pure.

Unknown fields are an error. Text may not hold control characters: it is shown in tables, logs and spreadsheets.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from ipaddress import ip_network
from typing import Annotated, Any, TypeVar
from zoneinfo import ZoneInfo

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from naru.errors import BadRequest
from naru.storage.records import LimitRecord

T = TypeVar("T")

TEXT = re.compile(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]*")
MAX_NAME, MAX_TEXT = 100, 500
MAX_ITEMS = 200
SPAN = re.compile(r"([0-9]{1,6})([smhdw])", re.ASCII)
SPAN_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
#: A hundred years: past that nobody means it.
MAX_SPAN_S = 36_525 * 86_400
DATE = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})", re.ASCII)

Count = Annotated[int, Meta(ge=1, le=1_000_000_000_000)]


class Limits(Struct, frozen=True, forbid_unknown_fields=True):
    """null lifts a limit."""

    rpm: Count | None = None
    tpm: Count | None = None
    concurrency: Count | None = None

    def record(self) -> LimitRecord:
        return LimitRecord(self.rpm, self.tpm, self.concurrency)


class NewKey(Struct, forbid_unknown_fields=True):
    """POST /admin/keys. `expires` is a span such as 30d; `models` limits the key to these names, `addresses` to these networks.
    `account` names one that is there, by id or name; `team` is made where it is new. `budget` is as in 5usd/month."""

    name: str
    role: str = "caller"
    expires: str | None = None
    models: list[str] = []
    team: str | None = None
    account: str | None = None
    addresses: list[str] = []
    limits: Limits = Limits()
    metadata: dict[str, str] = {}
    budget: str | None = None


class KeyChange(Struct, forbid_unknown_fields=True):
    """PATCH /admin/keys/{key}: what is not sent stays. `expires` null: never. `account` null: none; `team` is made where it is
    new."""

    name: str | UnsetType = UNSET
    expires: str | UnsetType | None = UNSET
    models: list[str] | UnsetType = UNSET
    account: str | UnsetType | None = UNSET
    team: str | UnsetType = UNSET
    addresses: list[str] | UnsetType = UNSET
    limits: Limits | UnsetType = UNSET
    metadata: dict[str, str] | UnsetType = UNSET


class Rotation(Struct, forbid_unknown_fields=True):
    """For how long the old secret still works."""

    overlap: str = "24h"


class NewAccount(Struct, forbid_unknown_fields=True):
    name: str
    kind: str = "team"
    parent: str | None = None
    time_zone: str = "UTC"
    limits: Limits = Limits()
    metadata: dict[str, str] = {}


class AccountChange(Struct, forbid_unknown_fields=True):
    name: str | UnsetType = UNSET
    parent: str | UnsetType | None = UNSET
    time_zone: str | UnsetType = UNSET
    limits: Limits | UnsetType = UNSET
    metadata: dict[str, str] | UnsetType = UNSET


class NewBudget(Struct, forbid_unknown_fields=True):
    """`owner` is an account or a key, by id or name. `alerts` are parts of the amount."""

    owner: str
    amount: str
    window: str = ""
    time_zone: str | None = None
    mode: str = "balanced"
    alerts: tuple[float, ...] = (0.8, 0.9, 1.0)


class BudgetChange(Struct, forbid_unknown_fields=True):
    amount: str | UnsetType = UNSET
    alerts: tuple[float, ...] | UnsetType = UNSET


class NewCredit(Struct, forbid_unknown_fields=True):
    """`kind`: topup puts in, refund takes out, adjust does as the amount's sign says. A `reference` counts once."""

    amount: str
    kind: str = "topup"
    reference: str | None = None
    note: str = ""


class NewCode(Struct, forbid_unknown_fields=True):
    amount: str
    expires: str | None = None
    note: str = ""


class RedemptionFor(Struct, forbid_unknown_fields=True):
    """POST /admin/codes/redeem. `owner` is an account or a key, by id or name."""

    code: str
    owner: str


class Redemption(Struct, forbid_unknown_fields=True):
    """POST /v1/credits/redeem. `to`: key (the caller's own) or account (that the key belongs to)."""

    code: str
    to: str = "key"


def read_body(body: bytes, kind: type[T]) -> T:
    """Raises BadRequest, with the nearest known field."""
    try:
        return msgspec.json.decode(body or b"{}", type=kind)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        fields = getattr(kind, "__struct_fields__", ())
        said = tidy(str(error), 300)
        found = re.search(r"unknown field `([^`]*)`", said)
        near = difflib.get_close_matches(found[1], fields, 1) if found is not None else []
        hint = f" Did you mean {near[0]}?" if near else ""
        raise BadRequest(f"The body does not fit: {said}.{hint} Its fields are: {', '.join(fields)}.") from None


def tidy(text: str, size: int = 100) -> str:
    """For messages: at most `size` characters, none of them a control character."""
    return "".join(each if TEXT.fullmatch(each) else "?" for each in text[:size])


def check_name(text: str, what: str, param: str = "name") -> str:
    if not 1 <= len(text) <= MAX_NAME or not TEXT.fullmatch(text) or text != text.strip() or "/" in text:
        raise BadRequest(
            f"{what} is 1 to {MAX_NAME} printable characters, without a slash and without a space at either end.",
            param=param,
        )
    return text


def check_text(text: str, param: str, size: int = MAX_TEXT) -> str:
    if len(text) > size or not TEXT.fullmatch(text):
        raise BadRequest(f"{param} is at most {size} printable characters on one line.", param=param)
    return text


def check_texts(texts: Iterable[str], param: str) -> tuple[str, ...]:
    found = tuple(texts)
    if len(found) > MAX_ITEMS or not all(found):
        raise BadRequest(f"{param} has at most {MAX_ITEMS} entries, none of them empty.", param=param)
    return tuple(check_text(text, param) for text in found)


def check_metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    if len(metadata) > MAX_ITEMS:
        raise BadRequest(f"metadata has at most {MAX_ITEMS} entries.", param="metadata")
    return {check_text(name, "metadata"): check_text(value, "metadata") for name, value in metadata.items()}


def check_networks(texts: Iterable[str]) -> tuple[str, ...]:
    """Addresses and networks in their usual form."""
    found = []
    for text in check_texts(texts, "addresses"):
        try:
            found.append(str(ip_network(text)))
        except ValueError as error:
            raise BadRequest(
                f"{tidy(text)!r} is no network: {tidy(str(error))}. Write an address or a network such as 10.0.0.0/8.",
                param="addresses",
            ) from None
    return tuple(found)


def check_alerts(parts: Iterable[float]) -> tuple[int, ...]:
    """Parts of one to thousandths, ascending."""
    found = list(parts)
    if len(found) > 20 or not all(0 < part <= 10 for part in found):
        raise BadRequest("alerts are at most 20 parts of the amount, such as [0.8, 0.9, 1.0].", param="alerts")
    return tuple(sorted({max(1, round(part * 1000)) for part in found}))


def span_s(text: str, param: str) -> int:
    """Seconds of a span such as 30d."""
    match = SPAN.fullmatch(text.strip(" "))
    if match is None:
        raise BadRequest(
            f"{tidy(text, 40)!r} is not a span of time. Write a number and s, m, h, d or w, as in 30d.", param=param
        )
    span = int(match[1]) * SPAN_S[match[2]]
    if span > MAX_SPAN_S:
        raise BadRequest(f"{text.strip()} is more than a hundred years. Leave it out for no end.", param=param)
    return span


def moment(text: str, now: float, param: str, zone: str = "UTC") -> float:
    """Unix seconds of a span before now (7d) or of the beginning of a date (2026-11-21) in `zone`."""
    match = DATE.fullmatch(text.strip(" "))
    if match is None:
        return now - span_s(text, param)
    try:
        return datetime(int(match[1]), int(match[2]), int(match[3]), tzinfo=ZoneInfo(zone)).timestamp()
    except (ValueError, OverflowError):
        raise BadRequest(f"{text.strip()!r} is not a date.", param=param) from None


def whole_number(text: str, param: str, least: int, most: int) -> int:
    if not re.fullmatch(r"[0-9]{1,15}", text, re.ASCII) or not least <= int(text) <= most:
        raise BadRequest(f"{param} is a whole number from {least} to {most}.", param=param)
    return int(text)


def chosen(value: str, known: Iterable[str], param: str) -> str:
    options = tuple(known)
    if value not in options:
        raise BadRequest(f"{param} is one of {', '.join(options)}, not {tidy(value, 40)!r}.", param=param)
    return value


def changed(change: Struct, **made: Any) -> dict[str, Any]:
    """The fields that were sent, with `made` in the place of what was checked or turned into something else."""
    return {name: made.get(name, value) for name, value in msgspec.structs.asdict(change).items() if value is not UNSET}
