"""The routes: for each model name a caller may use, the deployments that can answer it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import Any, Literal

import msgspec

from naru.errors import BadRequest, NotFound
from naru.ledger.pricing import Price
from naru.limits.meters import Limits
from naru.protocol.bridge import Upstream
from naru.protocol.dialect import CHAT, MEDIA_FAMILIES, Envelope, Quirks, family_of


class Timeouts(msgspec.Struct, frozen=True):
    """Seconds. `ttft_s` runs from the request to the first content; `idle_s` is the longest silence after that; `total_s` covers
    all attempts. None: by the size of the request and by whether the model thinks first (deadlines.py). `start_s` is added to
    the time to connect, and to the whole where nobody said otherwise: a local engine may have to be started first."""

    connect_s: float = 5.0
    ttft_s: float | None = None
    idle_s: float = 60.0
    total_s: float | None = None
    start_s: float = 0.0


#: How a conversation stays with a deployment (affinity.py).
Affinity = Literal["off", "session", "prefix"]


class Deployment(msgspec.Struct, frozen=True):
    """One model at one provider, in one region, under one credential.

    `id` is for people and headers; `model` is the upstream's own name; `dialect` is what it is spoken to in, unless
    `endpoints` (dialect -> path) has the caller's own; `defaults` are body fields in `dialect`, set where the caller set
    none; `price` None means unpriced, and an unpriced deployment is never called. `place` is where it is known to run: its
    region, or the one that its provider has unless another is said; "" where nobody knows. `reasons`: the model may think before
    it says anything.
    """

    id: str
    provider: str
    model: str
    dialect: str
    quirks: Quirks = Quirks()
    price: Price | None = None
    region: str = ""
    priority: int = 1
    weight: int = 1
    timeouts: Timeouts = Timeouts()
    defaults: Mapping[str, Any] = {}
    endpoints: Mapping[str, str] = {}
    max_output: int | None = None
    limits: Limits | None = None
    tags: frozenset[str] = frozenset()
    place: str = ""
    reasons: bool = False

    def is_in(self, region: str) -> bool:
        """Whether what it is sent stays in `region`; "kr" holds "kr-gov" too, and "" is anywhere."""
        return not region or self.place == region or self.place.startswith(region + "-")

    @property
    def upstream(self) -> Upstream:
        return Upstream(self.model, self.quirks, self.defaults, f"{self.provider}/{self.model}")

    def spoken(self, client: str, envelope: Envelope) -> str:
        """The dialect to speak to it for a caller of dialect `client`: the same where it can, so that nothing is lost, else
        another of the same family. Only for who `can_speak`.

        OpenAI's newer models refuse tools on chat completions while they reason (providers.md A5.3); Responses takes both.
        """
        if client not in self.endpoints:
            if (family := family_of(client)) != CHAT:
                return next((name for name in self.endpoints if family_of(name) == family), self.dialect)
            preferred = "openai_responses" if self.quirks.tools_need_responses else self.dialect
            return preferred if preferred in self.endpoints else self.dialect
        is_refused = client == "openai_chat" and self.quirks.tools_need_responses and "tools" in envelope.fields
        if not is_refused or bytes(envelope.fields.get("reasoning_effort", b"")) == b'"none"':
            return client
        return "openai_responses" if "openai_responses" in self.endpoints else client

    def can_bill(self, client: str) -> bool:
        """Whether its price has a figure for what a request in the caller's dialect uses: a price by the image bills no
        conversation."""
        price = self.price
        if price is None:
            return False
        return price.bills_tokens or price.is_free or price.unit == MEDIA_FAMILIES.get(family_of(client))

    def can_speak(self, client: str) -> bool:
        """Whether it has a dialect of the family that the caller's dialect `client` is of."""
        if client in self.endpoints:
            return True
        family = family_of(client)
        if family == CHAT:
            # Its own dialect is what a caller of another one is translated to.
            return family_of(self.dialect) == CHAT
        return any(family_of(name) == family for name in self.endpoints or (self.dialect,))


class Hedge(msgspec.Struct, frozen=True):
    """A second deployment is asked when the first took longer than `quantile` (0 to 1) of its like did; of all requests at most
    the part `budget` is asked twice."""

    quantile: float = 0.95
    budget: float = 0.05


