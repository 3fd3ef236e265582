"""What a request costs. Pure: usage and a price in, whole nano-dollars out; no clock, no float.

A price holds rows. Which row holds is decided by the request's start and by the input of the whole request
(reference/providers.md C8): rows with hours of the day go first, then the one that came into force last, then the
highest tier reached. One-row prices, nearly all of them, skip that and take a short path.

How the answer was served may change the price of its tokens (`tiers`), and tools that the provider ran come on top, by
the call (`tools`). What a price does not know is never billed for less: see `_served` and `as_billed`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Literal

import msgspec
from msgspec import Struct

from naru.protocol.messages import Media, Usage
from naru.protocol.service import ASKED_TIERS, CHEAP_TIERS, OPEN_TIERS, USUAL_TIERS

NANO_PER_USD = 1_000_000_000
#: Rates are per million tokens.
PER = 1_000_000
DAY_S = 86_400
#: 1970-01-01 was a Thursday; Monday is 0 as in datetime.weekday().
EPOCH_WEEKDAY = 3
#: More than this per million tokens is a slip of the pen (the dearest model of 2026 lists 600 USD).
MAX_NANO_PER_MILLION = 1_000_000 * NANO_PER_USD

#: How a price in units may be written: the unit, and how many of them the figure is for.
UNIT_KEYS: dict[str, tuple[Literal["second", "character", "image"], int]] = {
    "per_second": ("second", 1),
    "per_minute": ("second", 60),
    "per_hour": ("second", 3600),
    "per_million_characters": ("character", 1_000_000),
    "per_image": ("image", 1),
}


class UnitRate(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Nano-USD for `per` units: seconds of sound, characters spoken, images. `least`: the fewest units a request is billed
    for (Groq bills 10 seconds of every shorter recording)."""

    unit: Literal["second", "character", "image"]
    nano: int
    per: int = 1
    least: int = 0


