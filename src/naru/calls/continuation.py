"""Which answers may be gone on with elsewhere, and by whom (protocol/continuation.py says how)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from naru.calls.attempt import Attempt
from naru.calls.call import Call
from naru.errors import BadRequest, UpstreamError
from naru.protocol.bridge import Bridge
from naru.protocol.continuation import Beginning, GoingOn, PlainStream, may_go_on
from naru.protocol.dialect import CHAT, Dialect, family_of
from naru.routing.fleet import Fleet
from naru.routing.table import Deployment
from naru.routing.verdict import Verdict, verdict
from naru.targets import Target


def bridge_for(call: Call, target: Target, before: PlainStream | None) -> Bridge | None:
    """The way to a deployment for an answer that may be gone on with, or that goes on with `before`; None: the usual one."""
    if family_of(call.dialect.name) != CHAT or not call.dialect.stream_type.startswith(b"text/event-stream"):
        return None
    client, upstream = cast(Dialect, call.dialect), cast(Dialect, target.dialect)
    if before is not None:
        return GoingOn(client, upstream, before)
    try:
        return Beginning(client, upstream) if may_go_on(client.decode_request(call.envelope)) else None
    except BadRequest:
        return None  # the usual way may pass it on, or says why not


def what_was_said(cut: Attempt) -> PlainStream | None:
    """What a stream that was cut by its provider has said, where that can be gone on with."""
    stream, relay = cut.stream, cut.relay
    if stream is None or not isinstance(relay, PlainStream) or not relay.can_go_on or stream.is_gone:
        return None
    is_cut = isinstance(stream.error, UpstreamError) and verdict(stream.error) is Verdict.FAILED
    return relay if is_cut else None


def successors(call: Call, cut: Attempt, fleet: Fleet, now: float) -> Iterator[Deployment]:
    """Those of the plan that take the beginning of an answer and were not asked yet; those that are well first."""
    asked = {cut.target.deployment.id, *(attempt.deployment for attempt in call.failures)}
    able = [
        each
        for each in call.plan.candidates
        if each.id not in asked and each.quirks.prefill != "none" and each.can_speak(call.dialect.name)
    ]
    yield from sorted(able, key=lambda each: not fleet.of(each).is_well(now))
