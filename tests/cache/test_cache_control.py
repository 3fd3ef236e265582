"""What a request says about the cache in its headers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from naru.cache.control import DEFAULT, Control, control_of
from naru.errors import BadRequest


def said(*values: str, **others: str) -> Control:
    headers = [(b"cache-control", value.encode()) for value in values]
    return control_of([*headers, *((n.replace("_", "-").encode(), v.encode()) for n, v in others.items())], 3600)


NOT_AT_ALL = Control(reads=False, writes=False)
REFRESH = Control(reads=False)


@pytest.mark.parametrize(
    ("value", "control"),
    [
        ("no-store", NOT_AT_ALL),
        ("No-Store, max-age=60", NOT_AT_ALL),
        ("no-cache", REFRESH),
        (" no-cache ,no-transform", REFRESH),
        ("no-cache, no-store", NOT_AT_ALL),
        ("max-age=60", Control(max_age_s=60)),
        ('max-age="60"', Control(max_age_s=60)),
        ("max-age=60, max-age=30", Control(max_age_s=30)),
        ("max-age=0", Control(reads=False, max_age_s=0)),
        ("max-age=99999999999999999999", Control(max_age_s=2**31)),
        ("no-cache, max-age=60", Control(reads=False, max_age_s=60)),
    ],
)
def test_the_standards_words(value: str, control: Control) -> None:
    assert said(value) == control


@pytest.mark.parametrize(
    "value",
    [
        "",
        ",,",
        "max-age",
        "max-age=",
        "max-age=-1",
        "max-age=1.5",
        "max-age=x",
        "max-age=²",
        "no-storage",
        "only-if-cached",
        '"',
    ],
)
def test_what_means_nothing_is_passed_over(value: str) -> None:
    assert said(value) == DEFAULT


def test_several_headers_are_one_list() -> None:
    assert said("max-age=60", "no-cache") == Control(reads=False, max_age_s=60)


def test_without_a_word_the_default() -> None:
    assert control_of([(b"content-type", b"application/json")], 3600) is DEFAULT


def test_our_own_switch() -> None:
    assert said(x_naru_cache="off") == said(x_naru_cache=" OFF ") == NOT_AT_ALL
    assert said(x_naru_cache="on") == DEFAULT
    with pytest.raises(BadRequest, match="`off`"):
        said(x_naru_cache="no")


def test_a_time_of_its_own() -> None:
    """At most the operator's."""
    assert said(x_naru_cache_ttl="600") == Control(ttl_s=600)
    assert said(x_naru_cache_ttl="7200").ttl_s == 3600
    assert said("no-cache", x_naru_cache_ttl="600") == Control(reads=False, ttl_s=600)


@pytest.mark.parametrize("value", ["", "0", "-1", "1.5", "ten", "1" * 11])
def test_a_time_that_is_none(value: str) -> None:
    with pytest.raises(BadRequest, match="whole number of at least 1") as raised:
        said(x_naru_cache_ttl=value)
    assert raised.value.param == "x-naru-cache-ttl"


@given(st.binary(max_size=40))
def test_no_cache_control_raises(value: bytes) -> None:
    control_of([(b"cache-control", value)], 3600)


def test_an_age() -> None:
    assert Control(max_age_s=60).takes(60.0)
    assert not Control(max_age_s=60).takes(60.1)
    assert not REFRESH.takes(0)
