"""The life of an engine's process as a transition table, and how long a restart waits. Pure.

    stopped -> starting -> ready -> stopping -> stopped
                  |          |          |
                  +----------+----------+--> backing_off -> starting, or stopped where nobody waits
                  |          |
                  +----------+--> failed: these settings cannot work, so only an operator starts it again

A process exists in `starting`, `ready` and `stopping`, and in no other state.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from random import Random

#: A crash is followed by a pause, which doubles with each in a row up to the longest.
FIRST_PAUSE_S = 0.5
MAX_PAUSE_S = 60.0
#: With some chance, or engines that fell together would come back together.
JITTER = 0.25
#: Who ran for so long had no trouble with starting.
STABLE_S = 60.0
#: The exit code that says: with these settings or these files, never (EX_CONFIG of sysexits.h).
HOPELESS_CODE = 78


class State(Enum):
    STOPPED = "stopped"
    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"
    BACKING_OFF = "backing_off"
    FAILED = "failed"


class Event(Enum):
    """`WANTED`: somebody asks for it. `STOP`: it is to end, or need not come back. `ENDED`: its process is gone, as wished.
    `CRASHED`: its process is gone, and that is its own doing."""

    WANTED = "wanted"
    UP = "up"
    CRASHED = "crashed"
    HOPELESS = "hopeless"
    STOP = "stop"
    ENDED = "ended"


TRANSITIONS: Mapping[tuple[State, Event], State] = {
    (State.STOPPED, Event.WANTED): State.STARTING,
    (State.STARTING, Event.UP): State.READY,
    (State.STARTING, Event.CRASHED): State.BACKING_OFF,
    (State.STARTING, Event.HOPELESS): State.FAILED,
    (State.STARTING, Event.STOP): State.STOPPING,
    (State.READY, Event.CRASHED): State.BACKING_OFF,
    (State.READY, Event.HOPELESS): State.FAILED,
    (State.READY, Event.STOP): State.STOPPING,
    (State.STOPPING, Event.ENDED): State.STOPPED,
    (State.STOPPING, Event.CRASHED): State.BACKING_OFF,  # it was stopped because it grew too large
    (State.BACKING_OFF, Event.WANTED): State.STARTING,
    (State.BACKING_OFF, Event.STOP): State.STOPPED,
    (State.FAILED, Event.WANTED): State.STARTING,
}
WITH_PROCESS = frozenset({State.STARTING, State.READY, State.STOPPING})


def after(state: State, event: Event) -> State:
    """Raises KeyError for what cannot happen in that state."""
    return TRANSITIONS[state, event]


def is_hopeless(exit_code: int) -> bool:
    """Whether another start would end the same way."""
    return exit_code == HOPELESS_CODE


def failures_after(failures: int, ran_s: float) -> int:
    """Crashes in a row, with one more after it was ready for `ran_s` seconds (0: never)."""
    return 1 if ran_s >= STABLE_S else failures + 1


def pause_s(failures: int, random: Random) -> float:
    """Seconds before the next start, after so many crashes in a row (from 1)."""
    pause: float = min(FIRST_PAUSE_S * 2 ** min(failures - 1, 20), MAX_PAUSE_S)
    return pause * random.uniform(1 - JITTER, 1 + JITTER)
