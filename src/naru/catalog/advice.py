"""Which model for a task? Plain rules in the open, no model asked: words say what the task needs, the catalogue who can.

Three steps, each of them printed: the task's words become needs (NEEDS); what a model cannot do rules it out, what it is
known for counts for it (STRENGTHS, by family, as its makers claim); price breaks ties, and leads where the task is bulk.
Quality is not measured here, and that is said.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from decimal import Decimal
from fractions import Fraction

from msgspec import Struct

from naru.catalog.models import Model, Offer

#: need -> (what it is called, its words). Latin words match at their beginning, Korean ones anywhere (particles follow).
NEEDS: dict[str, tuple[str, str]] = {
    "rerank": ("reranking", "rerank|re-rank|cross-encoder|리랭크|리랭킹|재정렬|재순위"),
    "embeddings": ("embeddings", "embed|semantic search|vector|rag(?![a-z])|임베딩|벡터|의미 검색|시맨틱"),
    "transcription": (
        "speech to text",
        "transcri|speech.to.text|recording|audio|voice|음성|녹음|받아쓰기|전사해|전사록",
    ),
    "speech": ("text to speech", "text.to.speech|tts(?![a-z])|read aloud|음성 합성|읽어 ?주|낭독"),
    "images": (
        "drawing pictures",
        "draw(?:ing)?(?![a-z])|generate (?:an )?image|image generation|그려|이미지 생성|그림 생성",
    ),
    "vision": (
        "pictures",
        "image|picture|photo|screenshot|ocr(?![a-z])|chart|diagram|scan|이미지|사진|그림|화면|스캔|도표",
    ),
    "coding": (
        "coding",
        "cod(?:e|es|ing)(?![a-z])|program|refactor|bug|debug|unit test|python|java|sql|코드|코딩|프로그래|프로그램|리팩터"
        "|리팩토|버그|디버",
    ),
    "maths": ("maths", "math|proof|prove|equation|algebra|calculus|statistic|수학|증명|방정식|미적분|통계"),
    "long": (
        "long documents",
        "long (?:document|text|report)|books?(?![a-z])|whole repo|contract|긴 문서|긴 글|장문|계약서|도서",
    ),
    "translation": ("translation", "translat|locali[sz]|번역|통역"),
    "cheap": (
        "cheap bulk",
        "cheap|bulk|thousand|million|classif|tagging|low cost|대량|저렴|싸게|값싼|분류|수천|수만|수백만",
    ),
    "agents": (
        "agents with tools",
        "agent|tool|function call|mcp(?![a-z])|browse|workflow|에이전트|도구|함수 호출|자동화",
    ),
    "reasoning": (
        "reasoning",
        "reason(?:s|ing)?(?![a-z])|plan(?:s|ning)?(?![a-z])|analy|logic|think|추론|분석|논리|계획|판단",
    ),
    "korean": ("Korean", "korea|hangul|한국어|한글|국문|국어|우리말"),
}
#: The first of these that a task needs is what the model must offer; without any it is chat.
ENDPOINTS = {
    "rerank": "rerank",
    "embeddings": "embeddings",
    "speech": "speech",
    "transcription": "transcription",
    "images": "images",
}
CHAT = frozenset(("chat", "responses", "messages", "generate", "clova_v3", "clova_v1"))
#: Beginning of a family's name -> what its makers publish it for (model cards, announcements). The longest one counts.
STRENGTHS: dict[str, tuple[str, ...]] = {
    "claude": ("coding", "agents", "long", "reasoning", "vision"),
    "claude-haiku": ("cheap", "agents"),
    "gpt-4": ("vision", "agents"),
    "gpt-5": ("coding", "agents", "reasoning", "maths"),
    "gpt-6": ("coding", "agents", "reasoning", "maths"),
    "o": ("reasoning", "maths"),
    "gemini": ("vision", "long", "translation", "reasoning"),
    "qwen": ("translation",),
    "qwen3": ("translation", "reasoning", "agents"),
    "qwen3-coder": ("coding", "agents"),
    "qwen3-vl": ("vision",),
    "qwen2.5": ("translation",),
    "qwen2.5-coder": ("coding",),
    "qwq": ("reasoning", "maths"),
    "deepseek": ("coding", "maths", "reasoning"),
    "hyperclova": ("korean",),
}
LANGUAGES = {"ko": "korean", "kr": "korean", "korean": "korean"}
HANGUL = re.compile(r"[\uac00-\ud7a3]")
#: Families made for one thing, which cost points where the task is another.
SPECIALISTS = {"qwen3-coder": "coding", "qwen2.5-coder": "coding"}
#: What "long documents" asks for, in tokens.
LONG_CONTEXT = 200_000
TOP = 5
#: At most so many of one family among the top, so that five answers are not five versions of one.
OF_A_FAMILY = 2
#: Only for comparing, where no rate is set; bills never use it.
COMPARED_AT = Decimal(1400)
#: Points: a strength that the task needs; a strength in the price's place among the rest, for plain tasks and for bulk.
STRENGTH, PRICE, BULK, MISPLACED = 3, 2, 8, -2


class Task(Struct, frozen=True, kw_only=True):
    """`needs` in the order of NEEDS with the word that showed each; `endpoint`: what a model must offer ("chat", …)."""

    text: str
    needs: dict[str, str]
    endpoint: str

    @property
    def words(self) -> str:
        return ", ".join(f"{NEEDS[need][0]} ({shown})" for need, shown in self.needs.items()) or "plain conversation"


class Advice(Struct, frozen=True, kw_only=True):
    """`reasons` in words; `price` and `place` (provider, or hardware figures) as they are shown."""

    model: str
    family: str
    place: str
    price: str
    points: float
    reasons: tuple[str, ...]


def read_task(text: str, languages: Iterable[str] = ()) -> Task:
    """What the words ask for. Deterministic, case aside; what no word says is not assumed."""
    needs: dict[str, str] = {}
    low = text.lower()
    for need, (_, words) in NEEDS.items():
        found = re.search(rf"(?<![a-z])(?:{words})", low)
        if found:
            needs[need] = f"“{found[0]}”"
    for language in languages:
        need_of = LANGUAGES.get(language.strip().lower())
        if need_of:
            needs.setdefault(need_of, f"--languages {language.strip()}")
    if HANGUL.search(text):
        needs.setdefault("korean", "the task is written in it")
    # "image generation" and "음성 합성" hold the word of another need, which they do not mean.
    if "images" in needs:
        needs.pop("vision", None)
    if "speech" in needs and "transcri" not in low:
        needs.pop("transcription", None)
    endpoint = next((ENDPOINTS[need] for need in ENDPOINTS if need in needs), "chat")
    return Task(text=text, needs=needs, endpoint=endpoint)


def strengths_of(family: str) -> tuple[str, ...]:
    fitting = [name for name in STRENGTHS if family == name or (family.startswith(name) and len(name) > 1)]
    return STRENGTHS[max(fitting, key=len)] if fitting else ()


def misplaced(family: str, task: Task) -> float:
    """Points lost by a specialist outside its field."""
    return 0 if SPECIALISTS.get(family, "") in ("", *task.needs) else MISPLACED


def best(advice: Iterable[Advice], top: int = TOP) -> list[Advice]:
    """The most points first, names break ties, at most OF_A_FAMILY of a family."""
    chosen: list[Advice] = []
    taken: dict[str, int] = {}
    for item in sorted(advice, key=lambda item: (-item.points, item.model)):
        if taken.get(item.family, 0) < OF_A_FAMILY:
            taken[item.family] = taken.get(item.family, 0) + 1
            chosen.append(item)
    return chosen[:top]


# --- Hosted models


class _Candidate(Struct, frozen=True):
    model: Model
    offer: Offer
    nano: int


def hosted(task: Task, models: Sequence[Model]) -> list[Advice]:
    """The catalogue's hosted models for `task`. What is retired, unpriced, or answered by another model is left out."""
    able = [found for model in models if _can(model, task) and (found := _cheapest(model)) is not None]
    prices = sorted({candidate.nano for candidate in able})
    return best(_judged(candidate, task, prices) for candidate in able)