class Route(msgspec.Struct, frozen=True, dict=True):
    """A model name and who answers it. `fallbacks` are other routes, tried after all of these; `context_fallbacks` for a request
    that was too long for these, `policy_fallbacks` for one that their providers' rules refuse.

    `region` and `tags` are what every deployment must have, fallbacks included. `continues`: an answer of plain text that is cut
    short is gone on with elsewhere.
    """

    name: str
    deployments: tuple[Deployment, ...]
    fallbacks: tuple[str, ...] = ()
    strategy: str = "priority"
    limits: Limits | None = None
    context_fallbacks: tuple[str, ...] = ()
    policy_fallbacks: tuple[str, ...] = ()
    affinity: Affinity = "off"
    region: str = ""
    tags: frozenset[str] = frozenset()
    hedge: Hedge | None = None
    continues: bool = False

    @cached_property
    def sifted(self) -> dict[object, Any]:
        """Kept by plan.py: who can answer which kind of request at all. It follows from the configuration alone."""
        return {}

    @cached_property
    def lone(self) -> dict[str, Deployment | None]:
        """Kept by plan.py: who answers a caller's dialect where there is nothing to decide."""
        return {}

    @cached_property
    def has_others(self) -> bool:
        """Whether anybody but its deployments may answer, or not all of them may."""
        return bool(self.fallbacks or self.context_fallbacks or self.policy_fallbacks or self.region or self.tags)


#: Makes the deployment for `provider/model` written out by the caller; None when there is no such provider.
Explicit = Callable[[str, str], Deployment | None]
#: A sentence that helps with an unknown name, given the known ones; empty when nothing does.
Hint = Callable[[str, Iterable[str]], str]
#: Written-out names come from callers, so their cache is bounded.
MAX_EXPLICIT = 1024
#: Names given to who asked a model for what it cannot do.
MAX_NAMED = 8
#: What the models of a family are for.
_PURPOSES = {
    "embeddings": "make embeddings",
    "rerank": "rank documents",
    "transcription": "transcribe sound",
    "translation": "translate sound",
    "speech": "speak",
    "images": "make images",
    "edits": "edit images",
    CHAT: "write text",
}


class Table:
    """Finds the route of a model name: a declared name or alias, else `provider/model`."""

    def __init__(self, routes: Iterable[Route], aliases: Mapping[str, str], explicit: Explicit, hint: Hint) -> None:
        self.routes: dict[str, Route] = {route.name: route for route in routes}
        self.aliases = dict(aliases)
        self._explicit = explicit
        self._hint = hint
        self._written_out: dict[str, Route] = {}

    def resolve(self, name: str) -> Route:
        """Raises NotFound with the nearest names."""
        route = self.routes.get(name) or self._written_out.get(name)
        if route is not None:
            return route
        target = self.aliases.get(name)
        if target is not None:
            return self.routes[target]
        provider, slash, model = name.partition("/")
        deployment = self._explicit(provider, model) if slash and model else None
        if deployment is None:
            raise self._unknown(name)
        if len(self._written_out) >= MAX_EXPLICIT:
            self._written_out.clear()
        route = self._written_out[name] = Route(name, (deployment,))
        return route

    def wrong_endpoint(self, name: str, client: str) -> BadRequest:
        """For a model without any deployment of the family that `client` is of: which models have one."""
        able = [
            route.name
            for route in self.routes.values()
            if any(d.can_bill(client) and d.can_speak(client) for d in route.deployments)
        ]
        purpose = _PURPOSES[family_of(client)]
        more = f" and {len(able) - MAX_NAMED} more" if len(able) > MAX_NAMED else ""
        hint = f"Models that do: {', '.join(able[:MAX_NAMED])}{more}." if able else "No model here does."
        return BadRequest(
            f"The model {_shown(name)!r} does not {purpose}. {hint}", code="wrong_endpoint", param="model"
        )

    def _unknown(self, name: str) -> NotFound:
        hint = self._hint(name, [*self.routes, *self.aliases])
        return NotFound(
            f"The model {_shown(name)!r} is not known here.{hint} GET /v1/models lists what your key may use; write "
            "provider/model to address a provider's model directly.",
            code="model_not_found",
            param="model",
        )


def _shown(name: str) -> str:
    return name if len(name) <= 100 else name[:100] + "…"
