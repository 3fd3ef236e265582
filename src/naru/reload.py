"""The configuration, read again while requests are under way: whole or not at all, with the difference in words.

What differs and what of it can be taken over is decided here without I/O; `Reloader` reads, asks the application to take over,
and tells what came of it. No word of it holds a secret.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, Protocol

import msgspec
import structlog
from msgspec import Struct

from naru.clock import Clock
from naru.config import DeploymentSettings, Secret, Settings
from naru.errors import ConfigError, Conflict
from naru.ledger.pricing import Price

#: What a running process holds on to: its socket, its files, its buffers' bounds. `client` is the command line's.
KEPT = ("home", "store", "proxies", "client")
KEPT_OF_SERVER = ("host", "port", "workers", "max_body_bytes")
#: Not compared: which file it is stands beside the difference, and the command line's settings concern no gateway.
SILENT = ("source", "client")
#: As in messages about mistakes: a longer text may hold a key.
MAX_TEXT = 16

APPLIED, UNCHANGED, FAILED = "applied", "unchanged", "failed"

log = structlog.get_logger("naru")


class Change(Struct, frozen=True):
    """One difference. `key` is dotted, as in messages about mistakes; `words` say what became of it."""

    key: str
    words: str
    needs_restart: bool = False

    def __str__(self) -> str:
        return f"{self.key}: {self.words}"


def difference(old: Settings, new: Settings) -> list[Change]:
    """Everything that `new` says otherwise, in the order of the settings. A table that is only in one of the two is one
    change."""
    found: list[tuple[str, str]] = []
    for name in Settings.__struct_fields__:
        if name not in SILENT:
            found += _between(name, getattr(old, name), getattr(new, name))
    return [Change(key, words, needs_restart(key)) for key, words in found]


def needs_restart(key: str) -> bool:
    """Whether a running process cannot take a change of this setting over."""
    section, _, name = key.partition(".")
    return section in KEPT or (section == "server" and name in KEPT_OF_SERVER)


def changed_providers(old: Settings, new: Settings) -> list[str]:
    """Providers and engines that both have, and that are not the same: their credentials may work now."""
    before = old.upstreams
    changed = [name for name, provider in new.upstreams.items() if before.get(name, provider) != provider]
    # An engine that could not start may do so with other settings; its address alone does not tell that it has them.
    return changed + [name for name, each in new.engines.items() if old.engines.get(name, each) != each]


def taken_over(running: Settings, new: Settings) -> Settings:
    """`new`, with what waits for a restart as it is."""
    server = {name: getattr(running.server, name) for name in KEPT_OF_SERVER}
    kept: dict[str, Any] = {name: getattr(running, name) for name in KEPT}
    return msgspec.structs.replace(new, server=msgspec.structs.replace(new.server, **server), **kept)


def _between(key: str, old: Any, new: Any) -> Iterator[tuple[str, str]]:
    """(key, words) of each difference between two values of one setting."""
    if old == new:
        return
    if isinstance(old, Secret) or isinstance(new, Secret):
        yield key, "changed" if old and new else "set" if new else "taken out"
    elif isinstance(old, Price) or isinstance(new, Price):
        yield key, f"{_price(old)} -> {_price(new)}"
    elif isinstance(old, dict) and isinstance(new, dict):
        yield from _between_tables(key, old, new)
    elif isinstance(old, Struct) and type(old) is type(new):
        yield from _between_tables(key, _fields(old), _fields(new))
    elif isinstance(old, tuple) and isinstance(new, tuple):
        yield from _between_lists(key, old, new)
    elif any(isinstance(each, str) and len(each) > MAX_TEXT for each in (old, new)):
        yield key, "changed"
    else:
        yield key, f"{_shown(old)} -> {_shown(new)}"


def _fields(struct: Struct) -> dict[str, Any]:
    return {name: getattr(struct, name) for name in struct.__struct_fields__}


def _between_tables(key: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name in dict.fromkeys((*old, *new)):
        if name not in new:
            yield f"{key}.{name}", "removed"
        elif name not in old:
            yield f"{key}.{name}", "added"
        else:
            yield from _between(f"{key}.{name}", old[name], new[name])


def _between_lists(key: str, old: tuple[Any, ...], new: tuple[Any, ...]) -> Iterator[tuple[str, str]]:
    if not all(isinstance(each, DeploymentSettings) for each in (*old, *new)):
        yield key, f"{_listed(old)} -> {_listed(new)}"
        return
    before, after = _named(old), _named(new)
    for name in dict.fromkeys((*before, *after)):
        place = f"{key}[{name}]"
        if name not in after:
            yield place, "removed"
        elif name not in before:
            yield place, "added"
        else:
            yield from _between(place, before[name], after[name])
    if before.keys() == after.keys() and list(before) != list(after):
        yield key, "in another order"


def _named(deployments: Iterable[DeploymentSettings]) -> dict[str, DeploymentSettings]:
    """By what tells them apart; of equals the second is #2."""
    found: dict[str, DeploymentSettings] = {}
    for each in deployments:
        name = f"{each.provider}/{each.model}" + (f"@{each.region}" if each.region else "")
        number = 1 + sum(1 for known in found if known.partition("#")[0] == name)
        found[name if number == 1 else f"{name}#{number}"] = each
    return found


