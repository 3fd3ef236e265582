"""Files that a message names: pictures by their path, texts by @path."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from msgspec import Struct

from naru.agent.builtin.files import text_in
from naru.errors import BadRequest

MIB = 1 << 20
#: Of the common limits of providers the largest; base64 adds a third, and the gateway takes bodies of 32 MiB.
MAX_PICTURE_BYTES = 20 * MIB
MAX_TEXT_BYTES = MIB
_MAGIC = ((b"\x89PNG\r\n\x1a\n", "png"), (b"\xff\xd8\xff", "jpeg"), (b"GIF8", "gif"))
#: Words as a shell would have them: a file that is dropped onto a terminal arrives quoted, or with its spaces escaped.
_WORD = re.compile(r"""(@?)(?:'([^'\n]+)'|"([^"\n]+)"|((?:\\.|[^\s'"\\])+))""")
#: A Korean particle follows its word without a space: "cat.png를".
_PICTURE = re.compile(r".*?\.(?:png|jpe?g|gif|webp)(?=$|[^\w.]|[가-힣])", re.IGNORECASE)
_TAIL = re.compile(r"[가-힣]+$|[.,;:!?)\]]+$")


class Mention(Struct, frozen=True):
    """`paths` are what may be meant, the likeliest first. `is_at`: written with an @."""

    paths: tuple[str, ...]
    is_at: bool


class Picture(Struct, frozen=True):
    name: str
    url: str
    size_bytes: int


class Document(Struct, frozen=True):
    name: str
    text: str


Attachment = Picture | Document


def mentions(text: str) -> Iterator[Mention]:
    """What in a message may be the path of a picture, or follows an @ at the start of a word."""
    for match in _WORD.finditer(text):
        at, single, double, bare = match.groups()
        if at and match.start() and not text[match.start() - 1].isspace():
            continue  # somebody@example.com
        bare_at = bool(bare and bare.startswith("@"))
        word = single or double or re.sub(r"\\(.)", r"\1", bare or "")
        if at or bare_at:
            yield Mention(tuple(_shorter(word.removeprefix("@"))), True)
        elif picture := _PICTURE.match(word):
            yield Mention((picture[0],), False)


def _shorter(word: str) -> Iterator[str]:
    """The word, and without the particles and signs at its end."""
    yield word
    while (shorter := _TAIL.sub("", word)) != word and shorter:
        yield shorter
        word = shorter


def path_of(word: str) -> Path:
    if word.startswith("file://"):
        word = unquote(word.removeprefix("file://"))
    return Path(word).expanduser()


def found(text: str, exists: Callable[[Path], bool]) -> tuple[list[Path], list[str]]:
    """(files that are there, @names that are none), each once."""
    paths: dict[Path, None] = {}
    missing: dict[str, None] = {}
    for mention in mentions(text):
        there = next((path for word in mention.paths if exists(path := path_of(word))), None)
        if there is not None:
            paths[there] = None
        elif mention.is_at and re.search(r"[./]", mention.paths[0]):
            missing[mention.paths[-1]] = None
    return list(paths), list(missing)


def read(path: Path) -> Attachment:
    """Raises BadRequest for what is neither a picture nor a text, and for what is too long."""
    try:
        size = path.stat().st_size
        data = path.read_bytes() if size <= MAX_PICTURE_BYTES else b""
    except OSError as error:
        raise BadRequest(f"{path} cannot be read: {error.strerror}.") from error
    if size > MAX_PICTURE_BYTES:
        raise BadRequest(f"{path} has {size:,} bytes; {MAX_PICTURE_BYTES:,} can be attached.")
    return attachment(str(path), data)


def attachment(name: str, data: bytes) -> Attachment:
    """By its first bytes, whatever its name. Raises BadRequest."""
    kind = picture_kind(data)
    if kind:
        encoded = base64.b64encode(data).decode()
        return Picture(name, f"data:image/{kind};base64,{encoded}", len(data))
    return Document(name, text_of(name, data))


def picture_kind(data: bytes) -> str:
    """Empty for what is no picture that models take."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    return next((kind for magic, kind in _MAGIC if data.startswith(magic)), "")


def text_of(name: str, data: bytes) -> str:
    """Raises BadRequest."""
    if len(data) > MAX_TEXT_BYTES:
        raise BadRequest(f"{name} has {len(data):,} bytes; texts of up to {MAX_TEXT_BYTES:,} can be put in.")
    text = text_in(data)
    if text is None:
        raise BadRequest(f"{name} is neither text nor a picture (PNG, JPEG, GIF, WebP).")
    return text


def content_of(text: str, attached: Sequence[Attachment]) -> str | list[dict[str, Any]]:
    """A user message's content: texts before the question, pictures after it."""
    texts = [_fenced(each) for each in attached if isinstance(each, Document)]
    whole = "\n\n".join([*texts, text] if text else texts)
    pictures = [each for each in attached if isinstance(each, Picture)]
    if not pictures:
        return whole
    parts: list[dict[str, Any]] = [{"type": "text", "text": whole}] if whole else []
    return [*parts, *({"type": "image_url", "image_url": {"url": each.url}} for each in pictures)]


def _fenced(document: Document) -> str:
    """With a fence that is longer than any in it."""
    longest = max((len(run) for run in re.findall(r"`{3,}", document.text)), default=2)
    fence = "`" * (longest + 1)
    return f"{document.name}:\n{fence}\n{document.text.rstrip()}\n{fence}"


def shown(attached: Attachment) -> str:
    if isinstance(attached, Picture):
        return f"attached {attached.name} ({attached.size_bytes / 1024:,.0f} KB)"
    return f"put in {attached.name} ({len(attached.text):,} characters)"
