"""AWS signatures: AWS's own published examples, and what botocore 1.44.8 signs for requests as Bedrock gets them.

Beyond those kept here, 500 random requests (bodies, paths, queries, tokens, regions) were signed alike by both.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple

import pytest

from naru.transport.sigv4 import AwsCredentials, RequestSigner, Scope, canonical_request, signed_headers

SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
CREDENTIALS = AwsCredentials("AKIDEXAMPLE", SECRET)
THEN = datetime(2015, 8, 30, 12, 36, tzinfo=UTC).timestamp()
HOST = {"host": "example.amazonaws.com"}
FORM = "application/x-www-form-urlencoded"


class Published(NamedTuple):
    name: str
    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    service: str
    signature: str


PUBLISHED = [
    Published("get-vanilla", "GET", "/", HOST, b"", "service",
              "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
    Published("post-vanilla", "POST", "/", HOST, b"", "service",
              "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
    Published("get-vanilla-query-order-key-case", "GET", "/?Param2=value2&Param1=value1", HOST, b"", "service",
              "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"),
    Published("post-x-www-form-urlencoded", "POST", "/", {**HOST, "content-type": FORM}, b"Param1=value1", "service",
              "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a"),
    Published("iam-list-users", "GET", "/?Action=ListUsers&Version=2010-05-08",
              {"host": "iam.amazonaws.com", "content-type": f"{FORM}; charset=utf-8"}, b"", "iam",
              "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"),
]  # fmt: skip


@pytest.mark.parametrize("case", PUBLISHED, ids=lambda case: case.name)
def test_awss_published_examples(case: Published) -> None:
    scope = Scope("us-east-1", case.service)
    added = signed_headers(CREDENTIALS, scope, case.method, case.target, case.headers, case.body, THEN)
    names = ";".join(sorted([*case.headers, "x-amz-date"]))
    credential = f"AKIDEXAMPLE/20150830/us-east-1/{case.service}/aws4_request"
    assert added == {
        "x-amz-date": "20150830T123600Z",
        "authorization": f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={names}, Signature={case.signature}",
    }


PROFILE = "arn%3Aaws%3Abedrock%3Aus-east-1%3A123456789012%3Ainference-profile%2Fus.amazon.nova-pro-v1%3A0"
BOTOCORE = [
    (1_792_000_000, "us-east-1", "", "/model/us.anthropic.claude-sonnet-4-5-20250929-v1%3A0/converse", b'{"messages":[]}',
     "9520ffa990da7e92a33767137e5dd3feab021278029fc5b8ed2b63706f6f3bca"),
    (1_792_000_001, "ap-northeast-2", "to/ken+1==", f"/model/{PROFILE}/converse-stream", '{"a":"한국"}'.encode(),
     "38dbd51824bb0d06c60bd2ea336f732af655e347b3779dfe063adc15e8d40f98"),
    (1_792_086_400, "us-gov-west-1", "", "/model/a%20b~c_d.e-x/converse", b"",
     "9c6e932ca5bfe66a0bc3fae62d361747c83ed37e5699c10b89dc1d5f05762c93"),
]  # fmt: skip


@pytest.mark.parametrize(("now", "region", "token", "path", "body", "signature"), BOTOCORE)
def test_requests_to_bedrock_as_botocore_signs_them(
    now: float, region: str, token: str, path: str, body: bytes, signature: str
) -> None:
    """Of the two paths the one that is called; a session's token is sent and signed."""
    is_stream = path.endswith("-stream")
    paths = ("/other", path) if is_stream else (path, "/other")
    credentials = AwsCredentials("AKIDEXAMPLE", SECRET, token)
    signer = RequestSigner(credentials, Scope(region, "bedrock"), f"bedrock-runtime.{region}.amazonaws.com", paths)
    lines = signer(body, is_stream, now).decode().split("\r\n")
    assert lines[-1] == ""
    headers = dict(line.split(": ", 1) for line in lines[:-1])
    assert headers.pop("authorization").endswith(f"Signature={signature}")
    assert headers.pop("x-amz-security-token", "") == token
    assert list(headers) == ["x-amz-date"]


def test_the_path_is_encoded_once_more_than_it_is_sent() -> None:
    asked = canonical_request("POST", "/model/a%3A0/converse", {"host": "h"}, b"")
    assert asked.split("\n")[1] == "/model/a%253A0/converse"


def test_secrets_are_not_shown() -> None:
    signer = RequestSigner(AwsCredentials("id", "secret", "token"), Scope("r", "s"), "h", ("/", "/"))
    assert "secret" not in repr(signer)
    assert "token" not in repr(signer)
