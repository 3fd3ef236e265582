"""How the deployments of one configuration are reached: addresses, credentials, paths, signatures.

A Reach belongs to one `Settings` and never changes what it says; a reload makes another. Connections belong to neither: the
upstream client keeps them, so they stay warm where the address stays. Requests under way go on with the Reach they began with.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from naru.config import ProviderSettings, Settings
from naru.probes import Probe
from naru.protocol.dialect import UpstreamSide
from naru.providers import Provider
from naru.routing.load import LoadNames
from naru.routing.table import Deployment, Table
from naru.targets import Sign, Target, host_of, target_for
from naru.transport.connect import Origin
from naru.transport.sigv4 import AwsCredentials, RequestSigner, Scope
from naru.transport.upstream import UpstreamClient

#: Written-out model names come from callers, so what is kept for them is bounded.
MAX_TARGETS = 10_000


class Place(msgspec.Struct, frozen=True):
    """A provider's address in a region. `prefix` stands before the paths of its calls: "" or "/v1"."""

    origin: Origin
    prefix: str

    def path(self, path: str) -> str:
        """One that begins with `//` starts at the root of the host."""
        return path[1:] if path.startswith("//") else self.prefix + path


class Reach:
    """`kinds` are the providers' data, `dialects` the spoken ones by name. `sandbox_url` is the built-in sandbox's, where one
    runs. Raises ConfigError when a provider has no address in a region that it is used in."""

    def __init__(
        self,
        settings: Settings,
        kinds: Mapping[str, Provider],
        dialects: Mapping[str, UpstreamSide],
        client: UpstreamClient,
        sandbox_url: str = "",
    ) -> None:
        self.settings = settings
        #: Who may answer: providers, and engines as such.
        self.enabled = settings.upstreams
        self.kinds = kinds
        self.dialects = dialects
        self._places = {(name, region): self._place(name, region, sandbox_url) for name, region in _used(settings)}
        #: The most connections to each address. Providers that share one share its connections; the larger figure holds.
        self.connections: dict[Origin, int] = {}
        for (name, _), place in self._places.items():
            most = self.enabled[name].max_connections
            self.connections[place.origin] = max(most, self.connections.get(place.origin, 0))
        self._pools = {origin: client.pool(origin, most) for origin, most in self.connections.items()}
        self._targets: dict[tuple[str, str], Target] = {}

    def target(self, deployment: Deployment, dialect: str) -> Target:
        """What it takes to call a deployment of this configuration in one of its dialects; made at the first call and kept."""
        key = (deployment.id, dialect)
        target = self._targets.get(key)
        if target is None or target.deployment is not deployment:
            if len(self._targets) > MAX_TARGETS:
                self._targets.clear()
            target = self._targets[key] = self._make_target(deployment, dialect)
        return target

    def probes(self, table: Table) -> list[Probe]:
        """Of the providers that are to be asked between requests."""
        found = []
        for name, provider in self.settings.providers.items():
            kind = self.kinds[provider.kind]
            path = kind.probe_path or kind.paths.get("models", "")
            if provider.probe_s <= 0 or not path:
                continue
            served = {d.id: d for route in table.routes.values() for d in route.deployments if d.provider == name}
            place = self._places[name, provider.region]
            pool = self._pools[place.origin]
            headers = {"host": host_of(pool), **self._headers(provider)}
            names = LoadNames(*kind.load_names) if kind.load_path else None
            load_path = place.path(kind.load_path) if kind.load_path else ""
            found.append(
                Probe(name, provider.probe_s, pool, place.path(path), headers, tuple(served.values()), load_path, names)
            )
        return found

    def _place(self, name: str, region: str, sandbox_url: str) -> Place:
        engine = self.settings.engines.get(name)
        if engine is not None:
            return Place(Origin.of_engine(name, engine.version), "/v1")
        provider = self.enabled[name]
        return _place(provider, self.kinds[provider.kind], region, sandbox_url)

    def _headers(self, provider: ProviderSettings) -> dict[str, str]:
        """The provider's own, credential included."""
        kind = self.kinds[provider.kind]
        headers = {**dict(kind.headers), **{name: secret.reveal() for name, secret in provider.headers.items()}}
        return headers | (kind.credential(provider.api_key.reveal()) if provider.api_key is not None else {})

    def _make_target(self, deployment: Deployment, dialect: str) -> Target:
        provider = self.enabled[deployment.provider]
        kind = self.kinds[provider.kind]
        place = self._places[deployment.provider, deployment.region]
        called = kind.call_paths(deployment.endpoints[dialect], deployment.model)
        pool = self._pools[place.origin]
        paths = [place.path(path) for path in called]
        sign = _signer(kind, provider, deployment.region, host_of(pool), paths)
        return target_for(deployment, self.dialects[dialect], pool, paths, self._headers(provider), sign)


def needs_sandbox(provider: ProviderSettings) -> bool:
    """Whether it is the sandbox that is built in."""
    return provider.kind == "sandbox" and not provider.base_url


def _used(settings: Settings) -> set[tuple[str, str]]:
    """(provider, region) of every deployment that these settings can have."""
    deployments = (deployment for model in settings.models.values() for deployment in model.deployments)
    enabled = settings.upstreams
    declared = {(each.provider, each.region or enabled[each.provider].region) for each in deployments}
    return declared | {(provider.name, provider.region) for provider in enabled.values()}


def _place(provider: ProviderSettings, kind: Provider, region: str, sandbox_url: str) -> Place:
    base_url = sandbox_url if needs_sandbox(provider) else provider.base_url or kind.base_url(region or None)
    scheme, _, rest = base_url.rstrip("/").partition("://")
    host, _, prefix = rest.partition("/")
    origin = Origin.of(f"{scheme}://{host}", provider.allow_private or kind.is_local, str(provider.ca_file or ""))
    return Place(origin, f"/{prefix}" if prefix else "")


def _signer(kind: Provider, provider: ProviderSettings, region: str, host: str, paths: list[str]) -> Sign | None:
    """For a provider whose requests are signed; with a bearer key they need not be."""
    key_id, secret, token = provider.access_key_id, provider.secret_access_key, provider.session_token
    if key_id is None or secret is None or provider.api_key is not None:
        return None
    credentials = AwsCredentials(key_id.reveal(), secret.reveal(), token.reveal() if token is not None else "")
    return RequestSigner(credentials, Scope(region, kind.signs_as), host, (paths[0], paths[1]))
