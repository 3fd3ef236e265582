"""AWS's stream framing: any split gives the same messages, any damage one UpstreamBroken."""

from __future__ import annotations

import struct
from binascii import crc32
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from naru.errors import UpstreamBroken
from naru.protocol.eventstream import EventStreamSplitter, Message
from naru.testing.sandbox.bedrock import frame
from tests.protocol.samples import cut

LAW = settings(max_examples=80, deadline=None)
names = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=20)
messages = st.lists(
    st.tuples(st.dictionaries(names, st.text(max_size=30), max_size=4), st.binary(max_size=200)), max_size=5
)

#: AWS's own vectors of the format: an empty message, a payload alone, and one header of text.
EMPTY = bytes.fromhex("00000010 00000000 05c248eb 7d98c8ff")
PAYLOAD = bytes.fromhex("0000001d 00000000 fd528c5a 7b27666f6f273a2762617227 7d c3653936".replace(" ", ""))


def split(pieces: list[bytes]) -> tuple[list[Message], str | None]:
    splitter = EventStreamSplitter()
    found: list[Message] = []
    try:
        for piece in pieces:
            found += splitter.feed(piece)
        found += splitter.feed(b"")
        splitter.close()
    except UpstreamBroken as error:
        return found, error.message
    return found, None


def test_the_formats_own_vectors() -> None:
    assert split([EMPTY]) == ([Message({}, b"")], None)
    assert split([PAYLOAD]) == ([Message({}, b"{'foo':'bar'}")], None)
    assert frame({}, b"{'foo':'bar'}") == PAYLOAD


@LAW
@given(messages, st.lists(st.integers(0, 2_000), max_size=12))
def test_any_split_gives_the_same_messages(
    given_messages: list[tuple[dict[str, str], bytes]], places: list[int]
) -> None:
    stream = b"".join(frame(headers, payload) for headers, payload in given_messages)
    expected = ([Message(headers, payload) for headers, payload in given_messages], None)
    assert split([stream]) == split(cut(stream, places)) == split([bytes([byte]) for byte in stream]) == expected


@LAW
@given(messages.filter(bool), st.integers(0, 10_000), st.integers(1, 255), st.lists(st.integers(0, 2_000), max_size=6))
def test_a_flipped_byte_is_found_wherever_it_is(
    given_messages: list[tuple[dict[str, str], bytes]], place: int, flip: int, places: list[int]
) -> None:
    """What was whole before it is told; of the damaged message nothing is, nor of what follows."""
    frames = [frame(headers, payload) for headers, payload in given_messages]
    stream = bytearray(b"".join(frames))
    at = place % len(stream)
    stream[at] ^= flip
    before = next(n for n in range(len(frames)) if at < sum(map(len, frames[: n + 1])))
    whole = split([bytes(stream)])
    assert [(m.headers, m.payload) for m in whole[0]] == given_messages[:before]
    assert whole[1] is not None
    assert split(cut(bytes(stream), places)) == whole


@LAW
@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=6))
def test_noise_gives_messages_or_one_error(noise: bytes, places: list[int]) -> None:
    assert split(cut(noise, places)) == split([noise])


def test_a_stream_that_ends_inside_a_message_is_broken() -> None:
    assert split([frame({}, b"x")[:-1]])[1] is not None


def test_a_damaged_length_is_found_at_once() -> None:
    """Else the stream would stand still until so many bytes had come, and time out."""
    prelude = bytearray(frame({}, b"some words")[:12])
    prelude[2] ^= 1
    with pytest.raises(UpstreamBroken, match="length"):
        EventStreamSplitter().feed(bytes(prelude))


def test_a_message_that_is_too_large_is_refused_at_its_length() -> None:
    """Nothing of it is waited for."""
    prelude = struct.pack(">II", 1 << 30, 0)
    with pytest.raises(UpstreamBroken) as caught:
        EventStreamSplitter().feed(prelude + struct.pack(">I", crc32(prelude)))
    assert caught.value.code == "upstream_event_too_large"


def packed(headers: bytes, payload: bytes = b"") -> bytes:
    prelude = struct.pack(">II", 16 + len(headers) + len(payload), len(headers))
    body = prelude + struct.pack(">I", crc32(prelude)) + headers + payload
    return body + struct.pack(">I", crc32(body))


VALUES = [
    b"\x00", b"\x01", b"\x02\x07", b"\x03\x00\x07", b"\x04" + bytes(4), b"\x05" + bytes(8), b"\x06\x00\x03abc",
    b"\x08" + bytes(8), b"\x09" + bytes(16),
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES)
def test_headers_of_other_types_are_passed_over(value: bytes) -> None:
    found, error = split([packed(b"\x01n" + value + b"\x01t\x07\x00\x02hi", b"x")])
    assert (found, error) == ([Message({"t": "hi"}, b"x")], None)


@pytest.mark.parametrize(
    "headers", [b"\x05n", b"\x01n", b"\x01n\x0a", b"\x01n\x07\x00", b"\x01n\x07\x00\x09hi", b"\x01n\x07\x00\x01\xff"]
)
def test_headers_that_are_damaged_though_the_checksum_fits(headers: bytes) -> None:
    assert split([packed(headers)])[1] is not None


def test_lengths_that_do_not_fit() -> None:
    prelude: Any = struct.pack(">II", 16, 8)
    assert split([prelude + struct.pack(">I", crc32(prelude)) + bytes(4)])[1] is not None
