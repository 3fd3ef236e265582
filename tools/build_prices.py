"""Writes src/naru/catalog/data/genai_prices.json from the pinned genai-prices package (`make prices`).

genai-prices (MIT, https://github.com/pydantic/genai-prices) is a development dependency: it needs pydantic and httpx2,
which the product must not load. What is kept: token prices, tiers, dates and the names a model goes by, for the
providers Naru has. What is left out, so that such a model stays unpriced rather than billed wrongly:
models priced by the hour, page, character or image token, and models whose cached audio costs other than cached text.
DeepSeek is left out because its hours are weekly, which the package cannot say; our own table has it.
Service tiers are kept as parts of the price (the dearest part, where a list rounds its figures), searches by the call.
"""

from __future__ import annotations

import json
import re
import sys
from decimal import ROUND_CEILING, Decimal
from fractions import Fraction
from importlib.metadata import version
from pathlib import Path
from typing import Any

from genai_prices.data import providers
from genai_prices.types import (
    ClauseContains,
    ClauseEndsWith,
    ClauseEquals,
    ClauseOr,
    ClauseRegex,
    ClauseStartsWith,
    ConditionalPrice,
    ModelInfo,
    ModelPrice,
    StartDateConstraint,
    TieredPrices,
)

VERSION = "0.2.3"
#: The day that version appeared on PyPI.
AS_OF = "2026-11-10"
TARGET = Path(__file__).parent.parent / "src/naru/catalog/data/genai_prices.json"

KINDS = {
    "aws": "bedrock",
    "cerebras": "cerebras",
    "groq": "groq",
    "mistral": "mistral",
    "openai": "openai",
    "openrouter": "openrouter",
    "together": "together",
    "x-ai": "xai",
    "zai": "zai",
}
HUGGINGFACE = "huggingface_"
FIELDS = {
    "input_mtok": "input",
    "output_mtok": "output",
    "cache_read_mtok": "cached",
    "cache_write_mtok": "cache_write",
    "cache_write_1h_mtok": "cache_write_1h",
    "input_audio_mtok": "audio_input",
    "output_audio_mtok": "audio_output",
    "output_reasoning_mtok": "reasoning",
}
FEES = {"web_searches_kcount": "web_search", "storage_searches_kcount": "file_search"}
CACHED_AUDIO = "cache_audio_read_mtok"


def rows_of(model: ModelInfo) -> list[dict[str, Any]] | None:
    """The price rows of a model in our file format, or None when its units are not ours."""
    rows: list[dict[str, Any]] = []
    prices = model.prices if isinstance(model.prices, list) else [ConditionalPrice(prices=model.prices)]
    for index, conditional in enumerate(prices):
        tiers = tiers_of(conditional.prices)
        if tiers is None:
            return None
        constraint = conditional.constraint
        if constraint is not None and not isinstance(constraint, StartDateConstraint):
            return None  # hours of the day: none of our providers is priced so by the package
        # the package bills by its first price when no date fits, so the first one holds from ever
        since = {} if index == 0 or constraint is None else {"from": constraint.start_date.isoformat()}
        rows += [{**tier, **since} for tier in tiers]
    return rows


def tiers_of(price: ModelPrice) -> list[dict[str, Any]] | None:
    units = {name: value for name, value in price.__dict__.items() if value is not None and name not in FEES}
    if units.get(CACHED_AUDIO) == units.get("cache_read_mtok"):
        units.pop(CACHED_AUDIO, None)
    if "input_mtok" not in units or not units.keys() <= FIELDS.keys():
        return None
    starts = {tier.start for value in units.values() if isinstance(value, TieredPrices) for tier in value.tiers}
    rows = []
    for start in [0, *sorted(starts)]:
        row = {FIELDS[name]: number(at(value, start)) for name, value in units.items()}
        rows.append({**row, "above": start} if start else row)
    return rows


def at(value: Any, start: int) -> Any:
    """The rate just above `start` input tokens."""
    if not isinstance(value, TieredPrices):
        return value
    reached = [tier.price for tier in value.tiers if tier.start <= start]
    return reached[-1] if start and reached else value.base


def number(value: Decimal) -> str:
    """A nano-dollar is the smallest part: resellers' converted figures (1/12 USD) are rounded up to it."""
    return format(value.quantize(Decimal("1e-9"), ROUND_CEILING).normalize(), "f")


