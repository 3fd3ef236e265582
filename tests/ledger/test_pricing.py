"""What a request costs: every row kind of the cost formula, dates, hours, tiers, currencies, and the laws."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from msgspec.structs import replace

from naru.ledger.pricing import (
    DAY_S,
    FREE,
    PriceRow,
    Rate,
    UnitRate,
    Window,
    as_billed,
    cost_nano,
    krw_to_nano,
    make_price,
    upper_bound_nano,
    usd_to_nano,
)
from naru.protocol.messages import Media, Usage


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


NOW = at("2026-11-20 12:00")


def usd(text: str) -> int:
    return usd_to_nano(Decimal(text))


def flat(**rates: str):
    rate = Rate(**{name: usd(value) for name, value in rates.items()})
    return make_price((PriceRow(rate=rate),), source="test", as_of="2026-11-20")


CLAUDE = flat(input="3", cached="0.30", cache_write="3.75", cache_write_1h="6", output="15")
QWEN = flat(input="0.70", output="2.80", thinking_output="8.40")

#: (what, price, usage, nano-USD worked out by hand: tokens x USD per million x 1000)
ROWS = [
    ("OpenAI: cached comes off", flat(input="2.50", cached="1.25", output="10"), Usage(1200, 20, 1024), 1_920_000),
    ("OpenAI: cache writes", flat(input="4", cache_write="5", output="20"), Usage(1000, 10, 0, 400), 4_600_000),
    ("Anthropic: both cache lives", CLAUDE, Usage(10_000, 100, 2000, 3000, 1000), 31_350_000),
    ("Gemini: thoughts are output", flat(input="0.3", output="2.5"), Usage(100, 50, reasoning=40), 155_000),
    ("DeepSeek: hit and miss", flat(input="0.30", cached="0.006", output="1.20"), Usage(1000, 100, 900), 155_400),
    ("DashScope: no thinking, plain output", QWEN, Usage(1000, 100), 980_000),
    ("DashScope: thinking makes all output dear", QWEN, Usage(1000, 100, reasoning=1), 1_540_000),
    ("reasoning tokens alone", flat(input="1", output="2", reasoning="3"), Usage(0, 10, reasoning=4), 24_000),
    ("no cached price: cached is input", flat(input="1", output="2"), Usage(100, 0, 100), 100_000),
    ("no 1h price: as the short write", flat(input="1", cache_write="2", output="2"), Usage(9, 0, 0, 0, 9), 18_000),
    ("no write price: as input", flat(input="1", output="2"), Usage(9, 0, 0, 4, 5), 9_000),
    ("audio in and out", flat(input="1", output="2", audio_input="10", audio_output="20"),
     Usage(10, 10, audio_input=4, audio_output=5), 156_000),
    ("no output price: as input, never zero", flat(input="0.02"), Usage(100, 10), 2_200),
    ("nothing used", CLAUDE, Usage(), 0),
    ("free", FREE, Usage(10**9, 10**9, reasoning=5), 0),
    ("rounded up once: 1 token of 0.0000005 nano", flat(input="0.000000001", output="0"), Usage(1, 0), 1),
    ("cached beyond the input is cut", flat(input="1", cached="0.5", output="1"), Usage(10, 0, 99), 5_000),
    ("negative counts read as zero", flat(input="1", output="1"), Usage(-5, -5, -5, -5, -5, -5, -5, -5), 0),
    ("reasoning beyond output is cut", flat(input="1", output="2", reasoning="3"), Usage(0, 10, reasoning=99), 30_000),
]  # fmt: skip


@pytest.mark.parametrize(("price", "usage", "nano"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_cost(price, usage, nano) -> None:
    assert cost_nano(price, usage, NOW) == nano


TIERED = make_price(
    (
        PriceRow(rate=Rate(input=usd("2.5"), cached=usd("0.25"), output=usd("15"))),
        PriceRow(rate=Rate(input=usd("5"), cached=usd("0.5"), output=usd("22.5")), min_input_tokens=272_001),
    ),
    source="test",
)


def test_tier_counts_the_whole_input_and_prices_the_whole_request() -> None:
    assert cost_nano(TIERED, Usage(272_000, 1000), NOW) == 680_000_000 + 15_000_000
    assert cost_nano(TIERED, Usage(272_001, 1000), NOW) == 1_360_005_000 + 22_500_000
    assert cost_nano(TIERED, Usage(272_001, 0, 272_001), NOW) == 136_000_500


PEAK = Window(days=(0, 1, 2, 3, 4), start_s=3600, end_s=4 * 3600, except_dates=(date(2026, 10, 1),))
WINDOWED = make_price(
    (
        PriceRow(rate=Rate(input=usd("0.15"), output=0)),
        PriceRow(rate=Rate(input=usd("0.30"), output=0), windows=(PEAK,)),
    ),
    source="test",
)


@pytest.mark.parametrize(
    ("moment", "is_peak"),
    [
        ("2026-11-20 00:59:59.999", False),  # a Friday
        ("2026-11-20 01:00:00", True),
        ("2026-11-20 03:59:59.999", True),
        ("2026-11-20 04:00:00", False),
        ("2026-11-21 02:00:00", False),  # Saturday
        ("2026-11-22 02:00:00", False),  # Sunday
        ("2026-11-23 02:00:00", True),  # Monday
        ("2026-10-01 02:00:00", False),  # a Thursday, but a holiday
        ("2026-03-29 01:30:00", False),  # a Sunday on which Europe's clocks change
        ("2026-03-30 01:30:00", True),  # the Monday after: UTC has not moved
        ("1970-01-01 02:00:00", True),  # a Thursday
    ],
)
def test_hours_are_utc_and_holidays_are_off_peak(moment: str, is_peak: bool) -> None:
    assert cost_nano(WINDOWED, Usage(1_000_000), at(moment)) == usd("0.30" if is_peak else "0.15")


PROMO = make_price(
    (
        PriceRow(rate=Rate(input=usd("2"), output=0), valid_until=date(2026, 12, 1)),
        PriceRow(rate=Rate(input=usd("4"), output=0), valid_from=date(2026, 12, 1)),
    ),
    source="test",
)


def test_dates_change_at_midnight_utc() -> None:
    assert cost_nano(PROMO, Usage(1_000_000), at("2026-11-30 23:59:59.999")) == usd("2")
    assert cost_nano(PROMO, Usage(1_000_000), at("2026-12-01 00:00")) == usd("4")


def test_the_row_that_came_into_force_last_wins_over_an_older_tier() -> None:
    price = make_price(
        (
            PriceRow(rate=Rate(input=usd("5"), output=0)),
            PriceRow(rate=Rate(input=usd("10"), output=0), min_input_tokens=200_001),
            PriceRow(rate=Rate(input=usd("5"), output=0), valid_from=date(2026, 3, 13)),
        ),
        source="test",
    )
    assert cost_nano(price, Usage(1_000_000), at("2026-03-12 12:00")) == usd("10")
    assert cost_nano(price, Usage(1_000_000), at("2026-03-13 12:00")) == usd("5")
    assert upper_bound_nano(price, 1_000_000, 0, at("2026-03-13 12:00")) == usd("5")


def test_outside_all_dates_a_price_says_so_and_never_costs_zero() -> None:
    price = make_price((PriceRow(rate=Rate(input=5), valid_until=date(2026, 1, 1)),), source="test")
    assert price.covers(at("2025-12-31 23:00"))
    assert not price.covers(NOW)
    assert cost_nano(price, Usage(1_000_000), NOW) == 5


def test_version_follows_the_figures_and_their_source() -> None:
    same = flat(input="3", cached="0.30", cache_write="3.75", cache_write_1h="6", output="15")
    assert CLAUDE.version == same.version
    assert flat(input="1").version != flat(input="2").version
    assert make_price((PriceRow(rate=Rate(input=1)),), source="a").version != FREE.version
    assert len(CLAUDE.version) == 16


def test_version_is_the_same_in_every_process() -> None:
    """A ledger entry's version must mean the same bill tomorrow."""
    assert make_price((PriceRow(rate=Rate(input=420_000_000, output=420_000_000)),), source="seed").version == (
        "156d155e6ba13825"
    )


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ((), "at least one"),
        ((PriceRow(rate=Rate(input=1), min_input_tokens=5),), "without either"),
        ((PriceRow(rate=Rate(input=1), windows=(PEAK,)),), "without either"),
        ((PriceRow(rate=Rate(input=-1)),), "from 0"),
        ((PriceRow(rate=Rate(input=1, cached=10**16)),), "cached"),
        ((PriceRow(rate=Rate(input=1), min_input_tokens=-1),), "min_input_tokens"),
        ((PriceRow(rate=Rate(input=1), windows=(Window((7,), 0, 1),)), PriceRow(rate=Rate(input=1))), "weekdays"),
        (
            (PriceRow(rate=Rate(input=1), windows=(Window((1,), 5, DAY_S + 1),)), PriceRow(rate=Rate(input=1))),
            "one UTC day",
        ),
        (
            (PriceRow(rate=Rate(input=1), valid_from=date(2026, 1, 2), valid_until=date(2026, 1, 2)),),
            "before they begin",
        ),
        (
            (
                PriceRow(rate=Rate(input=1), valid_from=date(2026, 1, 2)),
                PriceRow(rate=Rate(input=1), min_input_tokens=9, valid_from=date(2026, 1, 1)),
            ),
            "same dates",
        ),
    ],
)
def test_a_price_with_a_hole_is_refused(rows, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        make_price(rows, source="test")


def test_dollars_become_exact_nanos() -> None:
    assert usd("0.42") == 420_000_000
    assert usd("0.000000001") == 1
    for wrong in ("0.0000000001", "-1", "NaN", "Infinity", "1000001"):
        with pytest.raises(ValueError):
            usd_to_nano(Decimal(wrong))


def test_won_convert_exactly_and_round_up() -> None:
    assert krw_to_nano(Decimal(1250), Decimal(1250)) == 1_000_000_000
    assert krw_to_nano(Decimal(1), Decimal(3)) == 333_333_334
    assert krw_to_nano(Decimal("0.5"), Decimal("1390.5")) == 359_583
    for won, rate in (("1", "0"), ("1", "-1"), ("-1", "1"), ("1", "NaN")):
        with pytest.raises(ValueError):
            krw_to_nano(Decimal(won), Decimal(rate))


# --- Laws ---------------------------------------------------------------------------------------------------------

nanos = st.integers(0, 600_000_000_000)
maybe = st.none() | nanos
rates = st.builds(
    Rate,
    input=nanos,
    output=maybe,
    cached=maybe,
    cache_write=maybe,
    cache_write_1h=maybe,
    audio_input=maybe,
    audio_output=maybe,
    reasoning=maybe,
    thinking_output=maybe,
)
tokens = st.integers(-10, 3_000_000)
usages = st.builds(
    Usage,
    input=tokens,
    output=tokens,
    cached=tokens,
    cache_write=tokens,
    cache_write_1h=tokens,
    reasoning=tokens,
    audio_input=tokens,
    audio_output=tokens,
)
moments = st.floats(0, 4e9)
windows = st.builds(
    lambda days, hours: Window(tuple(days), hours[0] * 3600, hours[1] * 3600),
    st.sets(st.integers(0, 6), min_size=1),
    st.lists(st.integers(0, 24), min_size=2, max_size=2, unique=True).map(sorted),
)


@st.composite
def prices(draw):
    """A base row, perhaps tiers, hours and a later date."""
    rows = [PriceRow(rate=draw(rates))]
    rows += [
        PriceRow(rate=draw(rates), min_input_tokens=limit) for limit in draw(st.sets(st.integers(1, 10**6), max_size=2))
    ]
    if draw(st.booleans()):
        rows.append(PriceRow(rate=draw(rates), windows=(draw(windows),), min_input_tokens=draw(st.integers(0, 10**6))))
    if draw(st.booleans()):
        rows.append(PriceRow(rate=draw(rates), valid_from=draw(st.dates(date(1980, 1, 1), date(2090, 1, 1)))))
    return make_price(rows, source="test")


@given(prices(), usages, moments)
def test_a_cost_is_never_negative(price, usage, moment) -> None:
    assert cost_nano(price, usage, moment) >= 0


@given(prices(), usages, moments, st.integers(0, 10**6), st.integers(0, 10**6))
def test_no_usage_within_its_bounds_costs_more_than_the_upper_bound(price, usage, moment, more_in, more_out) -> None:
    bound = upper_bound_nano(price, usage.input + more_in, usage.output + more_out, moment)
    assert cost_nano(price, usage, moment) <= bound


@given(rates, usages, moments, st.integers(0, 10**6))
def test_more_output_never_costs_less(rate, usage, moment, more) -> None:
    price = make_price((PriceRow(rate=rate),), source="test")
    longer = Usage(
        **{**{name: getattr(usage, name) for name in Usage.__struct_fields__}, "output": usage.output + more}
    )
    assume(usage.reasoning <= usage.output and usage.audio_output <= 0)
    assert cost_nano(price, longer, moment) >= cost_nano(price, usage, moment)


@given(rates, usages, moments, st.integers(0, 10**6))
def test_more_plain_input_never_costs_less(rate, usage, moment, more) -> None:
    price = make_price((PriceRow(rate=rate),), source="test")
    parts = [max(part, 0) for part in (usage.cached, usage.cache_write, usage.cache_write_1h, usage.audio_input)]
    assume(sum(parts) <= usage.input)
    longer = replace(usage, input=usage.input + more)
    assert cost_nano(price, longer, moment) >= cost_nano(price, usage, moment)


@given(rates, st.integers(0, 10**7), st.integers(0, 10**7), st.integers(0, 10**7), st.integers(0, 10**7))
def test_splitting_a_request_costs_at_most_one_nano_more(rate, first_in, first_out, second_in, second_out) -> None:
    """Costs add up but for the one rounding of each request."""
    price = make_price((PriceRow(rate=rate),), source="test")
    parts = cost_nano(price, Usage(first_in, first_out), 0) + cost_nano(price, Usage(second_in, second_out), 0)
    whole = cost_nano(price, Usage(first_in + second_in, first_out + second_out), 0)
    assert parts - 1 <= whole <= parts


@given(rates, usages)
def test_the_short_path_equals_the_formula(rate, usage) -> None:
    """The same rate with a tier out of reach takes the long way and must cost the same."""
    short = make_price((PriceRow(rate=rate),), source="test")
    rows = (PriceRow(rate=rate), PriceRow(rate=Rate(input=1), min_input_tokens=10**12))
    assert cost_nano(short, usage, NOW) == cost_nano(make_price(rows, source="test"), usage, NOW)


# --- Seconds, characters and images -----------------------------------------------------------------------------------

HOUR = UnitRate(unit="second", nano=usd("0.36"), per=3600)
GROQ = UnitRate(unit="second", nano=usd("0.111"), per=3600, least=10)
CHARACTERS = UnitRate(unit="character", nano=usd("15"), per=1_000_000)
IMAGE = UnitRate(unit="image", nano=usd("0.04"))


def by_unit(units: UnitRate, **rates: str):
    rate = Rate(**{"input": 0, **{name: usd(value) for name, value in rates.items()}}, units=units)
    return make_price((PriceRow(rate=rate),), source="test")


#: (what, price, usage, nano-USD worked out by hand)
UNIT_ROWS = [
    ("an hour and a second", by_unit(HOUR), Usage(media=Media("second", 3601)), 360_100_000),
    ("no whole nano: up, once", by_unit(GROQ), Usage(media=Media("second", 11)), 339_167),
    ("less than the least", by_unit(GROQ), Usage(media=Media("second", 1)), 308_334),
    ("a character", by_unit(CHARACTERS), Usage(media=Media("character", 1)), 15_000),
    ("images", by_unit(IMAGE), Usage(media=Media("image", 3)), 120_000_000),
    ("tokens cost nothing beside them", by_unit(IMAGE), Usage(10**6, 10**6, media=Media("image", 1)), 40_000_000),
    ("unless they have a price", by_unit(HOUR, input="1", output="2"), Usage(3, 1, media=Media("second", 1)), 105_000),
    ("another unit is not billed", by_unit(GROQ, input="1"), Usage(5, media=Media("image", 9)), 5_000),
    ("no media, no units", by_unit(GROQ, input="1"), Usage(5), 5_000),
    (
        "image tokens in and out",
        flat(input="5", cached="1.25", image_input="8", output="10", image_output="32"),
        Usage(100, 50, 10, media=Media("image", 1, False, 60, 40)),
        30 * 5_000 + 10 * 1_250 + 60 * 8_000 + 10 * 10_000 + 40 * 32_000,
    ),
    (
        "without a price of their own",
        flat(input="5", output="10"),
        Usage(9, 9, media=Media("image", 1, False, 9, 9)),
        135_000,
    ),
    (
        "parts beyond their whole",
        flat(input="5", output="10"),
        Usage(9, 9, media=Media("image", 1, False, 99, 99)),
        135_000,
    ),
]


@pytest.mark.parametrize(("price", "usage", "nano"), [row[1:] for row in UNIT_ROWS], ids=[row[0] for row in UNIT_ROWS])
def test_units_are_billed_to_the_nano(price, usage, nano) -> None:
    assert cost_nano(price, usage, NOW) == nano


def test_a_price_knows_what_it_bills() -> None:
    assert (by_unit(HOUR).unit, by_unit(HOUR).bills_tokens, by_unit(HOUR).is_free) == ("second", False, False)
    assert by_unit(HOUR, input="1").bills_tokens
    assert (flat(input="1").unit, flat(input="1").bills_tokens) == ("", True)
    assert (FREE.is_free, FREE.bills_tokens) == (True, True)
    assert by_unit(UnitRate(unit="image", nano=0)).is_free


@pytest.mark.parametrize(
    "units",
    [
        (HOUR, IMAGE),
        (UnitRate(unit="image", nano=-1),),
        (UnitRate(unit="image", nano=1, per=0),),
        (UnitRate(unit="image", nano=1, least=-1),),
    ],
)
def test_a_price_in_units_that_makes_no_sense_is_refused(units) -> None:
    rows = [PriceRow(rate=Rate(input=0, units=unit), min_input_tokens=place) for place, unit in enumerate(units)]
    with pytest.raises(ValueError, match="unit"):
        make_price(rows, source="test")


def test_old_prices_keep_their_version() -> None:
    """The same bill, the same version: entries written before units were known name it."""
    assert flat(input="2.50", cached="1.25", output="10").version == "19aafdad1d7e1e2a"


def test_guesses_are_kept_only_where_they_are_billed() -> None:
    """And the mark is about what is billed."""
    guess = Usage(90, 5, is_estimated=True, media=Media("second", 9))
    assert as_billed(by_unit(HOUR), guess) == Usage(media=Media("second", 9))
    assert as_billed(flat(input="1"), guess) == guess
    exact = Usage(90, 5, media=Media("second", 9, True))
    assert as_billed(by_unit(HOUR), exact) == replace(exact, is_estimated=True)
    assert as_billed(flat(input="1"), exact) == exact
    assert as_billed(by_unit(HOUR), Usage(1, 2)) == Usage(1, 2)


units_of = st.builds(
    UnitRate,
    unit=st.just("second"),
    nano=st.integers(0, 10**12),
    per=st.sampled_from([1, 60, 3600, 10**6]),
    least=st.integers(0, 20),
)


@given(rates, units_of, usages, st.integers(0, 10**6), st.integers(0, 10**6), moments)
def test_units_never_cost_less_and_stay_within_the_bound(rate, unit, usage, units, more, moment) -> None:
    price = make_price((PriceRow(rate=replace(rate, units=unit)),), source="test")
    cost = cost_nano(price, replace(usage, media=Media("second", units)), moment)
    assert cost >= cost_nano(price, usage, moment)
    assert cost <= cost_nano(price, replace(usage, media=Media("second", units + more)), moment)
    assert cost <= upper_bound_nano(price, usage.input, usage.output, moment, units + more)
