"""The reading of a table of naru.toml into one of config_schema's structures, with errors that help."""

from __future__ import annotations

import difflib
import fractions
import math
import re
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import msgspec
from msgspec import Meta, Struct

from naru.config_schema import Secret
from naru.errors import ConfigError
from naru.ledger.pricing import (
    FREE,
    RATES,
    UNIT_KEYS,
    Price,
    PriceRow,
    Rate,
    UnitRate,
    krw_to_nano,
    make_price,
    rate_of,
    unit_rate,
    usd_to_nano,
)
from naru.protocol.service import OPEN_TIERS, SERVER_TOOLS, USUAL_TIERS

S = TypeVar("S", bound=Struct)
#: Of providers, and of engines, which stand beside them.
PROVIDER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


class Reader:
    """Turns tables into structures. `origin` names the file in errors; `krw_per_usd` converts prices given in won."""

    def __init__(self, origin: str, krw_per_usd: Decimal | None = None) -> None:
        self.origin = origin
        self.krw_per_usd = krw_per_usd

    def error(self, key: str, message: str) -> ConfigError:
        return ConfigError(f"{self.origin}: {key}: {message}")

    def table(self, value: object, key: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise self.error(key, f"expected a table, got {said(value)}")
        return value

    def known(self, given: Iterable[str], names: Iterable[str], key: str) -> None:
        """Raises ConfigError for the first given name that is none of `names`."""
        names = list(names)
        for name in given:
            if name not in names:
                where = f"{key}.{name}" if key else name
                raise self.error(where, f"no such key{nearest(name, names)}. Known here: {', '.join(sorted(names))}")

    def struct(self, cls: type[S], value: object, key: str, **fixed: str) -> S:
        """`fixed` are fields that the table does not set (its own name)."""
        table = self.table(value, key)
        fields = {field.name: field for field in msgspec.structs.fields(cls) if field.name not in fixed}
        self.known(table, fields, key)
        for name, field in fields.items():
            if field.required and name not in table:
                raise self.error(f"{key}.{name}", "is missing")
        read = {name: self.value(fields[name].type, item, f"{key}.{name}") for name, item in table.items()}
        try:
            return cls(**read, **fixed)
        except ValueError as error:  # a struct that checks its own fields
            raise self.error(key, str(error)) from None

    def value(self, kind: Any, value: object, key: str) -> Any:
        """One value as the annotation `kind` wants it."""
        kind = without_none(kind)
        if kind is Price:
            return self.price(value, key)
        if isinstance(kind, type) and issubclass(kind, Struct):
            return self.struct(kind, value, key)
        if get_origin(kind) is tuple:
            return self.items(get_args(kind)[0], value, key)
        if get_origin(kind) is dict:
            inner = get_args(kind)[1]
            return {name: self.value(inner, item, f"{key}.{name}") for name, item in self.table(value, key).items()}
        if kind in TEXTUAL:
            if not isinstance(value, str):
                raise self.error(key, "expected text in quotes")
            return kind(value)
        return self.leaf(kind, value, key)

    def items(self, kind: Any, value: object, key: str) -> tuple[Any, ...]:
        if not isinstance(value, (list, tuple)):
            raise self.error(key, f"expected a list, got {said(value)}")
        return tuple(self.value(kind, item, f"{key}[{index}]") for index, item in enumerate(value))

    def leaf(self, kind: Any, value: object, key: str) -> Any:
        plain, limits = bare(kind)
        if plain is float and isinstance(value, (int, Decimal)) and not isinstance(value, bool):
            value = float(value)
        if plain is Decimal and isinstance(value, int) and not isinstance(value, bool):
            value = Decimal(value)
        fits = value in get_args(plain) if get_origin(plain) is Literal else type(value) is plain
        if isinstance(value, (float, Decimal)) and not math.isfinite(value):
            fits = False  # nan and inf are numbers to TOML
        if not fits or not all(limit(value) for limit in limits):
            hint = nearest(value, get_args(plain)) if isinstance(value, str) and get_origin(plain) is Literal else ""
            raise self.error(key, f"expected {expected(kind)}, got {said(value)}{hint}")
        return value

    def price(self, value: object, key: str) -> Price:
        """`"free"`, or a table of USD (or KRW): per million tokens, per unit of sound or images, or both."""
        if value == "free":
            return FREE
        if not isinstance(value, dict):
            allowed = (
                '"free" or { input = …, output = … } in USD per million tokens, or { per_minute = … } and its like'
            )
            raise self.error(key, f"expected {allowed}, got {said(value)}")
        self.known(value, [*RATES, *UNIT_KEYS, "least", "currency", "tiers", "tools"], key)
        given = [name for name in UNIT_KEYS if name in value]
        if "input" not in value and (not given or any(name in value for name in RATES)):
            raise self.error(
                f"{key}.input",
                "is missing: the price of a million input tokens. What is billed otherwise has one of "
                f"{', '.join(UNIT_KEYS)}",
            )
        currency = value.get("currency", "USD")
        if currency not in ("USD", "KRW"):
            raise self.error(f"{key}.currency", f'expected "USD" or "KRW", got {said(currency)}')
        figures = {
            name: self.nano(value[name], currency, f"{key}.{name}") for name in (*RATES, *given) if name in value
        }
        rates = {name: figures[name] for name in RATES if name in figures}
        rate = rate_of(rates, self.units(value, given, figures, key))
        fx = f"{self.krw_per_usd} KRW/USD" if currency == "KRW" else ""
        tiers = {
            name: self.tier(said_of, currency, f"{key}.tiers.{name}")
            for name, said_of in self.table(value.get("tiers", {}), f"{key}.tiers").items()
        }
        tools = self.table(value.get("tools", {}), f"{key}.tools")
        self.known(tools, SERVER_TOOLS, f"{key}.tools")
        calls = {name: self.nano(money, currency, f"{key}.tools.{name}", 1000) for name, money in tools.items()}
        return make_price((PriceRow(rate=rate),), source="config", currency=currency, fx=fx, tiers=tiers, tools=calls)

    def tier(self, value: object, currency: str, key: str) -> fractions.Fraction | Rate:
        """A part or a multiple of the price (0.5, 2), or rates of its own."""
        name = key.rpartition(".")[2]
        if name != name.lower() or name in USUAL_TIERS or name in OPEN_TIERS:
            raise self.error(
                key, "is what the price itself is for; name another tier, in small letters, such as priority or flex"
            )
        if isinstance(value, dict):
            self.known(value, RATES, key)
            if "input" not in value:
                raise self.error(f"{key}.input", "is missing: the price of a million input tokens in this tier")
            return rate_of({name: self.nano(money, currency, f"{key}.{name}") for name, money in value.items()}, None)
        part = self.leaf(Annotated[Decimal, Meta(gt=0)], value, key)
        return fractions.Fraction(part)

    def units(
        self, value: Mapping[str, object], given: list[str], figures: Mapping[str, int], key: str
    ) -> UnitRate | None:
        """What is billed by the second, the character or the image."""
        if len(given) > 1:
            raise self.error(f"{key}.{given[1]}", f"a price counts one kind of unit, and it has {given[0]} already")
        if not given:
            if "least" in value:
                raise self.error(f"{key}.least", f"needs one of {', '.join(UNIT_KEYS)} beside it")
            return None
        least = value.get("least", 0)
        if not isinstance(least, int) or isinstance(least, bool) or least < 0:
            raise self.error(f"{key}.least", f"expected a whole number of units from 0, got {said(least)}")
        return unit_rate(given[0], figures[given[0]], least)

    def nano(self, value: object, currency: str, key: str, per: int = 1) -> int:
        amount = self.leaf(Decimal, value, key) / per
        try:
            if currency == "USD":
                return usd_to_nano(amount)
            if self.krw_per_usd is None:
                raise self.error(key, "a price in KRW needs ledger.krw_per_usd")
            return krw_to_nano(amount, self.krw_per_usd)
        except ValueError as error:
            raise self.error(key, str(error)) from None


TEXTUAL = (Secret, Path)
NAMES: dict[Any, str] = {
    str: "text in quotes",
    int: "a whole number",
    float: "a number",
    Decimal: "a number",
    bool: "true or false",
}


def nearest(name: str, names: Iterable[str]) -> str:
    """A bracket to put behind a message, with the name most like this one; nothing when none is."""
    close = difflib.get_close_matches(name, list(names), n=1, cutoff=0.5)
    return f" (did you mean {close[0]}?)" if close else ""


def without_none(kind: Any) -> Any:
    if get_origin(kind) in (Union, UnionType):
        return next(part for part in get_args(kind) if part is not type(None))
    return kind


def bare(kind: Any) -> tuple[Any, list[Callable[[Any], bool]]]:
    """An annotation's type, and its limits as tests."""
    if get_origin(kind) is not Annotated:
        return kind, []
    plain, meta = get_args(kind)
    tests: list[Callable[[Any], bool]] = []
    if meta.ge is not None:
        tests.append(lambda value: bool(value >= meta.ge))
    if meta.gt is not None:
        tests.append(lambda value: bool(value > meta.gt))
    if meta.le is not None:
        tests.append(lambda value: bool(value <= meta.le))
    return plain, tests


def expected(kind: Any) -> str:
    """What an annotation allows, in words."""
    plain, _ = bare(kind)
    if get_origin(plain) is Literal:
        return " or ".join(f'"{item}"' for item in get_args(plain))
    words = [NAMES[plain]]
    if get_origin(kind) is Annotated:
        meta = get_args(kind)[1]
        words += [f"above {meta.gt}"] if meta.gt is not None else []
        words += [f"from {meta.ge}"] if meta.ge is not None else []
        words += [f"to {meta.le}"] if meta.le is not None else []
    return " ".join(words)


def said(value: object) -> str:
    """A value as the operator wrote it. Text is shown whole only when it is short: a long one may be a key."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{value}"' if len(value) <= 16 else "a text"
    if isinstance(value, Mapping):
        return "a table"
    if isinstance(value, (list, tuple)):
        return "a list"
    return str(value) if isinstance(value, (int, float, Decimal)) else "something else"
