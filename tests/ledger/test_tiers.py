"""Service tiers and the provider's own tools: what the answer says was served decides, and nothing unknown is billed for less."""

from __future__ import annotations

import calendar
import time
from decimal import Decimal
from fractions import Fraction
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from naru.catalog import load_catalog
from naru.ledger.pricing import (
    FREE,
    Price,
    PriceRow,
    Rate,
    UnitRate,
    as_billed,
    cost_nano,
    make_price,
    unknown_service,
    upper_bound_nano,
)
from naru.protocol.anthropic_messages import ANTHROPIC_MESSAGES
from naru.protocol.bedrock import BEDROCK
from naru.protocol.clova import CLOVA
from naru.protocol.dialect import Dialect, Quirks
from naru.protocol.gemini import GEMINI
from naru.protocol.messages import Media, Usage
from naru.protocol.openai_chat import OPENAI_CHAT
from naru.protocol.openai_responses import OPENAI_RESPONSES
from naru.protocol.service import tier_of

CATALOG = load_catalog(Decimal(1400))
USD = 10**9


def at(moment: str) -> float:
    return calendar.timegm(time.strptime(moment, "%Y-%m-%d %H:%M"))


NOW = at("2026-11-23 12:00")  # a Monday, off-peak in Beijing
PEAK = at("2026-11-23 02:00")


def listed(kind: str, model: str, moment: float = NOW) -> Price:
    price = CATALOG.price(kind, model, moment)
    assert price is not None
    return price


