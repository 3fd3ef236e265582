"""GPUs by every name that people write, and sizes by theirs."""

from __future__ import annotations

import pytest

from naru.catalog.hardware import BY_NAME, GB, bytes_of, device_of_memory, gpu_named, tokens_of
from naru.errors import BadRequest


@pytest.mark.parametrize("name", BY_NAME)
def test_every_name_parses_alone_and_with_a_count(name: str) -> None:
    for text in (name, name.upper(), f"{name}x1", f"1x{name}"):
        assert (gpu_named(text).device, gpu_named(text).count) == (BY_NAME[name], 1)
    for text in (f"{name}x8", f"8x{name}", f"8 x {name}", f"{name} x8", f"8*{name}"):
        assert (gpu_named(text).device, gpu_named(text).count) == (BY_NAME[name], 8)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("h1000", "Did you mean h100"),
        ("tpu", "Known: h100, h200"),
        ("", "Known: h100"),
        ("h100x0", "0 GPUs"),
        ("h100x99999", "99999 GPUs"),
        ("x8", "Known"),
    ],
)
def test_an_unknown_gpu_is_told_the_known_ones(text: str, words: str) -> None:
    with pytest.raises(BadRequest, match=words):
        gpu_named(text)


def test_sizes() -> None:
    assert bytes_of("24GiB", "--memory") == 24 * 2**30
    assert bytes_of("80gb", "--memory") == 80 * GB
    assert bytes_of("1.5 TB", "--memory") == 1500 * GB
    assert device_of_memory("24GiB").memory == 24 * 2**30
    assert tokens_of("32k", "--context") == 32768
    assert tokens_of("32,000", "--context") == 32000
    assert tokens_of("1M", "--context") == 1048576
    for wrong in ("24", "much", "-3GB", "0GB", "24XB", ""):
        with pytest.raises(BadRequest, match="24GiB"):
            bytes_of(wrong, "--memory")
    for wrong in ("0", "32kb", "long", "-1"):
        with pytest.raises(BadRequest, match="32k"):
            tokens_of(wrong, "--context")
