"""The form of a key."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from naru import keys

entropies = st.binary(min_size=keys.ENTROPY_BYTES, max_size=keys.ENTROPY_BYTES)


@given(entropies, st.sampled_from(["caller", "admin"]))
def test_a_minted_key_parses_to_its_parts(entropy: bytes, role: str) -> None:
    """Whatever the randomness, the text has its form and gives id and secret back."""
    minted = keys.mint(role, entropy)
    assert minted.text.startswith(keys.PREFIXES[role])
    assert keys.parse(minted.text.encode()) == (minted.id, minted.secret)


@given(entropies, st.integers(3, 63), st.sampled_from(keys.ALPHABET))
def test_one_wrong_character_is_noticed(entropy: bytes, place: int, letter: str) -> None:
    """The check digits catch every single substitution."""
    text = keys.mint("caller", entropy).text
    changed = text[:place] + letter + text[place + 1 :]
    assert (keys.parse(changed.encode()) is None) == (changed != text)


@given(st.binary(max_size=100))
def test_arbitrary_bytes_are_no_key(data: bytes) -> None:
    """Nothing but a well-formed key parses, and nothing raises."""
    assert keys.parse(data) is None


def test_keys_differ_in_the_last_bit_of_entropy() -> None:
    """All of the randomness is in the key."""
    zero = bytes(keys.ENTROPY_BYTES)
    one = zero[:-1] + b"\x01"
    assert keys.mint("caller", zero).secret != keys.mint("caller", one).secret
    assert len({len(keys.mint("caller", e).text) for e in (zero, one, b"\xff" * keys.ENTROPY_BYTES)}) == 1


def test_the_digest_needs_the_pepper() -> None:
    """The same secret under another pepper has another digest."""
    assert keys.digest(b"a" * 32, "secret") != keys.digest(b"b" * 32, "secret")