def priced(**tiers: Fraction | Rate) -> Price:
    rate = Rate(input=2 * USD, output=10 * USD, cached=USD // 5)
    return make_price([PriceRow(rate=rate)], source="test", tiers=tiers, tools={"web_search": USD // 100})


# --- One answer of each dialect, its usage and its cost ------------------------------------------------------------


def chat(usage: dict[str, Any], **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": "stop"}
    return {
        "id": "1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [choice],
        "usage": usage,
        **more,
    }


def responses(usage: dict[str, Any], *items: dict[str, Any], **more: Any) -> dict[str, Any]:
    said = {"type": "message", "id": "m", "role": "assistant", "content": [{"type": "output_text", "text": "x"}]}
    fields = {"id": "resp_1", "object": "response", "created_at": 1, "model": "m", "status": "completed"}
    return {**fields, "output": [*items, said], "usage": usage, **more}


def messages(**usage: Any) -> dict[str, Any]:
    fields = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn"}
    return {**fields, "content": [{"type": "text", "text": "x"}], "usage": usage}


def gemini(usage: dict[str, Any], grounding: dict[str, Any] | None = None) -> dict[str, Any]:
    candidate: dict[str, Any] = {
        "content": {"parts": [{"text": "x"}], "role": "model"},
        "finishReason": "STOP",
        "index": 0,
    }
    if grounding is not None:
        candidate["groundingMetadata"] = grounding
    return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "m", "responseId": "r"}


def converse(usage: dict[str, Any], **more: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": [{"text": "x"}]}
    return {"output": {"message": message}, "stopReason": "end_turn", "usage": usage, **more}


SEARCH = {"type": "web_search_call", "id": "s", "status": "completed", "action": {"type": "search", "query": "q"}}
OPENED = {"type": "web_search_call", "id": "o", "status": "completed", "action": {"type": "open_page", "url": "u"}}
FILES = {"type": "file_search_call", "id": "f", "status": "completed", "queries": ["q"]}
THOUGHT = {"completion_tokens_details": {"reasoning_tokens": 150}}


def case(
    name: str, dialect: Dialect, answer: dict[str, Any], usage: Usage, price: Price, nano: int, moment: float = NOW
) -> Any:
    return pytest.param(dialect, answer, usage, price, nano, moment, id=name)


#: providers.md C8: what each upstream's record means, and what it costs at the list price. Figures by hand.
CASES = [
    case(
        "openai chat: cached, written and reasoning, at half the price",
        OPENAI_CHAT,
        chat(
            {
                "prompt_tokens": 1000,
                "completion_tokens": 200,
                "total_tokens": 1200,
                "prompt_tokens_details": {"cached_tokens": 600, "cache_write_tokens": 100},
                **THOUGHT,
            },
            service_tier="flex",
        ),
        Usage(1000, 200, cached=600, cache_write=100, reasoning=150, tier="flex"),
        listed("openai", "gpt-6.1-sol"),
        # (300 x 2.00 + 600 x 0.10 + 100 x 2.50 + 200 x 10.00) / 2
        (600_000 + 60_000 + 250_000 + 2_000_000) // 2,
    ),
    case(
        "openai chat: asked for priority, served as everyone",
        OPENAI_CHAT,
        chat({"prompt_tokens": 1000, "completion_tokens": 200, "total_tokens": 1200}, service_tier="default"),
        Usage(1000, 200),
        listed("openai", "gpt-6.1-sol"),
        2_000_000 + 2_000_000,
    ),
    case(
        "openai chat: above 272,000 tokens",
        OPENAI_CHAT,
        chat({"prompt_tokens": 300_000, "completion_tokens": 200, "total_tokens": 300_200}, service_tier="priority"),
        Usage(300_000, 200, tier="priority"),
        listed("openai", "gpt-6.1-sol"),
        (300_000 * 4000 + 200 * 15_000) * 2,
    ),
    case(
        "openai chat: priority by thirds",
        OPENAI_CHAT,
        chat({"prompt_tokens": 1000, "completion_tokens": 0, "total_tokens": 1000}, service_tier="priority"),
        Usage(1000, 0, tier="priority"),
        listed("openai", "gpt-4o-mini"),
        250_000,
    ),
    case(
        "responses: two searches, a page opened, a file search, priority",
        OPENAI_RESPONSES,
        responses(
            {
                "input_tokens": 1000,
                "output_tokens": 200,
                "total_tokens": 1200,
                "input_tokens_details": {"cached_tokens": 400, "cache_write_tokens": 0},
                "output_tokens_details": {"reasoning_tokens": 150},
            },
            SEARCH,
            OPENED,
            SEARCH,
            FILES,
            service_tier="priority",
        ),
        Usage(
            1000, 200, cached=400, reasoning=150, tier="priority", server_tools=(("web_search", 2), ("file_search", 1))
        ),
        listed("openai", "gpt-5.5"),
        # the tokens at 2.5 times, the tools as they are: 2 x 0.01 + 0.0025 USD
        (600 * 5000 + 400 * 500 + 200 * 30_000) * 5 // 2 + 22_500_000,
    ),
    case(
        "responses: the older search tool of a model that pays more for it",
        OPENAI_RESPONSES,
        responses(
            {"input_tokens": 0, "output_tokens": 1, "total_tokens": 1}, SEARCH, tools=[{"type": "web_search_preview"}]
        ),
        Usage(0, 1, server_tools=(("web_search_preview", 1),)),
        listed("openai", "gpt-4o"),
        10_000 + 25_000_000,
    ),
    case(
        "anthropic: both caches, thinking, fast, in the US, three searches",
        ANTHROPIC_MESSAGES,
        messages(
            input_tokens=100,
            output_tokens=200,
            cache_read_input_tokens=300,
            cache_creation_input_tokens=70,
            cache_creation={"ephemeral_5m_input_tokens": 50, "ephemeral_1h_input_tokens": 20},
            output_tokens_details={"thinking_tokens": 150},
            server_tool_use={"web_search_requests": 3, "web_fetch_requests": 2},
            service_tier="standard",
            speed="fast",
            inference_geo="us",
        ),
        Usage(
            470,
            200,
            cached=300,
            cache_write=50,
            cache_write_1h=20,
            reasoning=150,
            tier="fast+us",
            server_tools=(("web_search", 3), ("web_fetch", 2)),
        ),
        listed("anthropic", "claude-opus-5-5"),
        # (100 x 4 + 300 x 0.20 + 50 x 5 + 20 x 8 + 200 x 20) x 2.2 + 3 x 0.01 USD
        (400_000 + 60_000 + 250_000 + 160_000 + 4_000_000) * 22 // 10 + 30_000_000,
    ),
    case(
        "anthropic: capacity committed to in advance has the list price",
        ANTHROPIC_MESSAGES,
        messages(input_tokens=100, output_tokens=0, service_tier="priority", inference_geo="global"),
        Usage(100, 0, tier="priority"),
        listed("anthropic", "claude-opus-5-5"),
        400_000,
    ),
    case(
        "gemini: cached, tool use, thoughts, priority, above 200,000, two queries",
        GEMINI,
        gemini(
            {
                "promptTokenCount": 250_000,
                "toolUsePromptTokenCount": 1000,
                "cachedContentTokenCount": 50_000,
                "candidatesTokenCount": 100,
                "thoughtsTokenCount": 400,
                "totalTokenCount": 251_500,
                "serviceTier": "priority",
            },
            {"webSearchQueries": ["a", "b"]},
        ),
        Usage(
            251_000,
            500,
            cached=50_000,
            reasoning=400,
            tier="priority",
            server_tools=(("web_search", 2), ("grounded_prompt", 1)),
        ),
        listed("gemini", "gemini-3.1-pro-preview"),
        (201_000 * 4000 + 50_000 * 400 + 500 * 18_000) * 18 // 10 + 28_000_000,
    ),
    case(
        "gemini 2.5: the grounded prompt is billed, not its queries",
        GEMINI,
        gemini(
            {"promptTokenCount": 10, "candidatesTokenCount": 1, "totalTokenCount": 11}, {"webSearchQueries": ["a", "b"]}
        ),
        Usage(10, 1, server_tools=(("web_search", 2), ("grounded_prompt", 1))),
        listed("gemini", "gemini-2.5-flash"),
        10 * 300 + 2500 + 35_000_000,
    ),
    case(
        "bedrock: a tier whose price no list of ours has",
        BEDROCK,
        converse(
            {"inputTokens": 100, "outputTokens": 10, "cacheReadInputTokens": 30, "cacheWriteInputTokens": 5},
            serviceTier={"type": "flex"},
        ),
        Usage(135, 10, cached=30, cache_write=5, tier="flex"),
        listed("bedrock", "amazon.nova-pro-v1:0"),
        105 * 800 + 30 * 200 + 10 * 3200,
    ),
    *(
        case(
            f"deepseek, {name}",
            OPENAI_CHAT,
            chat(
                {
                    "prompt_tokens": 1000,
                    "completion_tokens": 200,
                    "total_tokens": 1200,
                    "prompt_cache_hit_tokens": 400,
                    "prompt_cache_miss_tokens": 600,
                    **THOUGHT,
                }
            ),
            Usage(1000, 200, cached=400, reasoning=150),
            listed("deepseek", "deepseek-flash", moment),
            nano,
            moment,
        )
        for name, moment, nano in (
            ("off-peak", NOW, 600 * 150 + 400 * 3 + 200 * 600),
            ("peak", PEAK, 600 * 300 + 400 * 6 + 200 * 1200),
        )
    ),
    case(
        "dashscope: the whole output at the thinking price, cache written, one search",
        OPENAI_CHAT,
        chat(
            {
                "prompt_tokens": 1000,
                "completion_tokens": 200,
                "total_tokens": 1200,
                "prompt_tokens_details": {"cached_tokens": 0, "cache_creation_input_tokens": 100},
                "plugins": {"search": {"count": 1}},
                **THOUGHT,
            }
        ),
        Usage(1000, 200, cache_write=100, reasoning=150, server_tools=(("web_search", 1),)),
        listed("dashscope", "qwen-plus"),
        1000 * 400 + 200 * 4000,
    ),
    case(
        "clova: no cache, no tier",
        CLOVA,
        {
            "status": {"code": "20000"},
            "result": {
                "message": {"role": "assistant", "content": "x"},
                "finishReason": "stop",
                "usage": {"promptTokens": 100, "completionTokens": 50, "totalTokens": 150},
            },
        },
        Usage(100, 50),
        listed("clova", "HCX-007"),
        # 1,250 and 5,000 won a million, at 1,400 won to the dollar: each rate up to the next nano-dollar
        -(-(100 * 892_857_143 + 50 * 3_571_428_572) // 10**6),
    ),
]


@pytest.mark.parametrize(("dialect", "answer", "usage", "price", "nano", "moment"), CASES)
def test_what_an_answer_counts_and_costs(
    dialect: Dialect, answer: dict[str, Any], usage: Usage, price: Price, nano: int, moment: float
) -> None:
    """Decoded and passed on alike; the cost is exact."""
    body = msgspec.json.encode(answer)
    assert dialect.decode_response(body, Quirks()).usage == usage
    assert cost_nano(price, usage, moment) == nano
    if dialect not in (BEDROCK, CLOVA):  # nobody speaks those to us
        assert dialect.relay_whole(body, Quirks()).usage == usage


@pytest.mark.parametrize(
    ("names", "tier"),
    [
        (("default",), ""),
        (("standard", "standard", "global"), ""),
        ((None, None), ""),
        (("auto",), ""),
        (("PRIORITY",), "priority"),
        (("SERVICE_TIER_FLEX",), "flex"),
        (("batch", None, "us"), "batch+us"),
        (("x" * 100,), "x" * 40),
    ],
)
def test_names_of_tiers(names: tuple[str | None, ...], tier: str) -> None:
    assert tier_of(*names) == tier


ODD = [
    (
        OPENAI_CHAT,
        chat({"prompt_tokens": 5, "completion_tokens": 2, "plugins": [], "server_tool_use": 7}, service_tier=3),
    ),
    (OPENAI_CHAT, chat({"prompt_tokens": 5, "completion_tokens": 2, "plugins": {"search": {"count": "1"}}})),
    (OPENAI_CHAT, chat({"prompt_tokens": 5, "completion_tokens": 2, "num_search_queries": -1})),
    (
        OPENAI_RESPONSES,
        responses({"input_tokens": 5, "output_tokens": 2}, {"type": "web_call", "action": 3}, service_tier=[]),
    ),
    (ANTHROPIC_MESSAGES, messages(input_tokens=5, output_tokens=2, speed=2, inference_geo={}, server_tool_use=[])),
    (ANTHROPIC_MESSAGES, messages(input_tokens=5, output_tokens=2, server_tool_use={"web_search_requests": -4})),
    (GEMINI, gemini({"promptTokenCount": 5, "candidatesTokenCount": 2, "serviceTier": 4}, {"webSearchQueries": 3})),
]


@pytest.mark.parametrize(("dialect", "answer"), ODD)
def test_odd_words_of_a_service_cost_no_tokens(dialect: Dialect, answer: dict[str, Any]) -> None:
    """Whatever stands where a tier or a count should be, the tokens are those that were counted."""
    body = msgspec.json.encode(answer)
    assert dialect.relay_whole(body, Quirks()).usage == dialect.decode_response(body, Quirks()).usage == Usage(5, 2)


# --- What a price does not know ------------------------------------------------------------------------------------


def test_an_unknown_tier_costs_what_the_dearest_does_and_is_a_guess() -> None:
    price = priced(priority=Fraction(2), flex=Fraction(1, 2))
    usage = Usage(1000, 100, tier="turbo")
    assert cost_nano(price, usage, NOW) == cost_nano(price, Usage(1000, 100, tier="priority"), NOW) == 6_000_000
    assert as_billed(price, usage).is_estimated
    assert unknown_service(price, usage) == ["turbo"]


def test_an_unknown_cheap_tier_costs_the_price_itself_and_is_a_guess() -> None:
    price = priced(priority=Fraction(2))
    usage = Usage(1000, 100, tier="flex")
    assert cost_nano(price, usage, NOW) == cost_nano(price, Usage(1000, 100), NOW)
    assert as_billed(price, usage).is_estimated


def test_a_known_tier_is_no_guess() -> None:
    usage = Usage(1000, 100, tier="priority", server_tools=(("web_search", 1),))
    assert as_billed(priced(priority=Fraction(2)), usage) == usage


def test_a_tool_without_a_price_leaves_the_tokens_and_a_guess() -> None:
    usage = Usage(1000, 100, server_tools=(("web_search", 2), ("code_interpreter", 1)))
    assert cost_nano(priced(), usage, NOW) == cost_nano(priced(), Usage(1000, 100), NOW) + 20_000_000
    assert as_billed(priced(), usage).is_estimated
    assert unknown_service(priced(), usage) == ["code_interpreter"]


def test_free_is_free() -> None:
    usage = Usage(1000, 100, tier="priority", server_tools=(("web_search", 2),))
    assert cost_nano(FREE, usage, NOW) == 0
    assert as_billed(FREE, usage) == usage


def test_a_tier_may_have_rates_of_its_own() -> None:
    price = priced(priority=Rate(input=5 * USD, output=20 * USD), flex=Fraction(1, 2))
    assert cost_nano(price, Usage(1000, 100, 500, tier="priority"), NOW) == 5_000_000 + 2_000_000
    assert cost_nano(price, Usage(1000, 100, tier="turbo"), NOW) == 7_000_000


def test_units_are_not_of_a_tier() -> None:
    """Seconds, characters and images have one price."""
    rate = Rate(input=USD, units=UnitRate(unit="image", nano=10_000_000))
    price = make_price([PriceRow(rate=rate)], source="test", tiers={"priority": Fraction(2)})
    usage = Usage(1000, media=Media("image", 3), tier="priority")
    assert cost_nano(price, usage, NOW) == 2_000_000 + 3 * 10_000_000


def test_versions_tell_tiers_and_tools_apart() -> None:
    """And a price without them keeps the version it had."""
    row = PriceRow(rate=Rate(input=USD))
    plain = make_price([row], source="test")
    assert make_price([row], source="test", tiers={}, tools={}).version == plain.version
    others = [
        make_price([row], source="test", tiers={"flex": Fraction(1, 2)}),
        make_price([row], source="test", tiers={"flex": Fraction(1, 3)}),
        make_price([row], source="test", tiers={"flex": Rate(input=USD)}),
        make_price([row], source="test", tools={"web_search": 1}),
    ]
    assert len({plain.version, *(price.version for price in others)}) == 5


# --- Laws ----------------------------------------------------------------------------------------------------------

tiers = st.dictionaries(
    st.sampled_from(["flex", "priority", "us", "fast", "fast+us", "batch"]),
    st.fractions(Fraction(1, 10), 6, max_denominator=20)
    | st.builds(lambda put, out: Rate(input=put, output=out), st.integers(0, 10 * USD), st.integers(0, 50 * USD)),
)
names = st.sampled_from(["", "flex", "priority", "us", "fast", "fast+us", "batch", "turbo"])
counts = st.integers(0, 400_000)


@given(tiers, st.sampled_from(["priority", "us", "fast", "turbo"]), names, counts, counts, st.integers(0, 5))
def test_the_bound_holds_for_every_tier(
    known: dict[str, Any], asked: str, served: str, put: int, out: int, calls: int
) -> None:
    """Whoever asks for a dearer tier may be served in any."""
    price = priced(**known)
    usage = Usage(put, out, tier=served, server_tools=(("web_search", calls),) if calls else ())
    bound = upper_bound_nano(price, put, out, NOW, tier=asked, calls=calls)
    assert cost_nano(price, usage, NOW) <= bound


@given(tiers, st.sampled_from(["", "us", "priority", "flex", "batch"]), counts, counts)
def test_the_bound_without_a_wish_holds_for_what_the_account_may_choose(
    known: dict[str, Any], served: str, put: int, out: int
) -> None:
    """Fast has to be asked for by name."""
    price = priced(**known)
    if served and served not in known and served not in ("flex", "batch"):
        served = ""  # a tier unknown to the price costs what the dearest does, and that may be fast
    assert cost_nano(price, Usage(put, out, tier=served), NOW) <= upper_bound_nano(price, put, out, NOW)


@given(tiers, st.sampled_from(["default", "standard"]), counts, counts)
def test_the_bound_of_who_asks_for_the_usual_is_the_price_itself(
    known: dict[str, Any], asked: str, put: int, out: int
) -> None:
    bound = upper_bound_nano(priced(**known), put, out, NOW, tier=asked)
    assert bound == cost_nano(priced(), Usage(put, out), NOW)


@given(st.fractions(Fraction(1, 10), 6, max_denominator=20), counts, counts, counts)
def test_a_part_of_the_price_is_a_part_of_the_cost(part: Fraction, put: int, out: int, cached: int) -> None:
    """Up to the next nano-dollar, once."""
    usage = Usage(put, out, min(cached, put))
    exact = (put - usage.cached) * Fraction(2000) + usage.cached * Fraction(200) + out * Fraction(10_000)
    cost = cost_nano(priced(odd=part), msgspec.structs.replace(usage, tier="odd"), NOW)
    assert 0 <= cost - exact * part < 1
