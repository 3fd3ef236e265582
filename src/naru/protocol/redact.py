"""What must not stand in a record is taken out of its text: credentials, addresses, numbers of people and cards. Pure.

Patterns find what has a form. A password in a sentence has none, so a record stays something to guard all the same. Every
pattern is linear: bounded repeats, no alternatives that begin alike.
"""

from __future__ import annotations

import re
from collections.abc import Callable

CREDENTIALS = re.compile(
    r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----[\s\S]{0,4000}?(?:-----END [A-Z ]{0,30}PRIVATE KEY-----|\Z)"
    # No \b: a Korean particle may touch what it follows, and is a letter too.
    r"|(?<![A-Za-z0-9])(?i:bearer|basic)\s{1,4}[A-Za-z0-9._~+/=-]{8,}"
    # Ours; OpenAI's and its likes'; CLOVA Studio's; Groq, Hugging Face, xAI, Google, AWS, GitHub, Slack; a JWT.
    r"|(?<![A-Za-z0-9])(?:nka?-[0-9A-Za-z][0-9A-Za-z-]{7,}"
    r"|(?:sk|pk|rk|nv|gsk|hf|xai|csk|tvly|r8|ghp|gho|ghs|github_pat|glpat|xox[abeprs])[-_][0-9A-Za-z_-]{8,}"
    r"|AIza[0-9A-Za-z_-]{20,}|(?:AKIA|ASIA)[0-9A-Z]{12,}|ABSK[0-9A-Za-z+/=]{20,}"
    r"|eyJ[0-9A-Za-z_-]{8,}\.[0-9A-Za-z_-]{8,}\.?[0-9A-Za-z_-]*)"
    # https://user:password@host
    r"|(?<=://)[^\s/:@]{1,100}:[^\s/@]{1,200}(?=@)"
)
EMAIL = re.compile(
    r"(?<![A-Za-z0-9_.+%-])[A-Za-z0-9_.+%-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}(?![A-Za-z0-9])"
)
#: Six digits of a birthday, then sex and century (5 to 8: foreigners), then six more.
RESIDENT = re.compile(r"(?<!\d)\d{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])[ \u2010-\u2015-]?[1-8]\d{6}(?!\d)")
CARD = re.compile(r"(?<![\d.])\d(?:[ -]?\d){12,18}(?![\d.]?\d)")
PHONE = re.compile(
    # Korea: mobile with or without marks; others with marks. Then +country, then North America's with marks.
    r"(?<![\d.-])(?:(?:\+82[ .-]?|0)1[016789][ .-]?\d{3,4}[ .-]?\d{4}"
    r"|(?:0(?:2|[3-6]\d|70|50\d)[ .)-]{1,2}|\+82[ .-]?\d{1,2}[ .-]?)\d{3,4}[ .-]\d{4}"
    r"|\+[1-9](?:[ .()-]{0,2}\d){7,14}"
    r"|(?:\(\d{3}\) ?|\d{3}[.-])\d{3}[.-]\d{4})(?![\d-])"
)


def redact(text: str) -> str:
    """The text with `[key]`, `[email]`, `[resident number]`, `[card]` and `[phone]` where such stood."""
    text = CREDENTIALS.sub("[key]", text)
    text = EMAIL.sub("[email]", text)
    text = RESIDENT.sub("[resident number]", text)
    text = CARD.sub(_if(_is_card, "[card]"), text)
    return PHONE.sub("[phone]", text)


def _if(test: Callable[[str], bool], word: str) -> Callable[[re.Match[str]], str]:
    return lambda found: word if test(found[0]) else found[0]


def _is_card(text: str) -> bool:
    """Luhn's check (ISO/IEC 7812-1); a row of one digit passes it and is no card."""
    digits = [int(char) for char in text if char.isdigit()]
    doubled = [digit * 2 - 9 * (digit > 4) for digit in digits[-2::-2]]
    return len(set(digits)) > 1 and (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0
