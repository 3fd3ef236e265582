"""The catalogue's files: their shape, and how a row of one becomes a Price.

Money is written as text ("0.0625"), in units per million tokens of the file's currency, so that no digit is lost.
`above` starts a tier: the row holds when the whole request has more input tokens than that. `during` names one of the
file's windows. `can` names one of the file's presets of capabilities. `tiers` are the service tiers by their names in the
answer, as parts of the price ("0.5", "5/3"); `tools` the provider's own, in money for a thousand calls.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, time
from decimal import Decimal
from fractions import Fraction
from functools import partial

import msgspec
from msgspec import Raw, Struct

from naru.catalog.models import Capabilities
from naru.ledger.pricing import (
    RATES,
    UNIT_KEYS,
    Price,
    PriceRow,
    Window,
    krw_to_nano,
    make_price,
    rate_of,
    unit_rate,
    usd_to_nano,
)


class RowData(Struct, frozen=True, forbid_unknown_fields=True, rename={"since": "from"}):
    """Tokens, or one of `per_second` to `per_image` (in money for so many), or both; `least` units are billed at least."""

    input: Decimal | None = None
    output: Decimal | None = None
    cached: Decimal | None = None
    cache_write: Decimal | None = None
    cache_write_1h: Decimal | None = None
    audio_input: Decimal | None = None
    audio_output: Decimal | None = None
    reasoning: Decimal | None = None
    thinking_output: Decimal | None = None
    image_input: Decimal | None = None
    image_output: Decimal | None = None
    per_second: Decimal | None = None
    per_minute: Decimal | None = None
    per_hour: Decimal | None = None
    per_million_characters: Decimal | None = None
    per_image: Decimal | None = None
    least: int = 0
    above: int = 0
    since: date | None = None
    until: date | None = None
    during: str | None = None


class WindowData(Struct, frozen=True, forbid_unknown_fields=True, rename={"holidays": "except"}):
    """Weekdays (Monday 0), pairs of UTC times of day, and days on which the window does not hold."""

    days: tuple[int, ...]
    utc: tuple[tuple[str, str], ...]
    holidays: tuple[date, ...] = ()


class ModelData(Struct, frozen=True, forbid_unknown_fields=True):
    """`upstream` is what the provider calls the model, when it is not the id. An empty `price` is an unknown one.

    `source`, `as_of` and `region` stand in for the file's own; `tiers` and `tools` go on top of them.
    """

    id: str
    price: tuple[RowData, ...]
    label: str = ""
    family: str = ""
    aliases: tuple[str, ...] = ()
    context: int | None = None
    max_output: int | None = None
    can: str = ""
    upstream: str = ""
    defaults: dict[str, Raw] = {}
    retires: date | None = None
    region: str = ""
    source: str = ""
    as_of: str = ""
    tiers: dict[str, str] = {}
    tools: dict[str, Decimal] = {}


class OverlayFile(Struct, frozen=True, forbid_unknown_fields=True):
    provider: str
    source: str
    as_of: str
    models: tuple[ModelData, ...]
    currency: str = "USD"
    region: str = ""
    note: str = ""
    presets: dict[str, Capabilities] = {}
    windows: dict[str, WindowData] = {}
    tiers: dict[str, str] = {}
    tools: dict[str, Decimal] = {}


class SnapshotModel(Struct, frozen=True, forbid_unknown_fields=True):
    """`names` are exact, None means the id; `starts` are beginnings, `patterns` regular expressions; all lower case."""

    id: str
    price: tuple[RowData, ...]
    names: tuple[str, ...] | None = None
    starts: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()
    context: int | None = None
    tiers: dict[str, str] = {}
    tools: dict[str, Decimal] = {}

    def matches(self, name: str) -> bool:
        if name in ((self.id.lower(),) if self.names is None else self.names):
            return True
        return name.startswith(self.starts) or any(re.search(pattern, name) for pattern in self.patterns)


class SnapshotFile(Struct, frozen=True, forbid_unknown_fields=True):
    """What tools/build_prices.py writes. The first model that matches a name is the one, as in the package itself."""

    source: str
    as_of: str
    kinds: dict[str, tuple[SnapshotModel, ...]]

    def find(self, kind: str, name: str) -> SnapshotModel | None:
        """The model a name means; a compact date (-20251211) is also tried as the dashed one."""
        models = self.kinds.get(kind, ())
        for ref in dict.fromkeys((name, COMPACT_DATE.sub(r"-\1-\2-\3", name))):
            for model in models:
                if model.matches(ref):
                    return model
        return None


COMPACT_DATE = re.compile(r"-(20\d\d)(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])$")

decode_overlay = msgspec.json.Decoder(OverlayFile).decode
decode_snapshot = msgspec.json.Decoder(SnapshotFile).decode


class Origin(Struct, frozen=True):
    """Where a price comes from and in what money it is written."""

    source: str
    as_of: str
    currency: str = "USD"
    krw_per_usd: Decimal | None = None


class Service(Struct, frozen=True):
    """See the module's `tiers` and `tools`."""

    tiers: Mapping[str, str] = {}
    tools: Mapping[str, Decimal] = {}


NO_SERVICE = Service()


def price_of(
    rows: tuple[RowData, ...], origin: Origin, windows: Mapping[str, WindowData], service: Service = NO_SERVICE
) -> Price | None:
    """A Price, or None when there are no rows or no rate for their currency. Raises ValueError on a row in error."""
    if not rows:
        return None
    to_nano, fx = usd_to_nano, ""
    if origin.currency == "KRW":
        if origin.krw_per_usd is None:
            return None
        to_nano, fx = partial(krw_to_nano, krw_per_usd=origin.krw_per_usd), f"{origin.krw_per_usd} KRW/USD"
    elif origin.currency != "USD":
        raise ValueError(f"unknown currency {origin.currency}")

    def row_of(data: RowData) -> PriceRow:
        figures = {name: to_nano(value) for name in (*RATES, *UNIT_KEYS) if (value := getattr(data, name)) is not None}
        units = [unit_rate(name, figures.pop(name), data.least) for name in UNIT_KEYS if name in figures]
        if len(units) > 1 or not ("input" in figures or units):
            raise ValueError("a row has an input price, or one price by the unit, or both")
        return PriceRow(
            rate=rate_of(figures, units[0] if units else None),
            min_input_tokens=data.above + 1 if data.above else 0,
            valid_from=data.since,
            valid_until=data.until,
            windows=windows_of(windows[data.during]) if data.during else (),
        )

    return make_price(
        map(row_of, rows),
        source=origin.source,
        as_of=origin.as_of,
        currency=origin.currency,
        fx=fx,
        tiers={name: Fraction(part) for name, part in service.tiers.items()},
        tools={name: to_nano(money / 1000) for name, money in service.tools.items()},
    )


def windows_of(data: WindowData) -> tuple[Window, ...]:
    return tuple(Window(data.days, second_of(start), second_of(end), data.holidays) for start, end in data.utc)


def second_of(text: str) -> int:
    moment = time.fromisoformat(text)
    return moment.hour * 3600 + moment.minute * 60 + moment.second