def _can(model: Model, task: Task) -> bool:
    can = model.capabilities
    if model.retires is not None or model.family == "sandbox" or any(offer.defaults for offer in model.offers):
        return False
    offered = set(can.endpoints)
    if task.endpoint != "chat":
        return task.endpoint in offered
    if (
        not offered & CHAT
        or ("vision" in task.needs and not can.image_in)
        or ("agents" in task.needs and not can.tools)
    ):
        return False
    return "long" not in task.needs or (model.context or 0) >= LONG_CONTEXT


def _cheapest(model: Model) -> _Candidate | None:
    """The offer with the lowest list price. Prices that change with the hour or the input count by their first row."""
    priced = [_Candidate(model, offer, _blend(offer)) for offer in model.offers if offer.price is not None]
    return min(priced, key=lambda candidate: candidate.nano, default=None)


def _blend(offer: Offer) -> int:
    """Nano-USD for a million tokens, three of input to one of output, as conversations usually have it."""
    assert offer.price is not None
    rate = offer.price.rows[0].rate
    if rate.units is not None and not rate.input:
        # Only compared with others that are billed by the same unit, mostly: the order is right, the amount is not shown.
        return int(Fraction(rate.units.nano, rate.units.per) * 1000)
    output = rate.input if rate.output is None else rate.output
    return (3 * rate.input + output) // 4


