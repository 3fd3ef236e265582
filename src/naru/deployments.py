"""From settings and catalogue to the routing table: which model names exist here, and who answers each. Pure.

A model declared in naru.toml goes first, then those of the engines; every catalogue model that an enabled provider offers comes
after them, with the catalogue's aliases; `provider/model` reaches any other model of an enabled provider.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from naru.catalog import Catalog
from naru.catalog.models import Model, Offer
from naru.config import DeploymentSettings, EngineSettings, ModelSettings, ProviderSettings, Settings
from naru.ledger.pricing import FREE, Price
from naru.protocol.dialect import CHAT, Quirks, family_of
from naru.providers import Provider
from naru.routing.table import Deployment, Hedge, Route, Table, Timeouts

NO_OFFER = Offer(provider="", upstream_model="", price=None)


class Deployments:
    """Makes deployments; knows the settings, the providers' data and the catalogue."""

    def __init__(
        self,
        settings: Settings,
        providers: Mapping[str, Provider],
        catalog: Catalog,
        dialects: Mapping[str, str],
        now: float,
    ) -> None:
        self.settings = settings
        #: Who may answer: providers, and engines as such.
        self.enabled = settings.upstreams
        self.providers = providers
        self.catalog = catalog
        #: A provider's endpoint -> the dialect spoken there.
        self.dialects = dialects
        self.now = now

    def table(self) -> Table:
        declared = {name: self._declared(model) for name, model in self.settings.models.items()}
        local = {route.name: route for route in self._local() if route.name not in declared}
        offered = {r.name: r for r in self._offered() if r.name not in declared and r.name not in local}
        routes = {**declared, **local, **offered}
        return Table(routes.values(), dict(self._aliases(routes)), self.explicit, self._hint)

    def _hint(self, name: str, known: Iterable[str]) -> str:
        """What to do about an unknown model name: enable who offers it, or take one of the nearest."""
        model = self.catalog.get(name) or self.catalog.get(name.partition("/")[2])
        kinds = [self.providers[o.provider] for o in (model.offers if model else ()) if o.provider in self.providers]
        off = [kind for kind in kinds if all(p.kind != kind.kind for p in self.settings.providers.values())]
        if off:
            ways = " or ".join(
                f"{kind.env[0]} for {kind.label}" if kind.env else f"[providers.{kind.kind}]" for kind in off
            )
            return f" Its provider is not enabled here: the operator can set {ways}."
        near = self.catalog.nearest(name, known)
        return f" Did you mean {' or '.join(near)}?" if near else ""

    def explicit(self, provider_name: str, model: str) -> Deployment | None:
        """The deployment of `provider/model` as a caller wrote it."""
        provider = self.enabled.get(provider_name)
        if provider is None or not self._speaks(provider):
            return None
        engine = self.settings.engines.get(provider_name)
        if engine is not None and engine.engine != "ollama" and model not in engine.served:
            return None
        kind = self.providers[provider.kind]
        if kind.is_catalogued and self.catalog.get(f"{kind.kind}/{model}") is None:
            return None
        return self._deployment(provider, model)

    def _speaks(self, provider: ProviderSettings) -> bool:
        return self.providers[provider.kind].dialect in self.dialects.values()

    def _declared(self, model: ModelSettings) -> Route:
        return Route(
            model.name,
            tuple(self._of_model(model, deployment) for deployment in model.deployments),
            model.fallbacks,
            model.strategy,
            model.limits,
            model.context_fallbacks,
            model.policy_fallbacks,
            model.affinity,
            model.region,
            frozenset(model.tags),
            Hedge(int(model.hedge.after[1:]) / 100, model.hedge.budget) if model.hedge is not None else None,
            model.continue_cut,
        )

    def _of_model(self, model: ModelSettings, wanted: DeploymentSettings) -> Deployment:
        return self._deployment(self.enabled[wanted.provider], wanted.model, model, wanted)

    def _local(self) -> Iterator[Route]:
        """The models of engines; of one that several have, each is a deployment."""
        found: dict[str, list[Deployment]] = {}
        for engine in self.settings.engines.values():
            for name in engine.served:
                found.setdefault(name, []).append(self._deployment(self.enabled[engine.name], name))
        for name, deployments in found.items():
            yield Route(name, tuple(deployments), strategy="least_busy" if len(deployments) > 1 else "priority")

    def _offered(self) -> Iterator[Route]:
        for model in self.catalog.models():
            deployments = tuple(
                self._deployment(provider, model.id)
                for provider in self.settings.providers.values()
                if self._speaks(provider) and _offer(model, provider.kind, provider.region) is not None
            )
            if deployments:
                yield Route(model.id, deployments)

    def _aliases(self, routes: Mapping[str, Route]) -> Iterator[tuple[str, str]]:
        for model in self.catalog.models():
            if model.id in routes:
                yield from ((alias, model.id) for alias in model.aliases if alias not in routes)
        for declared in self.settings.models.values():
            yield from ((alias, declared.name) for alias in declared.aliases)

    def _deployment(
        self,
        provider: ProviderSettings,
        name: str,
        model: ModelSettings | None = None,
        wanted: DeploymentSettings | None = None,
    ) -> Deployment:
        """`name` is a catalogue id or alias that the provider offers, else taken as the upstream's own."""
        region = (wanted.region if wanted else "") or provider.region
        entry = self.catalog.get(name) or self.catalog.get(f"{provider.kind}/{name}")
        offer = _offer(entry, provider.kind, region)
        # What follows a question mark is the sandbox's own; no provider's name has one.
        upstream = offer.upstream_model if offer is not None and "?" not in name else name
        engine = self.settings.engines.get(provider.name)
        upstream = engine.served.get(name, name) if engine is not None else upstream
        kind = self.providers[provider.kind]
        endpoints = self._endpoints(kind, upstream, entry, wanted)
        quirks = _with_catalog(kind.quirks_for(upstream), entry)
        return Deployment(
            id=f"{provider.name}/{name.removeprefix(provider.name + '/')}" + (f"@{region}" if region else ""),
            provider=provider.name,
            model=upstream,
            dialect=kind.dialect if kind.dialect in endpoints else next(iter(endpoints), kind.dialect),
            endpoints=endpoints,
            quirks=quirks,
            price=self._said(provider, model, wanted) or self._known(kind, offer, upstream, region),
            region=region,
            priority=wanted.priority if wanted else 1,
            weight=wanted.weight if wanted else 1,
            timeouts=_timeouts(model, engine),
            defaults=(offer or NO_OFFER).defaults,
            max_output=quirks.max_output,
            limits=wanted.limits if wanted else None,
            tags=frozenset(provider.tags) | frozenset(wanted.tags if wanted else ()),
            place=region or ("" if provider.base_url or not kind.hosts else next(iter(kind.hosts))),
            reasons=entry is not None and entry.capabilities.reasoning_style != "none",
        )

    def _endpoints(
        self, kind: Provider, upstream: str, entry: Model | None, wanted: DeploymentSettings | None
    ) -> dict[str, str]:
        """Dialect -> the provider's endpoint for it. Of those for conversations only the one that the deployment names, if
        it names one; of all only those of the families that the catalogue knows the model for."""
        endpoints = {name: dialect for name, dialect in self.dialects.items() if kind.takes(name, upstream)}
        only: str | None = None
        if wanted is not None and wanted.endpoint is not None:
            only = self.dialects[wanted.endpoint]
        elif not kind.hosts and not kind.address_env:
            # A server that anybody may run: which of its newer endpoints it has depends on its version.
            only = kind.dialect
        if only is not None:
            endpoints = {name: d for name, d in endpoints.items() if d == only or family_of(d) != CHAT}
        if entry is not None and entry.capabilities.endpoints:
            families = {family_of(name) for name in entry.capabilities.endpoints}
            known = {name: dialect for name, dialect in endpoints.items() if family_of(dialect) in families}
            endpoints = known or endpoints  # a model known for what this provider has no endpoint for: it may tell
        return {dialect: name for name, dialect in endpoints.items()}

    def _said(
        self, provider: ProviderSettings, model: ModelSettings | None, wanted: DeploymentSettings | None
    ) -> Price | None:
        """The operator's word: for the deployment, else the model, else the provider."""
        return (wanted and wanted.price) or (model and model.price) or provider.price

    def _known(self, kind: Provider, offer: Offer | None, upstream: str, region: str) -> Price | None:
        """The catalogue's price; free only if the operator said so for all that has none."""
        known = offer.price if offer is not None else None
        known = known or self.catalog.price(kind.priced_as or kind.kind, upstream, self.now, region or None)
        return FREE if known is None and self.settings.ledger.unpriced == "free" else known


