"""The generated price file is what its tool makes, is small, and agrees with the package it came from."""

from __future__ import annotations

import importlib.util
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType

import pytest

from naru.catalog import load_catalog
from naru.catalog.files import SnapshotFile, decode_snapshot
from naru.ledger.pricing import cost_nano
from naru.protocol.messages import Usage
from naru.providers import load_providers

ROOT = Path(__file__).parent.parent.parent
FILE = ROOT / "src/naru/catalog/data/genai_prices.json"
MOMENT = datetime(2026, 11, 20, 12, tzinfo=UTC)

genai_prices = pytest.importorskip("genai_prices", reason="a development dependency")


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("build_prices", ROOT / "tools/build_prices.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def snapshot() -> SnapshotFile:
    return decode_snapshot(FILE.read_bytes())


def test_regenerating_gives_the_committed_file(tool: ModuleType) -> None:
    assert tool.build() == FILE.read_text(encoding="utf-8")


def test_it_is_small_dated_and_sourced(snapshot: SnapshotFile) -> None:
    assert FILE.stat().st_size < 300_000
    assert (snapshot.source, snapshot.as_of) == ("genai-prices 0.2.3", "2026-11-10")


def test_its_kinds_are_providers_of_ours_and_its_ids_unique(snapshot: SnapshotFile) -> None:
    assert snapshot.kinds.keys() <= load_providers().keys()
    for models in snapshot.kinds.values():
        ids = [model.id for model in models]
        assert len(ids) == len(set(ids))


def test_deepseek_is_left_to_our_own_table(snapshot: SnapshotFile) -> None:
    assert "deepseek" not in snapshot.kinds


def test_every_entry_is_a_valid_price(snapshot: SnapshotFile) -> None:
    catalog = load_catalog()
    for kind in snapshot.kinds.keys() - {"openai"}:
        offers = catalog.offers(kind)
        upstreams = {offer.upstream_model for _, offer in offers}
        assert {entry.id for entry in snapshot.kinds[kind]} <= upstreams
        assert not any(offer.price.is_free for _, offer in offers)


@pytest.mark.parametrize(
    ("kind", "package", "names"),
    [
        ("openai", "openai", ["gpt-4o-2024-08-06", "gpt-5.4-2026-03-05", "o1-2024-12-17", "gpt-6.1-sol-2026-10-01"]),
        ("xai", "x-ai", ["grok-4.3", "grok-4.3-20260501", "grok-4.20", "grok-4-fast"]),
        ("groq", "groq", ["llama-3.3-70b-versatile", "openai/gpt-oss-120b"]),
        ("mistral", "mistral", ["mistral-large-latest", "mistral-small-latest", "codestral-latest"]),
        ("openrouter", "openrouter", ["anthropic/claude-opus-4.6", "google/gemini-2.5-pro"]),
        ("zai", "zai", ["glm-4.6"]),
        (
            "bedrock",
            "aws",
            [
                "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
                "global.anthropic.claude-haiku-5-5",
                "anthropic.claude-3-5-haiku-20241022-v1:0",
                "eu.amazon.nova-pro-v1:0",
                "meta.llama3-3-70b-instruct-v1:0",
                "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude-opus-4-6-v1",
            ],
        ),
    ],
)
def test_it_bills_as_the_package_does(snapshot: SnapshotFile, kind: str, package: str, names: list[str]) -> None:
    catalog = load_catalog()
    for name in names:
        entry = snapshot.find(kind, name)
        assert entry is not None, name
        for tokens in (1000, 199_999, 200_001, 300_000):
            usage = genai_prices.Usage(input_tokens=tokens, output_tokens=1000)
            theirs = genai_prices.calc_price(usage, name, provider_id=package, genai_request_timestamp=MOMENT)
            ours = cost_nano(catalog._snapshot_price(kind, entry), Usage(tokens, 1000), MOMENT.timestamp())
            assert ours == theirs.total_price * 10**9, (name, tokens)


def test_names_are_recognised_as_the_package_does(snapshot: SnapshotFile) -> None:
    """Every id of the package leads to the model that the package itself finds, or to none where we keep none."""
    from_package = {provider.id: provider for provider in genai_prices.data.providers}
    for kind, package in (
        ("openai", "openai"),
        ("xai", "x-ai"),
        ("mistral", "mistral"),
        ("groq", "groq"),
        ("bedrock", "aws"),
    ):
        for model in from_package[package].models:
            theirs, ours = from_package[package].find_model(model.id), snapshot.find(kind, model.id.lower())
            assert ours is None or ours.id == theirs.id