def _judged(candidate: _Candidate, task: Task, prices: list[int]) -> Advice:
    model, can = candidate.model, candidate.model.capabilities
    reasons = []
    points = misplaced(model.family, task)
    known = [need for need in task.needs if need in strengths_of(model.family)]
    if known:
        points += STRENGTH * len(known)
        reasons.append(f"its family is known for {_and(NEEDS[need][0] for need in known)}")
    if "vision" in task.needs and task.endpoint == "chat":
        reasons.append("reads pictures")
    if "agents" in task.needs and task.endpoint == "chat":
        reasons.append("calls tools")
    if can.reasoning_style != "none" and {"reasoning", "maths", "coding"} & set(task.needs):
        points += 1
        reasons.append("can think before it answers")
    if "long" in task.needs:
        reasons.append(f"{model.context or 0:,} tokens of context")
    # The cheapest has the whole bonus, the dearest none; the steps are places, not amounts, which span three powers of ten.
    place = prices.index(candidate.nano)
    cheaper = 1 - place / max(1, len(prices) - 1)
    points += (BULK if "cheap" in task.needs else PRICE) * cheaper
    reasons.append("the cheapest that can" if not place else f"{_ordinal(place + 1)} of {len(prices)} prices")
    return Advice(
        model=model.id,
        family=model.family,
        place=candidate.offer.provider,
        price=_price(candidate.offer),
        points=round(points, 6),
        reasons=tuple(reasons),
    )


def _price(offer: Offer) -> str:
    assert offer.price is not None
    rate = offer.price.rows[0].rate
    if rate.units is not None:
        return f"{rate.units.nano / 10**9:g} USD per {rate.units.per:,} {rate.units.unit}s"
    out = "" if rate.output is None else f" in, {rate.output / 10**9:g} out"
    return f"{rate.input / 10**9:g} USD{out} per million tokens"


def _and(words: Iterable[str]) -> str:
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last


def _ordinal(number: int) -> str:
    ending = "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def assumptions(task: Task, with_hosted: bool, with_local: bool) -> list[str]:
    """What the answer takes for granted."""
    lines = ["Rules by words and published claims; no quality was measured: try the first two on your own examples."]
    if not task.needs:
        lines.append("No word of the task says what it needs, so only price and size decide.")
    if "embeddings" in task.needs and "rag" in task.needs["embeddings"]:
        lines.append("Retrieval needs embeddings first; ask again for the model that writes the answers.")
    if with_hosted:
        lines.append(
            "Hosted: list prices, three tokens of input to one of output; nobody looked whether you have the key."
        )
        lines.append(
            f"Prices in won are compared at ledger.krw_per_usd, else at {COMPARED_AT} won to the dollar; a model without a known "
            "price is left out."
        )
        lines.append("Models that are about to retire, or lack what the task must have, are left out.")
    if with_local:
        if "cheap" in task.needs:
            lines.append("Local bulk work: about 4 B parameters follow instructions and leave room for many at once.")
        lines.append(
            "Local: the least quantised form that fits and is not slow, one sequence; `naru models fit` has each sum."
        )
    return lines
