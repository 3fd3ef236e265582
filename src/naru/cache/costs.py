"""What an answer cost, taken out of its stream: whoever is told it again pays nothing. Pure.

A stream ends with its usage, in which the gateway has written the cost (`naru_fields` of the protocols). It stands in three
places and nowhere else, and only there is it set to 0. What a model wrote is never touched: in a text its quotes are escaped,
and an object of its own making (a call's arguments) stands in another place.
"""

from __future__ import annotations

from msgspec import Raw

from naru.protocol.sse import Frame, SseSplitter, write_event
from naru.protocol.wire import BAD_JSON, decode_fields, encode, is_object, raw_of

#: Chat, completions and messages; Gemini; Responses.
PLACES = (("usage", "naru"), ("usageMetadata", "naru"), ("response", "usage", "naru"))
COSTS = ("cost_usd", "cost_krw")
_MARK = b'"cost_'
_NOTHING = Raw(b"0")


def without_cost(events: bytes) -> bytes:
    """The same events, each cost among them 0. Of whole events; a part of one at the end stays as it is."""
    if _MARK not in events:
        return events
    splitter = SseSplitter(max_event_bytes=len(events))
    written: list[bytes] = []
    done = 0
    for frame in splitter.feed(events):
        if frame.data is not None and _MARK in frame.data and (data := _zeroed(frame.data)) is not None:
            written += (events[done : frame.start], _with(frame, frame.data, data))
            done = frame.end
    return b"".join([*written, events[done:]]) if written else events


def _with(frame: Frame, old: bytes, new: bytes) -> bytes:
    """Data of several lines is not found in one piece; then the event is written anew."""
    raw = frame.raw
    return raw.replace(old, new, 1) if old in raw else write_event(new, frame.event, frame.id)


def _zeroed(data: bytes) -> bytes | None:
    """None: there is no cost in it."""
    try:
        fields = decode_fields(data)
        changed = {place[0]: raw for place in PLACES if (raw := _inside(fields.get(place[0]), place[1:])) is not None}
    except BAD_JSON:
        return None
    return encode({**fields, **changed}) if changed else None


def _inside(raw: Raw | None, place: tuple[str, ...]) -> Raw | None:
    if not is_object(raw):
        return None
    fields = decode_fields(raw)
    if place:
        inner = _inside(fields.get(place[0]), place[1:])
        return None if inner is None else raw_of({**fields, place[0]: inner})
    costs = {name: _NOTHING for name in COSTS if name in fields}
    return raw_of({**fields, **costs}) if costs else None
