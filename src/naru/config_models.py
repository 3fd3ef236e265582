"""Whether the models of naru.toml fit together: their names, who answers them, and whom they fall back to."""

from __future__ import annotations

from collections.abc import Mapping

from naru.catalog import load_catalog
from naru.config_read import Reader, nearest
from naru.config_schema import DeploymentSettings, EngineSettings, ModelSettings, ProviderSettings, Settings
from naru.errors import ConfigError
from naru.providers import Provider

Kinds = Mapping[str, Provider]


def check_models(settings: Settings, kinds: Kinds, reader: Reader) -> None:
    """Raises ConfigError, which names the key."""
    models, enabled = settings.models, settings.upstreams
    names = _names(models, reader)
    served = [name for engine in settings.engines.values() for name in engine.served]
    for model in models.values():
        key = f"models.{model.name}"
        if not model.deployments:
            raise reader.error(f"{key}.deployments", "needs at least one deployment")
        for index, deployment in enumerate(model.deployments):
            place = f"{key}.deployments[{index}]"
            _check_deployment(deployment, place, enabled, kinds, reader)
            if (engine := settings.engines.get(deployment.provider)) is not None:
                _check_engine(deployment, place, engine, reader)
        for kind in ("fallbacks", "context_fallbacks", "policy_fallbacks"):
            for index, fallback in enumerate(getattr(model, kind)):
                if fallback not in served:
                    _check_fallback(fallback, f"{key}.{kind}[{index}]", names, enabled, reader)
    for model in models.values():
        _check_cycle(model.name, models, names, reader)


def check_region(kind: Provider, region: str, key: str, reader: Reader) -> None:
    try:
        kind.base_url(region)
    except ConfigError as error:
        raise reader.error(key, error.message) from None


def _check_engine(deployment: DeploymentSettings, key: str, engine: EngineSettings, reader: Reader) -> None:
    """An engine has its model and no other, but for Ollama, which has whatever was pulled."""
    if engine.engine != "ollama" and deployment.model not in engine.served:
        known = ", ".join(engine.served)
        hint = nearest(deployment.model, engine.served)
        raise reader.error(f"{key}.model", f'engines.{engine.name} has no "{deployment.model}"{hint}. It has {known}')


def _names(models: Mapping[str, ModelSettings], reader: Reader) -> dict[str, str]:
    """Every declared name and alias -> the model. Raises ConfigError when one stands for two."""
    names = {name: name for name in models}
    for model in models.values():
        for index, alias in enumerate(model.aliases):
            if names.setdefault(alias, model.name) != model.name or alias in models:
                owner = names[alias]
                raise reader.error(f"models.{model.name}.aliases[{index}]", f'"{alias}" already names models.{owner}')
    return names


def _check_deployment(
    deployment: DeploymentSettings, key: str, enabled: Mapping[str, ProviderSettings], kinds: Kinds, reader: Reader
) -> None:
    provider = enabled.get(deployment.provider)
    if provider is None:
        kind = kinds.get(deployment.provider)
        ways = f"declare [providers.{deployment.provider}]" + (f" or set {kind.env[0]}" if kind and kind.env else "")
        hint = "" if kind else nearest(deployment.provider, enabled)
        message = f'"{deployment.provider}" is not an enabled provider{hint}: {ways}. Enabled: {", ".join(enabled)}'
        raise reader.error(f"{key}.provider", message)
    kind = kinds[provider.kind]
    if deployment.region and provider.base_url is None:
        check_region(kind, deployment.region, f"{key}.region", reader)
    if deployment.endpoint is not None and deployment.endpoint not in kind.paths:
        raise reader.error(f"{key}.endpoint", f"{kind.kind} has no such endpoint; it has {', '.join(kind.paths)}")


def _check_fallback(
    name: str, key: str, names: Mapping[str, str], enabled: Mapping[str, ProviderSettings], reader: Reader
) -> None:
    provider, slash, _ = name.partition("/")
    if name in names or (slash and provider in enabled):
        return
    catalog = load_catalog()
    if catalog.get(name) is None:
        known = [*names, *catalog.names()]
        raise reader.error(key, f'there is no model "{name}"{nearest(name, known)}')


def _check_cycle(start: str, models: Mapping[str, ModelSettings], names: Mapping[str, str], reader: Reader) -> None:
    """Raises ConfigError when following fallbacks from `start` comes back to it."""
    trails = [[start]]
    seen = set()
    while trails:
        trail = trails.pop()
        for fallback in models[trail[-1]].fallbacks:
            target = names.get(fallback)
            if target == start:
                raise reader.error(f"models.{start}.fallbacks", f"go in a circle: {' -> '.join([*trail, start])}")
            if target is not None and target not in seen:
                seen.add(target)
                trails.append([*trail, target])
