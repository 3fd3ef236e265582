"""What the words behind `naru chat` mean: a model, a question, or both."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from msgspec import Struct

from naru.errors import BadRequest

#: From here on a lone unknown word is taken for a model's name with a mistake in it, and not asked as a question.
NEAR = 0.75
#: Models that answer no chat, by a part of their names (the sandbox's among them). Only the default is chosen by this; whoever
#: names such a model gets the endpoint's own words.
_OTHERS = ("embed", "rerank", "transcribe", "whisper", "speech", "tts", "image", "dall-e", "moderation", "sandbox/json")
_DEMO = "naru-demo"


class Asked(Struct, frozen=True):
    """Empty where it was not said."""

    model: str = ""
    question: str = ""


def may_be_model(word: str) -> bool:
    """A name has no white space. Whether there is such a model is for the gateway to say."""
    return bool(word) and not any(letter.isspace() for letter in word)


def asked(words: Sequence[str], is_model: bool, known: Sequence[str]) -> Asked:
    """`is_model`: the gateway has a model of the first word's name. Raises BadRequest for a lone word that is nearly one."""
    if not words:
        return Asked()
    if is_model:
        return Asked(words[0], " ".join(words[1:]))
    near = difflib.get_close_matches(words[0], known, n=1, cutoff=NEAR) if len(words) == 1 else []
    if near and may_be_model(words[0]):
        raise BadRequest(
            f"There is no model {words[0]!r}. Did you mean {near[0]}? To ask it as a question: naru chat -- {words[0]}"
        )
    return Asked(question=" ".join(words))


def default_model(known: Sequence[str]) -> str:
    """The first that chats, a real one before the demo's and that before the sandbox's. Raises BadRequest without any."""
    chats = [name for name in known if not any(part in name.lower() for part in _OTHERS)]
    if not chats:
        raise BadRequest("This key may use no chat model. `naru models list` shows what the gateway has.")
    return min(chats, key=lambda name: 2 if name.startswith("sandbox/") else name == _DEMO)
