"""The fuzzer itself: it reaches every decoder, and an undeclared exception is a finding."""

from __future__ import annotations

from random import Random

from naru.endpoints import ENDPOINTS, HOT, PATTERNS
from naru.errors import UpstreamBroken, UpstreamError
from tools import fuzz


def test_every_decoder_is_fed_and_gives_what_it_declares() -> None:
    targets = list(fuzz.targets())
    named = {target.name.partition(":")[0] for target in targets}
    assert named == {each.name for each in (*HOT.values(), *(d for _, _, d in PATTERNS), *ENDPOINTS.values())}
    random = Random(1)
    for target in targets:
        for number in range(20):
            data = fuzz.mutated(random.choice(target.corpus), random, random.choice(target.corpus))
            assert fuzz.attempt(target, data, number) is None, (target.name, data)


def test_an_undeclared_exception_is_told() -> None:
    def run(data: bytes, random: Random) -> None:
        if data == b"declared":
            raise UpstreamBroken("no")
        raise KeyError(data)

    target = fuzz.Target("x", [], run, (UpstreamError,))
    assert fuzz.attempt(target, b"declared", 1) is None
    assert "KeyError" in (fuzz.attempt(target, b"other", 1) or "")
