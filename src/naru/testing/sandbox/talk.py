"""What can be read out of the last user text, for arguments that make sense: places, numbers, a sum to calculate, quotes."""

from __future__ import annotations

import re

import msgspec

from naru.testing.sandbox.places import find_places

_NUMBER = re.compile(r"(?<![\w.])-?\d{1,15}(?:\.\d{1,15})?(?![\d.])")
_SUM = re.compile(r"[\d(][\d\s.+\-*/()^%]{0,200}[\d)]")

_PLACE_WORDS = ("location", "city", "cities", "place", "town", "destination", "origin", "departure", "arrival")
_PLACE_WORDS_KO = ("도시", "지역", "위치", "장소", "목적지", "출발지", "도착지")
_TEXT_WORDS = frozenset(
    {"query", "q", "text", "question", "prompt", "message", "search", "input", "content", "keyword"}
)
#: Between quotation marks; an apostrophe inside a word is none.
_QUOTE = re.compile(r"(?<!\w)'([^'\n]{1,200})'(?!\w)|\"([^\"\n]{1,200})\"|“([^”\n]{1,200})”|「([^」\n]{1,200})」")
_NAME_WORDS = ("name", "title", "이름", "제목")
_SUM_WORDS = frozenset({"expression", "formula", "equation", "calculation", "수식", "식"})


class Talk(msgspec.Struct, frozen=True):
    """The last user text and what was found in it, in the order found."""

    text: str = ""
    places: tuple[str, ...] = ()
    numbers: tuple[float, ...] = ()
    calculation: str | None = None
    quotes: tuple[str, ...] = ()

    @property
    def is_korean(self) -> bool:
        return any("가" <= letter <= "힣" for letter in self.text)

    @property
    def usual_place(self) -> str:
        """For a place that the text does not name."""
        return "서울" if self.is_korean else "Seoul"


def read_talk(text: str) -> Talk:
    sums = [found.strip() for found in _SUM.findall(text) if any(sign in found.strip()[1:] for sign in "+-*/^%")]
    return Talk(
        text=text,
        places=tuple(find_places(text)),
        numbers=tuple(float(found) for found in _NUMBER.findall(text)),
        calculation=sums[0] if sums else None,
        quotes=tuple("".join(found) for found in _QUOTE.findall(text)),
    )


def is_place(name: str, description: object = "") -> bool:
    """Whether a property wants a place, by its name or, failing that, by its description."""
    lowered = name.lower()
    if any(word in lowered for word in (*_PLACE_WORDS, *_PLACE_WORDS_KO)):
        return True
    words = description.lower() if isinstance(description, str) else ""
    return any(word in words for word in ("city", "town", *_PLACE_WORDS_KO))


def is_text(name: str) -> bool:
    return name.lower() in _TEXT_WORDS


def is_name(name: str) -> bool:
    return name.lower().endswith(_NAME_WORDS)


def is_calculation(name: str) -> bool:
    return name.lower() in _SUM_WORDS
