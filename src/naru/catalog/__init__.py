"""What the models are: names, limits, capabilities, prices, and who offers them.

Two layers, the upper one wins: our own tables (data/*.json, one per provider, and the seed documents' rows), then the
snapshot of genai-prices (data/genai_prices.json), which is read only when a name is asked that the tables do not have.
What neither knows is unpriced: None, never zero. An operator's own price stands above both, in the configuration.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path

import msgspec

from naru.catalog.files import (
    ModelData,
    Origin,
    OverlayFile,
    Service,
    SnapshotFile,
    SnapshotModel,
    decode_overlay,
    decode_snapshot,
    price_of,
)
from naru.catalog.models import Capabilities, Model, Offer
from naru.ledger.pricing import Price

__all__ = ["Capabilities", "Catalog", "Model", "Offer", "load_catalog"]

DATA = Path(__file__).parent / "data"
SNAPSHOT = "genai_prices.json"
#: gpt-4o-2024-08-06, claude-haiku-4-5-20251001: the end that makes a name a dated snapshot of its family.
DATED = re.compile(r"-(20\d\d-?(0[1-9]|1[0-2])-?(0[1-9]|[12]\d|3[01]))$")

#: (provider kind, lower-case name) -> region or "" -> price
Prices = dict[tuple[str, str], dict[str, Price | None]]


class Catalog:
    """Read-only after loading, but for what it remembers of the snapshot. Names are matched without regard to case.

    Names may carry a query (`sandbox/echo?ttft_ms=300`), which is no part of the model; the caller keeps it.
    """

    def __init__(self, files: Iterable[OverlayFile], snapshot: Path, krw_per_usd: Decimal | None = None) -> None:
        self._models: dict[str, Model] = {}
        self._prices: Prices = {}
        self._snapshot_path = snapshot
        self._snapshot: SnapshotFile | None = None
        self._snapshot_prices: dict[tuple[str, str], Price] = {}
        for file in files:
            for data in file.models:
                self._add(file, data, krw_per_usd)
        self._ids = {name.lower(): model.id for model in self._models.values() for name in (model.id, *model.aliases)}

    def get(self, name: str) -> Model | None:
        """By id, alias, dated snapshot of a model, or `kind/upstream-name` for what only the snapshot knows."""
        bare = name.partition("?")[0]
        found = self._ids.get(bare.lower())
        if found is not None:
            return self._models[found]
        return self._dated(bare) or self._from_snapshot(bare)

    def nearest(self, name: str, known: Iterable[str] | None = None, limit: int = 3) -> list[str]:
        """Names like `name`, the most alike first; from `known` when given, else ids and aliases."""
        names = {item.lower(): item for item in (self.names() if known is None else known)}
        wanted = name.partition("?")[0].lower()
        close = difflib.get_close_matches(wanted, names, n=limit, cutoff=0.5)
        return [names[item] for item in close]

    def names(self) -> list[str]:
        """Ids and aliases of our own tables."""
        return [name for model in self._models.values() for name in (model.id, *model.aliases)]

    def models(self) -> tuple[Model, ...]:
        """Every model of our own tables, in the order of the files."""
        return tuple(self._models.values())

    def offers(self, provider_kind: str) -> list[tuple[Model, Offer]]:
        """What a provider offers: what our tables have of it, then what only the snapshot has, under `kind/name`."""
        pairs = ((model, offer) for model in self._models.values() for offer in model.offers)
        ours = [(model, offer) for model, offer in pairs if offer.provider == provider_kind]
        found = self._load_snapshot().kinds.get(provider_kind, ())
        rest = (entry for entry in found if (provider_kind, entry.id.lower()) not in self._prices)
        models = (self._snapshot_model(provider_kind, entry.id, entry) for entry in rest)
        return [*ours, *((model, model.offers[0]) for model in models)]

    def price(self, provider_kind: str, upstream_model: str, at: float, region: str | None = None) -> Price | None:
        """The list price of a model at a provider for a request that starts at `at` (Unix seconds); None: unpriced.

        `region` None is the provider's default region. A region with a list of its own gets that one, and a region
        whose list nobody wrote down gets none: prices differ between regions.
        """
        price = self._listed(provider_kind, upstream_model.partition("?")[0].lower(), region)
        return price if price is not None and price.covers(at) else None

    # --- how the tables are read

    def _add(self, file: OverlayFile, data: ModelData, krw_per_usd: Decimal | None) -> None:
        source = data.source or file.source
        origin = Origin(source, data.as_of or file.as_of, file.currency, krw_per_usd)
        service = Service({**file.tiers, **data.tiers}, {**file.tools, **data.tools})
        price = price_of(data.price, origin, file.windows, service)
        region = data.region or file.region or None
        offer = Offer(
            provider=file.provider,
            upstream_model=data.upstream or data.id,
            price=price,
            region=region,
            defaults=data.defaults,
        )
        for name in (data.id, data.upstream or data.id, *data.aliases):
            self._prices.setdefault((file.provider, name.lower()), {}).setdefault(region or "", price)
        known = self._models.get(data.id)
        if known is None:
            known = Model(
                id=data.id,
                label=data.label or data.id,
                family=data.family,
                source=source,
                context=data.context,
                max_output=data.max_output,
                capabilities=file.presets[data.can] if data.can else Capabilities(),
                retires=data.retires,
            )
        aliases = tuple(dict.fromkeys((*known.aliases, *data.aliases)))
        self._models[data.id] = msgspec.structs.replace(known, aliases=aliases, offers=(*known.offers, offer))

    # --- how a price is found

    def _listed(self, kind: str, name: str, region: str | None) -> Price | None:
        ours = self._prices.get((kind, name))
        if ours is not None:
            return _of_region(ours, region)
        entry = self._load_snapshot().find(kind, name)
        if entry is not None:
            return self._snapshot_price(kind, entry)
        family = DATED.sub("", name)
        return _of_region(self._prices.get((kind, family), {}), region)

    def _load_snapshot(self) -> SnapshotFile:
        if self._snapshot is None:
            self._snapshot = decode_snapshot(self._snapshot_path.read_bytes())
        return self._snapshot

    def _snapshot_price(self, kind: str, entry: SnapshotModel) -> Price:
        """Remembered by the entry, not by the name asked: names are the callers', and without end."""
        price = self._snapshot_prices.get((kind, entry.id))
        if price is None:
            file = self._load_snapshot()
            price = price_of(entry.price, Origin(file.source, file.as_of), {}, Service(entry.tiers, entry.tools))
            if price is None:
                raise ValueError(f"{self._snapshot_path.name}: {entry.id} has no rows")
            self._snapshot_prices[kind, entry.id] = price
        return price

    # --- models that are not in the tables under their name

    def _dated(self, name: str) -> Model | None:
        """A dated snapshot keeps its own name upstream and, where the snapshot file knows it, its own price."""
        family_id = self._ids.get(DATED.sub("", name.lower()))
        if family_id is None:
            return None
        family = self._models[family_id]
        offers = tuple(
            msgspec.structs.replace(
                offer, upstream_model=name, price=self._listed(offer.provider, name.lower(), offer.region)
            )
            for offer in family.offers
            if offer.upstream_model == family.id
        )
        return msgspec.structs.replace(family, id=name, label=name, aliases=(), offers=offers) if offers else None

    def _from_snapshot(self, name: str) -> Model | None:
        kind, slash, upstream = name.partition("/")
        entry = self._load_snapshot().find(kind, upstream.lower()) if slash else None
        return None if entry is None else self._snapshot_model(kind, upstream, entry)

    def _snapshot_model(self, kind: str, upstream: str, entry: SnapshotModel) -> Model:
        offer = Offer(provider=kind, upstream_model=upstream, price=self._snapshot_price(kind, entry))
        return Model(
            id=f"{kind}/{upstream}",
            label=upstream,
            family=kind,
            source=self._load_snapshot().source,
            context=entry.context,
            capabilities=Capabilities(endpoints=()),  # the snapshot has prices of every kind of model
            offers=(offer,),
        )


def _of_region(prices: dict[str, Price | None], region: str | None) -> Price | None:
    if region is None:
        return next(iter(prices.values()), None)
    return prices.get(region, prices.get(""))


def load_catalog(krw_per_usd: Decimal | None = None) -> Catalog:
    """The catalogue with the product's own data. Without `krw_per_usd`, prices listed in won are unknown (None)."""
    files = [decode_overlay(path.read_bytes()) for path in sorted(DATA.glob("*.json")) if path.name != SNAPSHOT]
    return Catalog(files, DATA / SNAPSHOT, krw_per_usd)
