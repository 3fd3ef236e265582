"""The tool calls of one streamed choice: which fragment belongs to which call.

Clients key on `index` and take `id`, `type` from the first fragment only; OpenAI's own accumulator would join a repeated id
to itself. Upstreams leave out the index, number every call 0, repeat the id or send it empty (providers.md A7.6 rule 2).
"""

from __future__ import annotations

from msgspec import Raw

from naru.protocol.openai_chat.repair import arguments_text, mint_call_id
from naru.protocol.openai_chat.wire import CallFragment
from naru.protocol.wire import Fields, decode_fields, is_null, is_object, raw_of, text_of, unreadable

_TYPES = {"function": Raw(b'"function"'), "custom": Raw(b'"custom"')}
_TEXT_KEYS = {"function": "arguments", "custom": "input"}


class CallSlots:
    """`_ids` has the calls by the index that the client sees; `_seen_as` says which of them an upstream's index means."""

    __slots__ = ("_has_text", "_ids", "_last", "_seen_as")

    def __init__(self) -> None:
        self._ids: dict[int, str] = {}
        self._seen_as: dict[int, int] = {}
        self._has_text: set[int] = set()
        self._last = -1

    def is_clean(self, fragment: CallFragment) -> bool:
        """Whether the fragment can go to the client as it is. Changes nothing."""
        index, given = fragment.index, fragment.id
        if index is None or index < 0:
            return False
        function, custom = fragment.function, fragment.custom
        if index in self._ids:
            return (
                self._seen_as.get(index) == index
                and given is None
                and (function is None or function.arguments is not None)
                and (custom is None or custom.input is not None)
            )
        if not given or not fragment.type or given in self._ids.values() or index in self._seen_as:
            return False
        return (function is not None and function.arguments is not None) or (
            custom is not None and custom.input is not None
        )

    def note(self, fragment: CallFragment) -> None:
        """Remembers a fragment as the client gets it."""
        index = fragment.index
        if index is None:
            return
        if index not in self._ids:
            self._ids[index] = fragment.id or ""
            self._seen_as.setdefault(index, index)
        self._last = index
        part = fragment.function.arguments if fragment.function is not None else None
        if part or (fragment.custom is not None and fragment.custom.input):
            self._has_text.add(index)

    def repaired(self, raw: Raw, choice: int, answer_id: str) -> Fields:
        """The fragment as the client needs it: index always, id and type on a call's first fragment and only there."""
        if not is_object(raw):
            raise unreadable("a tool call that is not an object")
        call = decode_fields(raw)
        kind = "custom" if is_object(call.get("custom")) and not is_object(call.get("function")) else "function"
        inner = decode_fields(part) if is_object(part := call.get(kind)) else {}
        name = text_of(inner.get("name")) or ""
        given = text_of(call.get("id")) or ""
        upstream_index = _index(call.get("index"))
        index = self._find(upstream_index, given, name)
        is_new = index is None
        if index is None:
            index = self._open(upstream_index, given)
            given = given if given and given not in self._ids.values() else mint_call_id(answer_id, choice, index, name)
            self._ids[index] = given
            call["id"] = raw_of(given)
            if not text_of(call.get("type")):
                call["type"] = _TYPES[kind]
        else:
            call.pop("id", None)
        call["index"] = raw_of(index)
        self._last = index
        text_key = _TEXT_KEYS[kind]
        if is_new or text_key in inner:
            inner[text_key] = arguments_text(inner.get(text_key))
            if inner[text_key] != Raw(b'""'):
                self._has_text.add(index)
        if inner or is_new:
            if is_new and is_null(inner.get("name")):
                inner["name"] = Raw(b'""')
            call[kind] = raw_of(inner)
        elif kind in call:
            del call[kind]
        return call

    def _find(self, upstream_index: int | None, given: str, name: str) -> int | None:
        """The open call that a fragment continues; None for a new one."""
        if given:
            for index, known in self._ids.items():
                if known == given:
                    return index
        if upstream_index is not None:
            found = self._seen_as.get(upstream_index)
            # Another id together with a name under a known index: a server that numbers every call 0. Another id alone
            # is a server that makes a new one for every fragment.
            return None if found is not None and given and name else found
        if given or self._last < 0:
            return None
        # Without index and id the last call goes on, unless a name starts anew after arguments have come.
        return None if name and self._last in self._has_text else self._last

    def _open(self, upstream_index: int | None, given: str) -> int:
        index = upstream_index if upstream_index is not None and upstream_index >= 0 else len(self._ids)
        while index in self._ids:
            index += 1
        if upstream_index is not None:
            self._seen_as[upstream_index] = index
        self._seen_as.setdefault(index, index)
        return index


def _index(raw: Raw | None) -> int | None:
    digits = bytes(raw) if raw is not None else b""
    return int(digits) if digits.isdigit() and len(digits) < 6 else None
