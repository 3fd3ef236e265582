"""The form's bytes: only the model's name changes, and what two parsers might read differently is refused."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from naru.errors import BadRequest, UnsupportedMedia
from naru.protocol.media import TRANSCRIPTION
from naru.protocol.multipart import boundary_of, read_parts, with_text

BOUNDARY_CHARS = "abcXYZ019'()+_,-./:=?"
boundaries = st.text(BOUNDARY_CHARS, min_size=1, max_size=70)
names = st.sampled_from(["language", "prompt", "temperature", "include[]", "한글", "timestamp_granularities[]"])
texts = st.text(max_size=20).map(lambda text: text.encode("utf-8", "replace"))


def form(boundary: bytes, parts: list[tuple[str, bytes, bytes]], tail: bytes = b"--\r\n") -> bytes:
    """Parts are (what follows form-data, further head lines, content)."""
    pieces = [
        b"--%b\r\nContent-Disposition: form-data; %b\r\n%b\r\n%b\r\n" % (boundary, said.encode(), head, content)
        for said, head, content in parts
    ]
    return b"".join(pieces) + b"--" + boundary + tail


def content_type(boundary: bytes) -> bytes:
    return b'multipart/form-data; boundary="%b"' % boundary


@st.composite
def files(draw: st.DrawFn, boundary: bytes) -> bytes:
    """Bytes with pieces of the boundary among them, never a whole one at the start of a line."""
    dashed = b"--" + boundary
    near = st.sampled_from(
        [b"\r\n", b"\n", b"--", b"\r\n--", dashed, dashed[:-1], b"\r\n" + dashed[:-1], b"x" + dashed, b"\0\xff"]
    )
    data = b"".join(draw(st.lists(near | st.binary(max_size=12), max_size=12)))
    whole = b"\n" + data
    assume(b"\n" + dashed not in whole and b"\r" + dashed not in whole)
    return data


@given(st.data(), boundaries, st.integers(0, 4), st.booleans())
def test_every_byte_but_the_models_name_stays(data: st.DataObject, text: str, place: int, states_length: bool) -> None:
    """Any boundary, any order of fields, any file."""
    boundary = text.encode()
    content = data.draw(files(boundary))
    others = data.draw(
        st.lists(
            st.tuples(names, texts), max_size=4, unique_by=lambda pair: pair[0] if pair[0] == "prompt" else object()
        )
    )
    given_parts = [(f'name="{name}"', b"", value) for name, value in others]
    given_parts = [part for part in given_parts if b"--" + boundary not in part[2]]
    given_parts.insert(place, ('name="file"; filename="a\\"b; name=x.wav"', b"Content-Type: audio/wav\r\n", content))
    length = b"Content-Length: 9\r\n" if states_length else b""
    where = data.draw(st.integers(0, len(given_parts)))
    before = form(boundary, [*given_parts[:where], ('name="model"', length, b"the-model"), *given_parts[where:]])
    length = b"Content-Length: 3\r\n" if states_length else b""
    after = form(boundary, [*given_parts[:where], ('name="model"', length, b"new"), *given_parts[where:]])
    headers = [(b"content-type", content_type(boundary))]
    envelope = TRANSCRIPTION.read(before, "", headers)
    assert envelope.model == "the-model"
    forwarded = TRANSCRIPTION.forward(envelope, "new")
    assert forwarded.body == after
    assert forwarded.content_type == content_type(boundary)
    assert TRANSCRIPTION.forward(envelope, "the-model").body is before


@given(st.binary(max_size=300), boundaries)
def test_any_bytes_are_read_or_refused(body: bytes, text: str) -> None:
    for given_body in (body, b"--" + text.encode() + body, form(text.encode(), [('name="model"', body, b"m")])):
        with contextlib.suppress(BadRequest):
            for part in read_parts(given_body, text.encode()):
                assert 0 <= part.start <= part.end <= len(given_body)


FILE = ('name="file"; filename="a.wav"', b"", b"sound")
MODEL = ('name="model"', b"", b"m")
GOOD = form(b"B", [FILE, MODEL])


@pytest.mark.parametrize(
    "body",
    [
        b"",
        GOOD[:-6],
        GOOD[:-4],
        b"\r\n" + GOOD,
        b"preamble\r\n" + GOOD,
        GOOD + b"--B--",
        GOOD + b"more",
        GOOD.replace(b"\r\n", b"\n"),
        form(b"B", [FILE, MODEL]).replace(b"--B\r\n", b"--B \r\n"),
        # a second form, hidden from a strict reader and plain to a lenient one
        form(b"B", [(FILE[0], b"", b'x\n--B\nContent-Disposition: form-data; name="model"\n\nother'), MODEL]),
        form(b"B", [(FILE[0], b"", b'x\r--B\r\nContent-Disposition: form-data; name="model"\r\n\r\nother'), MODEL]),
        form(b"B", [(FILE[0], b"", b"x\r\n--B--\r\nrest"), MODEL]),
        form(b"B", [(FILE[0], b"", b"x\r\n--Bx\r\nrest"), MODEL]),
        # heads
        form(b"B", [FILE, ('name="model"', b"X-Folded: a\r\n b\r\n", b"m")]),
        form(b"B", [FILE, ('name="model"', b'Content-Disposition: form-data; name="x"\r\n', b"m")]),
        form(b"B", [FILE, ('name="model"', b"no colon\r\n", b"m")]),
        form(b"B", [FILE, ('name="model"', b"Content-Transfer-Encoding: base64\r\n", b"bQ==")]),
        form(b"B", [FILE, ('name="model"; name="other"', b"", b"m")]),
        form(b"B", [FILE, ('name="mod\\el"', b"", b"m")]),
        form(b"B", [FILE, ("name*=utf-8''model", b"", b"m")]),
        form(b"B", [FILE, ('filename="model"', b"", b"m")]),
        b"--B\r\n\r\nno head\r\n--B--\r\n",
        b"--B\r\nContent-Disposition: form-data\r\n\r\n\r\n--B--",
        form(b"B", [(f'name="f{number}"', b"", b"") for number in range(300)]),
    ],
)
def test_what_two_parsers_might_read_differently_is_refused(body: bytes) -> None:
    with pytest.raises(BadRequest) as caught:
        read_parts(body, b"B")
    assert caught.value.code == "invalid_multipart"
    assert len(caught.value.message) > 60


@pytest.mark.parametrize(
    ("given_type", "boundary"),
    [
        (b"multipart/form-data; boundary=abc", b"abc"),
        (b'Multipart/Form-Data;charset=utf-8; Boundary="a b"', b"a b"),
        (b"multipart/form-data; boundary=----WebKitFormBoundaryx/Y=", b"----WebKitFormBoundaryx/Y="),
    ],
)
def test_a_boundary_is_found(given_type: bytes, boundary: bytes) -> None:
    assert boundary_of(given_type) == boundary


@pytest.mark.parametrize(
    "given_type",
    [
        b"multipart/form-data", b"multipart/form-data; boundary=", b"multipart/form-data; boundary=a; boundary=b",
        b'multipart/form-data; boundary="a ', b"multipart/form-data; boundary=" + b"x" * 71, b"multipart/form-data; x",
    ],
)  # fmt: skip
def test_a_bad_boundary_is_refused(given_type: bytes) -> None:
    with pytest.raises(BadRequest):
        boundary_of(given_type)


def test_json_is_another_media_type() -> None:
    with pytest.raises(UnsupportedMedia):
        boundary_of(b"application/json")


def test_the_last_line_end_may_be_missing() -> None:
    """As some clients send it."""
    parts = read_parts(GOOD[:-2], b"B")
    assert [(part.name, part.filename) for part in parts] == [("file", "a.wav"), ("model", None)]
    assert with_text(GOOD, parts[1], b"other") == form(b"B", [FILE, (MODEL[0], b"", b"other")])
