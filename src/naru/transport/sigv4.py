"""AWS Signature Version 4: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html

Pure: the time is an argument. A signature holds for the one request it was made for, so it is made for each.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Mapping
from hashlib import sha256
from urllib.parse import quote

import msgspec

_ALGORITHM = "AWS4-HMAC-SHA256"
_UNRESERVED = "-_.~"


class AwsCredentials(msgspec.Struct, frozen=True):
    """`session_token` comes with temporary credentials."""

    access_key_id: str
    secret_access_key: str
    session_token: str = ""

    def __repr__(self) -> str:
        return "AwsCredentials(…)"


class Scope(msgspec.Struct, frozen=True):
    """Where a signature holds. `service` is the name that the service signs with: `bedrock`."""

    region: str
    service: str


class RequestSigner(msgspec.Struct, frozen=True):
    """Signs the POST requests of one target: its host, its paths of a plain and of a streamed call, its content type."""

    credentials: AwsCredentials
    scope: Scope
    host: str
    paths: tuple[str, str]

    def __call__(self, body: bytes, is_stream: bool, now: float) -> bytes:
        """Header lines, each with its line end. `now` in Unix seconds; the service accepts five minutes of difference."""
        headers = {"content-type": "application/json", "host": self.host}
        added = signed_headers(self.credentials, self.scope, "POST", self.paths[is_stream], headers, body, now)
        return "".join(f"{name}: {value}\r\n" for name, value in added.items()).encode("latin-1")


def signed_headers(
    credentials: AwsCredentials,
    scope: Scope,
    method: str,
    target: str,
    headers: Mapping[str, str],
    body: bytes,
    now: float,
) -> dict[str, str]:
    """The headers to add to a request that has `headers` (lower-case names, all of them signed) already.

    `target` is the request line's: path, already encoded as it is sent, and query.
    """
    moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    added = {"x-amz-date": moment}
    if credentials.session_token:
        added["x-amz-security-token"] = credentials.session_token
    signed = {**headers, **added}
    names = ";".join(sorted(signed))
    day_scope = f"{moment[:8]}/{scope.region}/{scope.service}/aws4_request"
    asked = canonical_request(method, target, signed, body)
    to_sign = f"{_ALGORITHM}\n{moment}\n{day_scope}\n{sha256(asked.encode()).hexdigest()}"
    signature = hmac.digest(_key(credentials, scope, moment[:8]), to_sign.encode(), "sha256").hex()
    credential = f"Credential={credentials.access_key_id}/{day_scope}"
    return {**added, "authorization": f"{_ALGORITHM} {credential}, SignedHeaders={names}, Signature={signature}"}


def canonical_request(method: str, target: str, headers: Mapping[str, str], body: bytes) -> str:
    """What is signed. The path is encoded once more than it is sent, as for every service but S3."""
    path, _, query = target.partition("?")
    lines = "".join(f"{name}:{' '.join(value.split())}\n" for name, value in sorted(headers.items()))
    pairs = "&".join(sorted(pair if "=" in pair else f"{pair}=" for pair in query.split("&") if pair))
    encoded = quote(path or "/", safe=f"/{_UNRESERVED}")
    return f"{method}\n{encoded}\n{pairs}\n{lines}\n{';'.join(sorted(headers))}\n{sha256(body).hexdigest()}"


def _key(credentials: AwsCredentials, scope: Scope, day: str) -> bytes:
    key = f"AWS4{credentials.secret_access_key}".encode()
    for part in (day, scope.region, scope.service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key