def _price(price: Price | None) -> str:
    return "none of its own" if price is None else f"version {price.version}"


def _listed(values: tuple[Any, ...]) -> str:
    """Names of models, which every caller may know."""
    return ", ".join(map(str, values)) or "none"


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None or value == "":
        return "not set"
    return str(value) if isinstance(value, (str, int, float, Decimal, Path)) else "set"


# --- Doing it -----------------------------------------------------------------------------------------------------


class Outcome(Struct, frozen=True):
    """What became of one reading. `trigger`: save | signal | api. `result`: applied | unchanged | failed. Of `changes`, those
    that need a restart are not in force. `at` is in Unix seconds."""

    at: float
    trigger: str
    result: str
    source: str = ""
    changes: tuple[Change, ...] = ()
    error: str | None = None

    @property
    def waiting(self) -> list[str]:
        """The keys that wait for a restart."""
        return [change.key for change in self.changes if change.needs_restart]

    def shown(self) -> dict[str, Any]:
        """For the admin API."""
        taken = [{"key": each.key, "change": each.words} for each in self.changes if not each.needs_restart]
        waiting = [{"key": each.key, "change": each.words} for each in self.changes if each.needs_restart]
        return {
            "result": self.result, "trigger": self.trigger, "at": self.at, "source": self.source or None,
            "changes": taken, "needs_restart": waiting, "error": self.error,
        }  # fmt: skip


class Application(Protocol):
    """What runs by settings. `take` puts others into force, whole, or raises and changes nothing."""

    settings: Settings

    async def take(self, settings: Settings) -> None: ...


#: Reads the file (None: the one that a start would find), the environment and the flags. Raises ConfigError.
Load = Callable[[Path | None], Settings]


class Reloader:
    """`load` None: this process does not reload. `tell` hears every outcome."""

    def __init__(
        self, application: Application, load: Load | None, clock: Clock, tell: Callable[[Outcome], None]
    ) -> None:
        self.application = application
        self.load = load
        self.clock = clock
        self.tell = tell
        self.last: Outcome | None = None
        self._reading = asyncio.Lock()

    async def reload(self, trigger: str) -> Outcome:
        """Reads, takes over, logs. A mistake in the file is an outcome, not an exception. Raises Conflict where nothing runs
        that could be changed."""
        if self.load is None:
            raise Conflict(
                "No running gateway answers here, so there is nothing to reload: the next start reads the file."
            )
        async with self._reading:
            outcome = await self._read(self.load, trigger)
        self.last = outcome
        self.tell(outcome)
        _log(outcome)
        return outcome

    async def _read(self, load: Load, trigger: str) -> Outcome:
        running, at = self.application.settings, self.clock.now()
        source = str(running.source or "")
        try:
            new = load(running.source)
            source = str(new.source or "")
            changes = tuple(difference(running, new))
            is_new = any(not change.needs_restart for change in changes)
            if is_new or new.source != running.source:
                await self.application.take(taken_over(running, new))
        except ConfigError as error:
            return Outcome(at, trigger, FAILED, source, error=error.message)
        except Exception as error:
            # Whatever it was, requests go on with what is in force.
            log.exception("the configuration could not be taken over")
            return Outcome(at, trigger, FAILED, source, error=f"{type(error).__name__}; the log has the cause")
        return Outcome(at, trigger, APPLIED if is_new else UNCHANGED, source, changes)


def _log(outcome: Outcome) -> None:
    said: dict[str, Any] = {"trigger": outcome.trigger, "source": outcome.source}
    if outcome.result == FAILED:
        log.error("the configuration was not reloaded; the one in force stays", why=outcome.error, **said)
        return
    taken = [str(change) for change in outcome.changes if not change.needs_restart]
    log.info(
        "configuration reloaded" if taken else "the configuration has no change to take over", changes=taken, **said
    )
    if outcome.waiting:
        log.warning("these settings change with the next restart only", settings=outcome.waiting)