def not_in_effect(settings: Settings) -> list[tuple[str, str]]:
    """(setting, what holds instead) for what is read and checked but not acted on by this version."""
    found = []
    if settings.store.redis.reveal() and not settings.cache.enabled:
        found.append(("store.redis", "Redis holds the response cache alone, and cache.enabled is off"))
    return found


def _with_catalog(quirks: Quirks, entry: Model | None) -> Quirks:
    """The catalogue's limit of the model's answers, before what the provider's data says of its names; and whether Claude takes
    the beginning of its answer, which is a matter of the model (of the others it is the provider's)."""
    if entry is None:
        return quirks
    takes_beginning = entry.capabilities.prefill and entry.capabilities.endpoints == ("messages",)
    return msgspec.structs.replace(
        quirks,
        max_output=entry.max_output or quirks.max_output,
        prefill="plain" if takes_beginning else quirks.prefill,
    )


def _offer(model: Model | None, kind: str, region: str) -> Offer | None:
    """The model's offer by that kind of provider, the one for the region before the one for all regions."""
    offers = [offer for offer in (model.offers if model else ()) if offer.provider == kind]
    exact = next((offer for offer in offers if offer.region == region), None)
    return exact or next((offer for offer in offers if offer.region is None), None)


def _timeouts(model: ModelSettings | None, engine: EngineSettings | None) -> Timeouts:
    start_s = engine.start_s if engine is not None else 0.0
    if model is None:
        return Timeouts(start_s=start_s)
    given = model.timeouts
    return Timeouts(given.connect_s, given.ttft_s, given.idle_s, given.total_s, start_s)
