"""From a request to its plan: what it asks of routing, in its fields and its headers, at this moment. Sends nothing."""

from __future__ import annotations

from collections.abc import Iterable

from naru.errors import BadRequest
from naru.ledger.holds import expected
from naru.protocol.dialect import ClientSide, Envelope
from naru.routing.affinity import affinity_key
from naru.routing.plan import Find, Plan, plan
from naru.routing.strategies import Asking, Conditions
from naru.routing.table import Deployment, Route

TAGS_HEADER = b"x-naru-tags"
REGION_HEADER = b"x-naru-region"
_OURS = b"x-naru-"
MAX_TAGS = 32

Headers = Iterable[tuple[bytes, bytes]]
#: What nearly all requests insist on.
NOTHING: tuple[frozenset[str], str] = (frozenset(), "")


def plan_for(
    route: Route, find: Find, client: ClientSide, envelope: Envelope, headers: Headers, world: Conditions, at: float
) -> Plan:
    """`at` is the wall clock, for prices. Raises BadRequest for tags or a region that are none."""
    tags, region = insisted(headers)
    affinity = b""
    if route.affinity != "off" and len(route.deployments) > 1:
        affinity = affinity_key(route.affinity, envelope, headers)
    asking = Asking(client.name, envelope.is_stream, tags, region, affinity, _Cost(envelope, at))
    return plan(route, find, asking, world)


class _Cost:
    """What a request is expected to cost at a deployment, in nano-dollars."""

    __slots__ = ("_at", "_envelope")

    def __init__(self, envelope: Envelope, at: float) -> None:
        self._envelope = envelope
        self._at = at

    def __call__(self, deployment: Deployment) -> int:
        return expected(self._envelope, [deployment], self._at)


def insisted(headers: Headers) -> tuple[frozenset[str], str]:
    """The tags and the region that the request must have. Raises BadRequest for what are none."""
    tags: frozenset[str] = frozenset()
    region = ""
    for name, value in headers:
        if name[:7] != _OURS:
            continue
        if name == TAGS_HEADER:
            tags |= {tag.strip() for tag in _text(name, value).split(",")} - {""}
        elif name == REGION_HEADER:
            region = _text(name, value).strip()
    if len(tags) > MAX_TAGS:
        raise BadRequest(f"x-naru-tags has more than {MAX_TAGS} tags.", code="invalid_value", param="x-naru-tags")
    return tags, region


def _text(name: bytes, value: bytes) -> str:
    try:
        return value.decode("ascii")
    except UnicodeDecodeError:
        header = name.decode("ascii")
        raise BadRequest(f"{header} takes plain ASCII words.", code="invalid_value", param=header) from None