def names_of(model: ModelInfo) -> dict[str, Any]:
    """How the model is recognised: exact names (left out when it is the id alone), beginnings, patterns.

    Raises TypeError on a rule that our format does not have.
    """
    clauses = model.match.or_ if isinstance(model.match, ClauseOr) else [model.match]
    names, starts, patterns = [], [], []
    for clause in clauses:
        if isinstance(clause, ClauseEquals):
            names.append(clause.equals.lower())
        elif isinstance(clause, ClauseStartsWith):
            starts.append(clause.starts_with.lower())
        elif isinstance(clause, ClauseRegex):
            patterns.append(clause.regex)
        elif isinstance(clause, ClauseContains):
            patterns.append(re.escape(clause.contains.lower()))
        elif isinstance(clause, ClauseEndsWith):
            patterns.append(f"{re.escape(clause.ends_with.lower())}$")
        else:
            raise TypeError(f"{model.id}: unknown rule {clause}")
    names = list(dict.fromkeys(names))
    found = {} if names == [model.id.lower()] else {"names": names}
    return found | {key: value for key, value in (("starts", starts), ("patterns", patterns)) if value}


def entry(model: ModelInfo, suffix: str) -> dict[str, Any] | None:
    rows = rows_of(model)
    if not rows:
        return None
    names = names_of(model)
    if suffix:
        if set(names) - {"names"}:
            raise TypeError(f"{model.id}: only exact names can carry the provider's suffix")
        names = {key: [name + suffix for name in value] for key, value in names.items()}
    context = {"context": model.context_window} if model.context_window else {}
    more = {key: value for key, value in (("tiers", tiers_for(model)), ("tools", tools_for(model))) if value}
    return {"id": model.id + suffix, **names, **context, "price": rows, **more}


def current(prices: Any) -> ModelPrice:
    """The price in force on AS_OF."""
    if not isinstance(prices, list):
        return prices
    begun = [each.prices for each in prices if each.constraint is None or has_begun(each.constraint)]
    return begun[-1]


def has_begun(constraint: Any) -> bool:
    return not isinstance(constraint, StartDateConstraint) or constraint.start_date.isoformat() <= AS_OF


def tiers_for(model: ModelInfo) -> dict[str, str]:
    """Each tier as a part of the price. The lists name it by `service_tier`, or `processing` (batch)."""
    base, found = current(model.prices).__dict__, {}
    for variant in model.price_variants or ():
        names = [value for key, value in variant.when.items() if key in ("service_tier", "processing")]
        if len(variant.when) != 1 or not names or names[0] in found or not has_begun(variant.constraint):
            continue
        theirs = {key: value for key, value in variant.prices.__dict__.items() if value is not None}
        parts = [Fraction(at(value, 0)) / Fraction(at(base[key], 0)) for key, value in theirs.items() if base.get(key)]
        if parts:
            found[names[0]] = str(max(parts))
    return found


def tools_for(model: ModelInfo) -> dict[str, str]:
    """Money for a thousand calls."""
    base = current(model.prices).__dict__
    return {name: number(base[fee]) for fee, name in FEES.items() if base.get(fee) is not None}


def build() -> str:
    """The file's text. The same package gives the same bytes. Raises RuntimeError for another version."""
    if version("genai-prices") != VERSION:
        raise RuntimeError(f"genai-prices {VERSION} is pinned here, {version('genai-prices')} is installed")
    kinds: dict[str, list[dict[str, Any]]] = {}
    for provider in sorted(providers, key=lambda provider: provider.id):
        kind, suffix = KINDS.get(provider.id), ""
        if provider.id.startswith(HUGGINGFACE):
            kind, suffix = "huggingface", ":" + provider.id.removeprefix(HUGGINGFACE)
        if kind:
            kinds.setdefault(kind, []).extend(
                found for model in provider.models if has_price(model) and (found := entry(model, suffix))
            )
    return render(kinds)


def has_price(model: ModelInfo) -> bool:
    """Moderation has none, and is matched by a part of its name, which nothing else is."""
    return isinstance(model.prices, list) or any(value is not None for value in model.prices.__dict__.values())


def render(kinds: dict[str, list[dict[str, Any]]]) -> str:
    def compact(value: Any) -> str:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))

    blocks = [f"{compact(kind)}:[\n" + ",\n".join(map(compact, models)) + "\n]" for kind, models in kinds.items()]
    head = f'"source":{compact(f"genai-prices {VERSION}")},\n"as_of":{compact(AS_OF)},\n"kinds":'
    return "{" + head + "{\n" + ",\n".join(blocks) + "\n}}\n"


def main() -> None:
    text = build()
    TARGET.write_text(text, encoding="utf-8")
    sys.stderr.write(f"{TARGET.name}: {len(text.encode()):,} bytes\n")


if __name__ == "__main__":
    main()
