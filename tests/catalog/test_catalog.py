"""The catalogue: its tables are whole, names find their model, and prices are the listed ones or unknown."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

import naru.catalog
from naru.catalog import load_catalog
from naru.catalog.files import ModelData, OverlayFile, RowData, SnapshotFile, decode_overlay
from naru.ledger.pricing import cost_nano
from naru.protocol.messages import Media, Usage
from naru.providers import load_providers

CATALOG = load_catalog()
DATA = Path(naru.catalog.__file__).parent / "data"
OVERLAYS = {path.stem: path for path in sorted(DATA.glob("*.json")) if path.stem != "genai_prices"}
NOW = datetime(2026, 11, 21, 20, tzinfo=UTC).timestamp()
#: Their tables are here before their dialects are.
WITHOUT_PROVIDER_YET = {"anthropic", "gemini", "clova"}
MILLION_IN = Usage(1_000_000)
MILLION_OUT = Usage(0, 1_000_000)


def usd(text: str) -> int:
    return int(Decimal(text) * 10**9)


# --- Integrity ----------------------------------------------------------------------------------------------------


def test_every_offer_names_a_provider() -> None:
    kinds = load_providers().keys() | WITHOUT_PROVIDER_YET
    assert {offer.provider for model in CATALOG.models() for offer in model.offers} <= kinds


def test_a_name_means_one_model() -> None:
    names = [name.lower() for model in CATALOG.models() for name in (model.id, *model.aliases)]
    assert sorted(names) == sorted(set(names))


def test_regions_of_offers_exist() -> None:
    providers = load_providers()
    for model in CATALOG.models():
        for offer in model.offers:
            if offer.region:
                assert providers[offer.provider].base_url(offer.region)


@pytest.mark.parametrize("name", OVERLAYS)
def test_every_price_has_a_source_and_a_date(name: str) -> None:
    file = decode_overlay(OVERLAYS[name].read_bytes())
    assert file.source
    assert datetime.fromisoformat(file.as_of)
    assert {model.can for model in file.models} - {""} <= file.presets.keys()
    for model, offer in load_catalog(Decimal(1390)).offers(file.provider):
        if offer.price is not None:
            assert offer.price.source, model.id
            assert datetime.fromisoformat(offer.price.as_of)


def test_models_have_what_routing_reads() -> None:
    for model in CATALOG.models():
        assert model.label
        assert model.family
        assert model.source
        assert model.offers
        assert model.capabilities.endpoints
        assert model.context is None or model.context >= 1000


def test_tiers_start_within_the_context() -> None:
    for model in CATALOG.models():
        for offer in model.offers:
            for row in offer.price.rows if offer.price else ():
                assert model.context is None or row.min_input_tokens <= model.context or model.id == "qwen-plus", (
                    model.id
                )


# --- The seed documents' rows ---------------------------------------------------------------------------------------

SEEDS = [
    ("qwen3-235b-moe-tool-use", "0.42", "0.42"),
    ("hyperclova-x-omni", "3.50", "10.50"),
    ("hyperclova-x-omni-fast", "1.50", "4.50"),
    ("deepseek-chat", "0.42", "0.42"),
    ("deepseek-v3", "0.42", "0.42"),
    ("deepseek-v3.2", "0.42", "0.42"),
    ("deepseek-coder", "0.42", "0.42"),
]


@pytest.mark.parametrize(("name", "price_in", "price_out"), SEEDS)
def test_seed_prices_stand_as_written(name: str, price_in: str, price_out: str) -> None:
    price = CATALOG.price("holysheep", name, NOW)
    assert price.source == "seed"
    assert cost_nano(price, MILLION_IN, NOW) == usd(price_in)
    assert cost_nano(price, MILLION_OUT, NOW) == usd(price_out)


@pytest.mark.parametrize(
    ("name", "thinking"),
    [
        ("deepseek-chat", "disabled"),
        ("deepseek-v3", "disabled"),
        ("deepseek-v3.2", "disabled"),
        ("deepseek-coder", "disabled"),
        ("deepseek-reasoner", "enabled"),
    ],
)
def test_retired_deepseek_ids_are_answered_by_flash(name: str, thinking: str) -> None:
    [offer] = [offer for offer in CATALOG.get(name).offers if offer.provider == "deepseek"]
    assert offer.upstream_model == "deepseek-flash"
    assert {key: msgspec.json.decode(raw) for key, raw in offer.defaults.items()} == {"thinking": {"type": thinking}}
    assert CATALOG.price("deepseek", name, NOW) == offer.price == CATALOG.price("deepseek", "deepseek-flash", NOW)


# --- Names --------------------------------------------------------------------------------------------------------


def test_get_by_id_alias_and_case() -> None:
    assert CATALOG.get("gpt-5.6-sol").id == "gpt-5.6"
    assert CATALOG.get("GPT-5.4").id == "gpt-5.4"
    assert CATALOG.get("hcx-007").id == "HCX-007"
    assert CATALOG.get("no-such-model") is None
    assert CATALOG.get("") is None
    assert CATALOG.get("openai/no-such-model") is None


def test_sandbox_names_may_carry_a_query() -> None:
    assert CATALOG.get("sandbox/echo?ttft_ms=300&tps=50").id == "sandbox/echo"
    price = CATALOG.price("sandbox", "sandbox/echo?status=429", NOW)
    assert price == CATALOG.price("sandbox", "sandbox/echo", NOW)
    assert (cost_nano(price, MILLION_IN, NOW), cost_nano(price, MILLION_OUT, NOW)) == (usd("0.10"), usd("0.40"))
    assert price.source == "sandbox"
    assert {model.id for model, _ in CATALOG.offers("sandbox")} == {
        "sandbox/echo",
        "sandbox/tools",
        "sandbox/think",
        "sandbox/json",
        "sandbox/embed",
        "sandbox/rerank",
        "sandbox/transcribe",
        "sandbox/speech",
        "sandbox/image",
    }
    assert all("play money" in model.label for model, _ in CATALOG.offers("sandbox"))


def test_a_dated_snapshot_keeps_its_own_name_and_price() -> None:
    """gpt-4o-2024-05-13 costs twice what the family costs today: the price file knows, so the family must not answer."""
    old, new = CATALOG.get("gpt-4o-2024-05-13"), CATALOG.get("gpt-4o-2024-08-06")
    assert [offer.upstream_model for offer in old.offers] == ["gpt-4o-2024-05-13"]
    assert old.context == 128_000
    assert cost_nano(old.offers[0].price, MILLION_IN, NOW) == usd("5")
    assert cost_nano(new.offers[0].price, MILLION_IN, NOW) == usd("2.5")
    assert CATALOG.price("openai", "gpt-4o-2024-08-06", NOW) == new.offers[0].price


def test_a_dated_snapshot_that_no_file_lists_costs_as_its_family() -> None:
    assert CATALOG.price("anthropic", "claude-haiku-4-5-20251001", NOW) == CATALOG.price(
        "anthropic", "claude-haiku-4-5", NOW
    )


def test_a_model_that_only_the_snapshot_knows_is_reached_through_its_provider() -> None:
    model = CATALOG.get("groq/llama-3.3-70b-versatile")
    assert (model.offers[0].provider, model.offers[0].upstream_model) == ("groq", "llama-3.3-70b-versatile")
    assert "groq/llama-3.3-70b-versatile" in {found.id for found, _ in CATALOG.offers("groq")}


def test_nearest_names() -> None:
    assert CATALOG.nearest("gpt4o")[0] == "gpt-4o"
    assert "deepseek-chat" in CATALOG.nearest("deepseek-caht")
    assert "HCX-007" in CATALOG.nearest("hcx-07")
    assert CATALOG.nearest("Fast", known=["fast", "slow"]) == ["fast"]
    assert CATALOG.nearest("xyzzy-999999") == []
    assert len(CATALOG.nearest("claude-opus", limit=2)) == 2


# --- Prices -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("moment", "price_in", "price_out"),
    [
        ("2026-11-20T00:30", "0.15", "0.60"),
        ("2026-11-20T01:00", "0.30", "1.20"),
        ("2026-11-20T05:00", "0.15", "0.60"),
        ("2026-11-20T09:59", "0.30", "1.20"),
        ("2026-11-20T10:00", "0.15", "0.60"),
        ("2026-11-21T02:00", "0.15", "0.60"),
        ("2026-10-07T02:00", "0.15", "0.60"),
        ("2026-10-08T02:00", "0.30", "1.20"),
    ],
)
def test_deepseek_costs_double_at_peak(moment: str, price_in: str, price_out: str) -> None:
    start = datetime.fromisoformat(moment).replace(tzinfo=UTC).timestamp()
    price = CATALOG.price("deepseek", "deepseek-flash", start)
    assert cost_nano(price, MILLION_IN, start) == usd(price_in)
    assert cost_nano(price, MILLION_OUT, start) == usd(price_out)


def test_qwen_tiers_and_thinking() -> None:
    price = CATALOG.price("dashscope", "qwen3-coder-plus", NOW)
    for tokens, rate in ((32_000, "1"), (32_001, "1.8"), (128_001, "3"), (256_001, "6")):
        assert cost_nano(price, Usage(tokens), NOW) == tokens * usd(rate) // 10**6
    thinking = Usage(0, 1_000_000, reasoning=1)
    assert cost_nano(CATALOG.price("dashscope", "qwen-plus", NOW), thinking, NOW) == usd("4")


def test_regions_have_their_own_prices_or_none() -> None:
    here = CATALOG.price("dashscope", "qwen3-235b-a22b", NOW)
    assert here == CATALOG.price("dashscope", "qwen3-235b-a22b", NOW, "sg")
    assert cost_nano(CATALOG.price("dashscope", "qwen3-235b-a22b", NOW, "cn"), MILLION_IN, NOW) == usd("0.287")
    assert CATALOG.price("dashscope", "qwen-plus", NOW, "cn") is None, "Beijing's list was not written down"
    assert CATALOG.price("openai", "gpt-4o", NOW, "anywhere") is not None, "one list for all regions"


def test_gemini_promotions_end_on_their_day() -> None:
    december = datetime(2026, 12, 1, tzinfo=UTC).timestamp()
    price = CATALOG.price("gemini", "gemini-4-argon", NOW)
    assert cost_nano(price, MILLION_OUT, december - 1) == usd("10")
    assert cost_nano(price, MILLION_OUT, december) == usd("20")


def test_anthropic_hour_long_cache_costs_twice_the_input() -> None:
    price = CATALOG.price("anthropic", "claude-opus-5", NOW)
    assert cost_nano(price, Usage(1_000_000, cache_write_1h=1_000_000), NOW) == usd("10")
    assert cost_nano(price, Usage(1_000_000, cache_write=1_000_000), NOW) == usd("6.25")


def test_won_need_a_rate_and_keep_their_currency() -> None:
    assert CATALOG.price("clova", "HCX-007", NOW) is None
    price = load_catalog(Decimal(1250)).price("clova", "HCX-007", NOW)
    assert (price.currency, price.fx) == ("KRW", "1250 KRW/USD")
    assert cost_nano(price, MILLION_IN, NOW) == usd("1")
    assert cost_nano(price, MILLION_OUT, NOW) == usd("4")
    assert price.version != load_catalog(Decimal(1300)).price("clova", "HCX-007", NOW).version


@pytest.mark.parametrize(
    ("kind", "model"),
    [
        ("clova", "HCX-005"),
        ("dashscope", "text-embedding-v4"),
        ("openai", "no-such-model"),
        ("openai", "dall-e-3"),
        ("openai", "gpt-image-1"),
        ("no-such-kind", "gpt-4o"),
        ("vllm", "gpt-4o"),
        ("huggingface", "Qwen/Qwen3-235B-A22B-Instruct-2507"),
    ],
)
def test_what_nobody_knows_is_unpriced_not_free(kind: str, model: str) -> None:
    assert load_catalog(Decimal(1390)).price(kind, model, NOW) is None


def test_only_free_models_are_free() -> None:
    assert not any(offer.price.is_free for model in CATALOG.models() for offer in model.offers if offer.price)


def test_a_price_whose_dates_are_over_is_unpriced() -> None:
    row = RowData(input=Decimal(1), until=datetime(2026, 1, 1, tzinfo=UTC).date())
    file = OverlayFile(provider="p", source="s", as_of="2025-01-01", models=(ModelData(id="m", price=(row,)),))
    catalog = naru.catalog.Catalog([file], DATA / "genai_prices.json")
    assert catalog.price("p", "m", NOW) is None
    assert catalog.price("p", "m", datetime(2025, 12, 31, tzinfo=UTC).timestamp()) is not None


def test_our_table_wins_over_the_snapshot() -> None:
    snapshot = msgspec.json.decode((DATA / "genai_prices.json").read_bytes(), type=SnapshotFile)
    assert snapshot.find("openai", "gpt-4o") is not None
    assert CATALOG.price("openai", "gpt-4o", NOW).source.startswith("litellm")


def test_starting_reads_neither_the_price_package_nor_its_snapshot() -> None:
    code = (
        "import sys; from naru.catalog import load_catalog; catalog = load_catalog(); "
        "catalog.price('openai', 'gpt-4o', 0); catalog.get('deepseek-chat'); assert catalog._snapshot is None; "
        "catalog.price('openai', 'gpt-4o-2024-08-06', 0); assert catalog._snapshot is not None; "
        "print([name for name in sys.modules if name.startswith(('genai_prices', 'pydantic', 'httpx'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("model", "family", "usage", "nano"),
    [
        # USD 0.36 and 0.27 an hour, 15 a million characters, 0.111 an hour for at least ten seconds
        ("whisper-1", "transcription", Usage(media=Media("second", 60)), 6_000_000),
        ("gpt-transcribe", "transcription", Usage(media=Media("second", 60)), 4_500_000),
        ("tts-1", "speech", Usage(media=Media("character", 1000)), 15_000_000),
        ("groq/whisper-large-v3", "translation", Usage(media=Media("second", 1)), 308_334),
        # USD 6 a million tokens of sound, 2.5 of text, 10 out; 8 of images in, 5 of text, 30 out
        ("gpt-4o-transcribe", "transcription", Usage(110, 10, audio_input=100, media=Media("second", 10)), 725_000),
        ("gpt-image-2.5-flare", "edits", Usage(110, 10, media=Media("image", 1, False, 100, 10)), 1_150_000),
    ],
)
def test_sound_and_images_are_priced_and_known_for_what_they_do(
    model: str, family: str, usage: Usage, nano: int
) -> None:
    found = CATALOG.get(model)
    assert found is not None
    assert family in found.capabilities.endpoints
    price = found.offers[0].price
    assert price is not None
    assert cost_nano(price, usage, NOW) == nano
    assert (price.source, price.as_of) == ("genai-prices 0.2.3", "2026-11-10")
