"""Bedrock's errors: {"message": …}, sometimes with `__type`; in a stream a frame of an exception.

Every exception of Converse has an HTTP status of its own (the API's description), so the status tells which it was and the
header `x-amzn-errortype` adds nothing.
"""

from __future__ import annotations

from typing import Any

import msgspec

from naru.errors import UpstreamAuth, UpstreamError
from naru.protocol.bedrock.wire import BAD_JSON, encode
from naru.protocol.dialect import Quirks
from naru.protocol.openai_chat.errors import decode_error as decode_any_error

#: Exception -> (status, type, code), by the name without `Exception`, in lower case.
_MEANINGS: dict[str, tuple[int, str, str | None]] = {
    "throttling": (429, "rate_limit_error", "rate_limit_exceeded"),
    "toomanyrequests": (429, "rate_limit_error", "rate_limit_exceeded"),
    "servicequotaexceeded": (429, "rate_limit_error", "rate_limit_exceeded"),
    # Loading on their side, whatever the status says: another deployment may be ready.
    "modelnotready": (503, "server_error", "overloaded"),
    "validation": (400, "invalid_request_error", None),
    "resourcenotfound": (404, "not_found_error", "model_not_found"),
    "modeltimeout": (504, "timeout_error", None),
    "modelerror": (502, "server_error", None),
    "modelstreamerror": (502, "server_error", None),
    "internalserver": (500, "server_error", None),
    "internalfailure": (500, "server_error", None),
    "serviceunavailable": (503, "server_error", "overloaded"),
}
_AUTH = frozenset(
    {"accessdenied", "unrecognizedclient", "expiredtoken", "invalidsignature", "incompletesignature"}
    | {"missingauthenticationtoken", "invalidclienttokenid", "optinrequired"}
)
#: Where no exception is named. 408 and 424 are the model's failures, not the caller's.
_NAME_OF_STATUS = {404: "resourcenotfound", 408: "modeltimeout", 424: "modelerror"}


def decode_error(status: int, body: bytes, quirks: Quirks) -> UpstreamError:
    """The error in an answer with a failing status. Never raises."""
    fields = _loose_json(body)
    if not isinstance(fields, dict):
        fields = {}
    kind = _name_of(fields.get("__type") or fields.get("code")) or _NAME_OF_STATUS.get(status, "")
    return _error_of(kind, status, fields, quirks)


def stream_error(name: str, payload: bytes, quirks: Quirks) -> UpstreamError:
    """The error in a frame of an exception."""
    fields = _loose_json(payload)
    return _error_of(_name_of(name), None, fields if isinstance(fields, dict) else {}, quirks)


def _error_of(kind: str, status: int | None, fields: dict[str, Any], quirks: Quirks) -> UpstreamError:
    message = fields.get("message") or fields.get("Message") or fields.get("originalMessage") or ""
    if kind in _AUTH:
        return UpstreamAuth(status or 403)
    found = _MEANINGS.get(kind)
    told: dict[str, Any] = {"message": message}
    if found is not None:
        status, told["type"], told["code"] = found
    return decode_any_error(status or 502, encode({"error": told}), quirks)


def _name_of(given: Any) -> str:
    """`com.amazon.coral.service#ThrottlingException:https://…` -> throttling."""
    if not isinstance(given, str):
        return ""
    name = given.partition(":")[0].rpartition("#")[2].lower()
    return name.removesuffix("exception")


def _loose_json(value: bytes) -> Any:
    try:
        return msgspec.json.decode(value)
    except BAD_JSON:
        return None