class Rate(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Nano-USD per million tokens. What is None falls back, never to zero:

    output -> input (embeddings list no output) · cached -> input · cache_write -> input ·
    cache_write_1h -> cache_write · audio_input -> input · audio_output -> output · reasoning -> output ·
    image_input -> input · image_output -> output.

    `units` comes on top: what is billed by the second, the character or the image, mostly in place of tokens (input 0).

    `thinking_output` is another thing than `reasoning`: when a request thought at all, its **whole** output costs that
    (Alibaba's hybrid models, providers.md C5 and C8); `reasoning` prices the thinking tokens alone.
    """

    input: int
    output: int | None = None
    cached: int | None = None
    cache_write: int | None = None
    cache_write_1h: int | None = None
    audio_input: int | None = None
    audio_output: int | None = None
    reasoning: int | None = None
    thinking_output: int | None = None
    image_input: int | None = None
    image_output: int | None = None
    units: UnitRate | None = None


#: The rates in tokens.
RATES = tuple(name for name in Rate.__struct_fields__ if name != "units")


def unit_rate(key: str, nano: int, least: int) -> UnitRate:
    """`key` is one of UNIT_KEYS."""
    unit, per = UNIT_KEYS[key]
    return UnitRate(unit=unit, nano=nano, per=per, least=least)


def rate_of(rates: Mapping[str, int], units: UnitRate | None) -> Rate:
    """Tokens by the names of RATES; they cost nothing where only units are billed."""
    rate = Rate(input=0) if units is not None and "input" not in rates else Rate(input=rates["input"])
    return msgspec.structs.replace(rate, **rates, units=units)


class Window(Struct, frozen=True):
    """Hours of the week in UTC, which knows no summer time: `days` are weekdays (Monday 0), seconds since UTC midnight,
    the end not included. `except_dates` are whole UTC days on which the window does not hold (public holidays)."""

    days: tuple[int, ...]
    start_s: int
    end_s: int
    except_dates: tuple[date, ...] = ()

    def holds(self, at: float) -> bool:
        day, second = divmod(int(at // 1), DAY_S)
        if not self.start_s <= second < self.end_s or (day + EPOCH_WEEKDAY) % 7 not in self.days:
            return False
        return not self.except_dates or datetime.fromtimestamp(at, UTC).date() not in self.except_dates


class PriceRow(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`min_input_tokens`: the row holds for requests of at least that much input, cached included, and then for all of
    the request. `valid_from` is the first UTC day, `valid_until` the first day on which it no longer holds."""

    rate: Rate
    min_input_tokens: int = 0
    valid_from: date | None = None
    valid_until: date | None = None
    windows: tuple[Window, ...] = ()


class _Rule(Struct, frozen=True):
    """A row made ready for arithmetic: every rate filled in, dates as seconds."""

    input: int
    output: int
    cached: int
    cache_write: int
    cache_write_1h: int
    audio_input: int
    audio_output: int
    reasoning: int
    thinking_output: int | None
    image_input: int
    image_output: int
    units: UnitRate | None
    min_input_tokens: int
    from_s: float
    until_s: float
    windows: tuple[Window, ...]
    max_input: int
    max_output: int
    has_reasoning_rate: bool

    def is_open(self, at: float) -> bool:
        if not self.from_s <= at < self.until_s:
            return False
        return not self.windows or any(window.holds(at) for window in self.windows)


class _Tier(Struct, frozen=True):
    """What a service tier makes of the tokens' price: `top` / `bottom` of it, or a rule of its own, whatever the row."""

    top: int = 1
    bottom: int = 1
    rule: _Rule | None = None


AS_LISTED = _Tier()


class Price(Struct, frozen=True):
    """One model's price. Made by `make_price` only. `version` is a hash of everything that decides a cost, so the same
    version means the same bill. `currency` is the list's own; `fx` says how it became USD ("1390 KRW/USD").
    `as_of` is the day the source was read (ISO), empty for an operator's own figure.

    `unit` is what its rows bill beside tokens, empty for nothing; `bills_tokens` is False where tokens cost nothing
    because the unit is all that is billed. `tiers` are by their names in the answer; `tools` are nano-USD for a call."""

    version: str
    source: str
    as_of: str
    currency: str
    rows: tuple[PriceRow, ...]
    is_free: bool
    fx: str
    rules: tuple[_Rule, ...]
    flat: _Rule | None
    unit: str = ""
    bills_tokens: bool = True
    tiers: Mapping[str, _Tier] = {}
    tools: Mapping[str, int] = {}

    def __repr__(self) -> str:
        return f"Price({self.version} {self.source} {self.as_of})"

    def covers(self, at: float) -> bool:
        """Whether some row holds at `at` (Unix seconds): a promotion that ended without a successor does not."""
        return any(rule.is_open(at) for rule in self.rules)


def usd_to_nano(usd: Decimal) -> int:
    """USD (per million tokens, say) to whole nano-USD. Raises ValueError when it is negative, absurd or not exact."""
    nano = usd * NANO_PER_USD
    if not usd.is_finite() or usd < 0:
        raise ValueError(f"a price is zero or more, not {usd}")
    if nano > MAX_NANO_PER_MILLION:
        raise ValueError(f"{usd} is beyond any price there is, per million tokens or per unit")
    whole = int(nano)
    if whole != nano:
        raise ValueError(f"{usd} has more than nine decimals")
    return whole


def krw_to_nano(krw: Decimal, krw_per_usd: Decimal) -> int:
    """Won to whole nano-USD at a configured rate, up to the next nano. Raises ValueError as usd_to_nano does."""
    if not krw.is_finite() or krw < 0:
        raise ValueError(f"a price is zero or more, not {krw}")
    if not krw_per_usd.is_finite() or krw_per_usd <= 0:
        raise ValueError(f"krw_per_usd must be above zero, not {krw_per_usd}")
    top, bottom = krw.as_integer_ratio()
    rate_top, rate_bottom = krw_per_usd.as_integer_ratio()
    return -(-top * rate_bottom * NANO_PER_USD // (bottom * rate_top))


def make_price(
    rows: Iterable[PriceRow],
    *,
    source: str,
    as_of: str = "",
    currency: str = "USD",
    fx: str = "",
    tiers: Mapping[str, Fraction | Rate] | None = None,
    tools: Mapping[str, int] | None = None,
) -> Price:
    """Checks the rows and makes a Price. Raises ValueError when there is none, or when some request inside a row's
    dates would match no row at all (a tier or an hour without a base row beside it). A tier is a part or a multiple of the
    tokens' price, or has rates of its own; `tools` are nano-USD for a call of the provider's own tools."""
    rows = tuple(rows)
    for row in rows:
        _check_row(row, rows)
    if not rows:
        raise ValueError("a price needs at least one row")
    rules = tuple(_rule(row) for row in sorted(rows, key=_precedence))
    first = rules[0]
    units = [rule.units for rule in rules if rule.units is not None]
    unit = units[0].unit if units else ""
    if any(each.unit != unit for each in units):
        raise ValueError("the rows of a price count one kind of unit")
    has_tokens = any(rule.max_input or rule.max_output for rule in rules)
    is_flat = len(rules) == 1 and first.from_s == float("-inf") and first.until_s == float("inf")
    content = msgspec.json.encode((rows, currency, fx, source), order="deterministic")
    if tiers or tools:
        said = {name: each if isinstance(each, Rate) else str(each) for name, each in (tiers or {}).items()}
        content += msgspec.json.encode((said, tools), order="deterministic")
    return Price(
        version=hashlib.sha256(content).hexdigest()[:16],
        source=source,
        as_of=as_of,
        currency=currency,
        rows=rows,
        is_free=not has_tokens and not any(each.nano for each in units) and not any((tools or {}).values()),
        fx=fx,
        rules=rules,
        flat=first if is_flat else None,
        unit=unit,
        bills_tokens=has_tokens or not units,
        tiers={name: _tier(each) for name, each in (tiers or {}).items()},
        tools=dict(tools or {}),
    )


def cost_nano(price: Price, usage: Usage, at: float) -> int:
    """Nano-USD for `usage` of a request that started at `at` (Unix seconds); rounded up once, at the end.

    In `usage`, `cached`, `cache_write`, `cache_write_1h` and `audio_input` are separate parts of `input`; `reasoning`
    and `audio_output` are parts of `output`, and so are the image tokens of `media`. Parts beyond their whole are cut,
    negative counts read as zero.
    """
    rule = price.flat or _rule_at(price, max(usage.input, 0), at)
    input_tokens = usage.input
    output_tokens = usage.output
    cached = usage.cached
    if (
        input_tokens < 0
        or output_tokens < 0
        or usage.cache_write
        or usage.cache_write_1h
        or usage.audio_input
        or usage.audio_output
        or usage.media is not None
        or usage.tier
        or usage.server_tools
        or (rule.has_reasoning_rate and usage.reasoning)
        or not 0 <= cached <= input_tokens
    ):
        return _cost_in_full(price, rule, usage)
    pico = (input_tokens - cached) * rule.input + cached * rule.cached + output_tokens * rule.output
    return -(-pico // PER)


def unknown_service(price: Price, usage: Usage) -> list[str]:
    """The tier and the provider's tools that were used and that this price does not know."""
    if price.is_free:
        return []
    unknown = [name for name, _ in usage.server_tools if name not in price.tools]
    return [usage.tier, *unknown] if usage.tier and usage.tier not in price.tiers else unknown


def as_billed(price: Price, usage: Usage) -> Usage:
    """A usage of sound or images without the guesses that this price has no use for; `is_estimated` is then about what
    is billed. Any usage is marked so whose tier or tools the price does not know: its cost is a guess."""
    media = usage.media
    if not usage.is_estimated and unknown_service(price, usage):
        usage = msgspec.structs.replace(usage, is_estimated=True)
    if media is None:
        return usage
    is_guess = media.is_estimated and price.unit == media.unit
    if not usage.is_estimated or price.bills_tokens:
        return msgspec.structs.replace(usage, is_estimated=usage.is_estimated or is_guess)
    return Usage(is_estimated=is_guess, media=Media(media.unit, media.units, media.is_estimated))


def upper_bound_nano(
    price: Price, input_tokens: int, max_output: int, at: float, units: int = 0, tier: str = "", calls: int = 0
) -> int:
    """The most that any usage with at most so much input and output can cost when it starts at `at`. `units` are those of
    the price's own kind. `tier` is the one asked for: where none is, the account's settings choose. `calls` of the
    provider's own tools are limited by the request, if by anything. Negative reads as 0.

    Looks at every row that the input may reach: a lower one can be the dearer.
    """
    input_tokens, max_output, flat = max(input_tokens, 0), max(max_output, 0), price.flat
    if flat is not None and not (price.unit or price.tiers or price.tools):
        return -(-(input_tokens * flat.max_input + max_output * flat.max_output) // PER)
    reachable = [flat] if flat is not None else _reachable(price, input_tokens, at)
    base = input_tokens * max(rule.max_input for rule in reachable)
    total = base = base + max_output * max(rule.max_output for rule in reachable)
    for served in _reachable_tiers(price, tier):
        own = served.rule
        dear = base if own is None else input_tokens * own.max_input + max_output * own.max_output
        total = max(total, -(-dear * served.top // served.bottom))
    dearest = max(price.tools.values(), default=0)
    return max(_with_units(total, rule.units, units) for rule in reachable) + max(calls, 0) * dearest


def _reachable_tiers(price: Price, asked: str) -> Iterable[_Tier]:
    if asked in OPEN_TIERS:
        return [tier for name, tier in price.tiers.items() if not ASKED_TIERS.intersection(name.split("+"))]
    if asked in USUAL_TIERS or asked in CHEAP_TIERS:
        return [price.tiers[asked]] if asked in price.tiers else ()
    return price.tiers.values()


def _served(price: Price, name: str, rule: _Rule) -> _Tier:
    """A tier that the price does not know costs what the dearest does that it knows; a cheap one as much as none."""
    found = price.tiers.get(name)
    if found is not None or name in CHEAP_TIERS:
        return found or AS_LISTED
    return max((AS_LISTED, *price.tiers.values()), key=lambda tier: _weight(tier.rule or rule) * tier.top / tier.bottom)


def _cost_in_full(price: Price, rule: _Rule, usage: Usage) -> int:
    tools = sum(price.tools.get(name, 0) * count for name, count in usage.server_tools)
    units = rule.units
    served = _served(price, usage.tier, rule) if usage.tier else AS_LISTED
    rule = served.rule or rule
    rest = max(usage.input, 0)
    cached, rest = _take(usage.cached, rest)
    write, rest = _take(usage.cache_write, rest)
    write_1h, rest = _take(usage.cache_write_1h, rest)
    audio_in, rest = _take(usage.audio_input, rest)
    media = usage.media
    image_in, rest = _take(media.image_input if media is not None else 0, rest)
    total = rest * rule.input + cached * rule.cached + audio_in * rule.audio_input
    total += write * rule.cache_write + write_1h * rule.cache_write_1h + image_in * rule.image_input
    rest = max(usage.output, 0)
    audio_out, rest = _take(usage.audio_output, rest)
    image_out, rest = _take(media.image_output if media is not None else 0, rest)
    total += audio_out * rule.audio_output + image_out * rule.image_output
    if rule.thinking_output is not None and usage.reasoning > 0:
        total += rest * rule.thinking_output
    else:
        reasoning, rest = _take(usage.reasoning, rest)
        total += rest * rule.output + reasoning * rule.reasoning
    total = -(-total * served.top // served.bottom)
    if media is None or units is None or units.unit != media.unit:
        return -(-total // PER) + tools
    return _with_units(total, units, media.units) + tools


def _with_units(pico: int, rate: UnitRate | None, units: int) -> int:
    """Rounded up once, over tokens and units together."""
    if rate is None:
        return -(-pico // PER)
    counted = max(units, rate.least)
    return -(-(pico * rate.per + counted * rate.nano * PER) // (PER * rate.per))


def _take(wanted: int, available: int) -> tuple[int, int]:
    taken = min(max(wanted, 0), available)
    return taken, available - taken


def _rule_at(price: Price, input_tokens: int, at: float) -> _Rule:
    return _reachable(price, input_tokens, at)[0]


def _reachable(price: Price, input_tokens: int, at: float) -> list[_Rule]:
    found = []
    for rule in price.rules:
        if input_tokens >= rule.min_input_tokens and rule.is_open(at):
            found.append(rule)
            if rule.min_input_tokens == 0:
                return found
    return [*found, _last_resort(price)]


def _last_resort(price: Price) -> _Rule:
    """Outside all dates (`covers` is False there and the catalogue says unpriced): the dearest row, never zero."""
    return max(price.rules, key=_weight)


def _weight(rule: _Rule) -> int:
    return rule.max_input + rule.max_output


def _check_row(row: PriceRow, rows: tuple[PriceRow, ...]) -> None:
    if row.min_input_tokens < 0:
        raise ValueError("min_input_tokens is zero or more")
    if row.valid_from and row.valid_until and row.valid_from >= row.valid_until:
        raise ValueError(f"a row's dates end ({row.valid_until}) before they begin ({row.valid_from})")
    for window in row.windows:
        if not 0 <= window.start_s < window.end_s <= DAY_S or not set(window.days) <= set(range(7)):
            raise ValueError("a window lies within one UTC day and names weekdays 0 to 6")
    units = row.rate.units
    if units is not None and not (0 <= units.nano <= MAX_NANO_PER_MILLION and units.per > 0 and units.least >= 0):
        raise ValueError("a price per unit is zero or more, for at least one unit")
    for name in RATES:
        nano = getattr(row.rate, name)
        if nano is not None and not 0 <= nano <= MAX_NANO_PER_MILLION:
            raise ValueError(f"{name} must be from 0 to {MAX_NANO_PER_MILLION} nano-USD per million tokens")
    if not any(_is_base_for(row, other) for other in rows):
        raise ValueError("a tier or window needs a row without either, valid over the same dates")


def _is_base_for(row: PriceRow, base: PriceRow) -> bool:
    if base.windows or base.min_input_tokens:
        return False
    starts = base.valid_from is None or (row.valid_from is not None and base.valid_from <= row.valid_from)
    ends = base.valid_until is None or (row.valid_until is not None and base.valid_until >= row.valid_until)
    return starts and ends


def _precedence(row: PriceRow) -> tuple[bool, int, int]:
    return not row.windows, -(row.valid_from or date.min).toordinal(), -row.min_input_tokens


def _rule(row: PriceRow) -> _Rule:
    rate = row.rate
    output = rate.input if rate.output is None else rate.output
    cached = rate.input if rate.cached is None else rate.cached
    write = rate.input if rate.cache_write is None else rate.cache_write
    write_1h = write if rate.cache_write_1h is None else rate.cache_write_1h
    audio_in = rate.input if rate.audio_input is None else rate.audio_input
    audio_out = output if rate.audio_output is None else rate.audio_output
    reasoning = output if rate.reasoning is None else rate.reasoning
    image_in = rate.input if rate.image_input is None else rate.image_input
    image_out = output if rate.image_output is None else rate.image_output
    return _Rule(
        input=rate.input,
        output=output,
        cached=cached,
        cache_write=write,
        cache_write_1h=write_1h,
        audio_input=audio_in,
        audio_output=audio_out,
        reasoning=reasoning,
        thinking_output=rate.thinking_output,
        image_input=image_in,
        image_output=image_out,
        units=rate.units,
        min_input_tokens=row.min_input_tokens,
        from_s=_midnight(row.valid_from, float("-inf")),
        until_s=_midnight(row.valid_until, float("inf")),
        windows=row.windows,
        max_input=max(rate.input, cached, write, write_1h, audio_in, image_in),
        max_output=max(output, audio_out, reasoning, image_out, rate.thinking_output or 0),
        has_reasoning_rate=rate.thinking_output is not None or reasoning != output,
    )


def _tier(given: Fraction | Rate) -> _Tier:
    """A part of the price (above zero), or rates of its own."""
    if isinstance(given, Rate):
        return _Tier(rule=_rule(PriceRow(rate=given)))
    return _Tier(given.numerator, given.denominator)


def _midnight(day: date | None, default: float) -> float:
    return default if day is None else datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()


#: `price = "free"` in naru.toml: the operator said so; the ledger still gets an entry, of zero.
FREE = make_price((PriceRow(rate=Rate(input=0, output=0)),), source="config: free")
