"""Splitting server-sent events: the WHATWG cases, any cut, bounded memory, and events passed on as they came."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from naru.errors import UpstreamBroken
from naru.protocol.sse import Frame, SseSplitter, write_comment, write_event
from tests.protocol.samples import cut

Seen = tuple[bytes | None, bytes, bytes, bytes]


def split(pieces: list[bytes], limit: int = 4096) -> list[Seen]:
    splitter = SseSplitter(limit)
    frames: list[Frame] = []
    for piece in pieces:
        frames += splitter.feed(piece)
    frames += splitter.close()
    return [(frame.data, frame.event, frame.id, frame.raw) for frame in frames]


def told(stream: bytes) -> list[bytes | None]:
    return [data for data, _, _, _ in split([stream]) if data is not None]


CASES = {
    "LF": (b"data: a\n\ndata: b\n\n", [b"a", b"b"]),
    "CRLF": (b"data: a\r\n\r\ndata: b\r\n\r\n", [b"a", b"b"]),
    "CR": (b"data: a\r\rdata: b\r\r", [b"a", b"b"]),
    "endings mixed": (b"data: a\r\n\ndata: b\n\r\ndata: c\n\rdata: d\r\r\ndata: e\n\n", [b"a", b"b", b"c", b"d", b"e"]),
    "no blank after the colon": (b"data:a\n\n", [b"a"]),
    "only one blank is taken": (b"data:  a\n\n", [b" a"]),
    "several data lines": (b"data: a\ndata:b\ndata\n\n", [b"a\nb\n"]),
    "comments and other fields": (b": hi\ndata: a\nretry: 5\nother: x\n\n", [b"a"]),
    "a byte order mark first": (b"\xef\xbb\xbfdata: a\n\n", [b"a"]),
    "a byte order mark later is text": (b"data: a\n\n\xef\xbb\xbfdata: b\n\n", [b"a"]),
    "blank lines between": (b"\n\n\ndata: a\n\n\n\n\ndata: b\n\n", [b"a", b"b"]),
    "empty data is no event": (b"data:\n\ndata: \n\nevent: x\n\ndata: a\n\n", [b"a"]),
    "a colon in the data": (b"data: a: b\n\n", [b"a: b"]),
    "an end without a blank line": (b"data: a\n\ndata: b", [b"a", b"b"]),
    "an end after one line end": (b"data: a\n", [b"a"]),
    "korean": ("data: 안녕\n\n".encode(), ["안녕".encode()]),
}


@pytest.mark.parametrize(("stream", "expected"), CASES.values(), ids=CASES.keys())
def test_events_by_the_standard(stream: bytes, expected: list[bytes]) -> None:
    """Line ends, blanks, comments, marks and unfinished events."""
    assert told(stream) == expected
    assert [data for data, *_ in split(cut(stream, list(range(len(stream))))) if data is not None] == expected


def test_event_and_id_are_kept() -> None:
    """The other fields of an event are there for the dialects that use them; an id with NUL is ignored."""
    frame, bare = SseSplitter().feed(b"event: ping\nid: 7\nretry: 250\ndata: x\n\nid: a\0b\nretry: soon\ndata: y\n\n")
    assert (frame.event, frame.id, frame.retry_ms, frame.data) == (b"ping", b"7", 250, b"x")
    assert (bare.event, bare.id, bare.retry_ms, bare.data) == (b"", b"", None, b"y")


pieces = st.lists(
    st.sampled_from(
        [b"data: x", b"data:", b":c", b"\n", b"\r", b"\r\n", b"event: e", b"\xef\xbb\xbf", "안".encode(), b"\n\n"]
    ),
    max_size=16,
).map(b"".join)


@settings(max_examples=300, deadline=None)
@given(pieces, st.lists(st.integers(0, 80), max_size=6))
def test_where_the_bytes_are_cut_never_shows(stream: bytes, places: list[int]) -> None:
    """Whole = random splits = byte by byte, raw bytes included."""
    assert split([stream]) == split(cut(stream, places)) == split(cut(stream, list(range(len(stream)))))


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\r"), min_size=1).filter(str.strip), max_size=5)
)
def test_what_is_written_is_read_back(values: list[str]) -> None:
    """Data with line breaks becomes several lines and comes back as one."""
    stream = b"".join(write_event(value.encode(), b"e", b"1") + write_comment() for value in values)
    found = [(data, event, ident) for data, event, ident, _ in split([stream]) if data is not None]
    assert found == [(value.encode(), b"e", b"1") for value in values]


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_whole_events_are_the_very_bytes_that_came(end: bytes) -> None:
    """No copy for a piece of one event; pieces of several are known to be verbatim."""
    one = b"data: x" + end + end
    splitter = SseSplitter()
    splitter.feed(one)
    assert splitter.feed(one)[0].raw is one
    assert splitter.is_verbatim
    assert [frame.raw for frame in splitter.feed(one * 3)] == [one] * 3
    assert splitter.is_verbatim
    splitter.feed(one + b"dat")
    assert not splitter.is_verbatim
    assert not splitter.is_idle


@pytest.mark.parametrize("size", [1, 7, 5_000])
def test_an_event_without_end_is_cut_off(size: int) -> None:
    """Over the limit the stream is broken, in whatever pieces it comes; the events before it are still told."""
    stream = b"data: a\n\n" + b"data: " + b"x" * 5_000
    splitter = SseSplitter(1_000)
    told_before: list[bytes | None] = []

    def feed_all() -> None:
        for start in range(0, len(stream) + size, size):
            told_before.extend(frame.data for frame in splitter.feed(stream[start : start + size]))

    with pytest.raises(UpstreamBroken, match="1,000 bytes"):
        feed_all()
    assert told_before == [b"a"]
    with pytest.raises(UpstreamBroken):
        splitter.feed(b"data: b\n\n")
    with pytest.raises(UpstreamBroken):
        splitter.close()


def test_a_finished_event_over_the_limit_is_refused_too() -> None:
    """The same event is refused whether it comes in one piece or in many."""
    big = b"data: " + b"x" * 2_000 + b"\n\n"
    for parts in ([big], cut(big, list(range(0, len(big), 10)))):
        splitter = SseSplitter(1_000)
        with pytest.raises(UpstreamBroken):
            any(splitter.feed(part) for part in parts)


def test_small_pieces_of_a_large_event_are_not_searched_again() -> None:
    """A million bytes in hundred-byte pieces: the cost stays linear (a quadratic search would take minutes)."""
    splitter = SseSplitter()
    splitter.feed(b"data: a\n\n")
    for _ in range(10_000):
        assert splitter.feed(b"x" * 100) == []
    assert splitter.feed(b"\n\ndata: b\n\n")[-1].data == b"b"
