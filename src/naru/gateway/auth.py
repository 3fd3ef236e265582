"""Who is asking: a key in the request's headers against the table in memory."""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_network

from naru import keys
from naru.clock import Clock
from naru.errors import Forbidden, Unauthorized
from naru.storage.records import KeyRecord
from naru.transport.peer import caller_address

KEY_HEADERS = frozenset({b"authorization", b"x-api-key", b"x-goog-api-key"})
GET_A_KEY = "Create one with `naru keys create NAME` and send it as `Authorization: Bearer nk-…`."
NOT_A_KEY = f"This is not a Naru key, or it was cut or mistyped when copied. {GET_A_KEY}"
NO_DIGEST = bytes(32)

Headers = Iterable[tuple[bytes, bytes]]
Network = IPv4Network | IPv6Network


class Auth:
    """The key table. Filled from the store at start, changed by the control plane."""

    def __init__(self, pepper: bytes, clock: Clock, records: Iterable[KeyRecord] = ()) -> None:
        self.pepper = pepper
        self.clock = clock
        self.records: dict[str, KeyRecord] = {}
        self._networks: dict[str, tuple[Network, ...]] = {}
        for record in records:
            self.put(record)

    def put(self, record: KeyRecord) -> None:
        self.records[record.id] = record
        self._networks[record.id] = tuple(ip_network(text) for text in record.addresses)

    def identify(self, headers: Headers, role: str = "caller", address: str = "") -> KeyRecord:
        """The record of a key that may act as `role`, used from `address` (the peer's). Raises Unauthorized; which part was
        wrong is told only where it helps no attacker. Raises Forbidden for another role or address."""
        text = b""
        for name, value in headers:
            if name in KEY_HEADERS:
                text = value
                if name == b"authorization":
                    break  # Anthropic's clients send an x-api-key of the environment beside it (providers.md B1.1)
        if text[:7].lower() == b"bearer ":
            text = text[7:].strip()
        if not text:
            raise Unauthorized(f"No API key was sent. {GET_A_KEY}", code="missing_api_key")
        record = self._check(text)
        if record.role != role:
            _check_role(record, role)
        if record.addresses:
            self._check_address(record, headers, address)
        return record

    def _check(self, text: bytes) -> KeyRecord:
        parts = keys.split(text)
        if parts is None:
            raise Unauthorized(NOT_A_KEY)
        key_id, secret, _ = parts
        record = self.records.get(key_id)
        # An unknown id costs the same comparison as a wrong secret, so that ids cannot be told apart by time.
        digest = keys.digest(self.pepper, secret)
        if not hmac.compare_digest(digest, record.digest if record else NO_DIGEST) or record is None:
            if keys.parse(text) is None:
                raise Unauthorized(NOT_A_KEY)
            raise Unauthorized(f"This key is not known here. It may belong to another gateway. {GET_A_KEY}")
        if not record.is_active(self.clock.now()):
            raise Unauthorized(f"The key {record.id} is {record.state(self.clock.now())}. {GET_A_KEY}")
        return record

    def _check_address(self, record: KeyRecord, headers: Headers, peer: str) -> None:
        found = caller_address(headers, peer)
        if found is None or not any(found in network for network in self._networks[record.id]):
            raise Forbidden(
                f"The key {record.id} may not be used from {found or 'an unknown address'}. It may be used from: "
                f"{', '.join(record.addresses)}.",
                code="address_not_allowed",
            )


def _check_role(record: KeyRecord, role: str) -> None:
    """Raises Forbidden unless the record's role includes `role`."""
    if role == "caller":
        raise Forbidden(
            "This is an admin key; it cannot call models. Use a key that starts with nk-.", code="admin_key"
        )
    if record.role == "caller":
        raise Forbidden("This needs an admin key (nka-…).", code="admin_key_required")
    if keys.RANKS.index(record.role) < keys.RANKS.index(role):
        raise Forbidden(
            f"The key {record.id} is a {record.role}'s; this needs the role {role}. Ask whoever runs this gateway.",
            code="role_required",
        )


def allow_model(record: KeyRecord, model: str) -> None:
    """Raises Forbidden when the key is limited to other models."""
    if record.models and model not in record.models:
        raise Forbidden(
            f"The key {record.id} may not use {model!r}. It may use: {', '.join(record.models)}.",
            code="model_not_allowed",
            param="model",
        )
