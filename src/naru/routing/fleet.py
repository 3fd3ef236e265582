"""The vitals of all deployments of a process, by their names, so that a new configuration finds what is known of the old."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from naru.routing.breaker import BreakerPolicy
from naru.routing.table import Deployment
from naru.routing.vitals import Credential, Vitals

#: Written-out model names come from callers; what is kept for those that nothing is under way with is bounded.
MAX_KEPT = 4096


class Fleet:
    """`of` gives a deployment's vitals, made at its first use."""

    def __init__(self, policy: BreakerPolicy | None = None) -> None:
        self.policy = policy or BreakerPolicy()
        self._vitals: dict[str, Vitals] = {}
        self._credentials: dict[str, Credential] = {}

    def of(self, deployment: Deployment) -> Vitals:
        found = self._vitals.get(deployment.id)
        return found if found is not None else self._make(deployment)

    def named(self, deployments: Iterable[str]) -> Iterator[tuple[str, Vitals]]:
        """Those of them that were used."""
        for name in deployments:
            if (vitals := self._vitals.get(name)) is not None:
                yield name, vitals

    def known(self) -> dict[str, Vitals]:
        """All that were used, by deployment."""
        return dict(self._vitals)

    def renew(self, policy: BreakerPolicy, changed_providers: Iterable[str]) -> None:
        """A new configuration: a provider that was changed gets its credential tried anew."""
        self.policy = policy
        for vitals in self._vitals.values():
            vitals.breaker.policy = policy
        for provider in changed_providers:
            if (credential := self._credentials.get(provider)) is not None:
                credential.accepted()

    def _make(self, deployment: Deployment) -> Vitals:
        if len(self._vitals) >= MAX_KEPT:
            for name in [name for name, vitals in self._vitals.items() if not vitals.in_flight]:
                del self._vitals[name]
        credential = self._credentials.setdefault(deployment.provider, Credential())
        vitals = self._vitals[deployment.id] = Vitals(self.policy, credential)
        return vitals
