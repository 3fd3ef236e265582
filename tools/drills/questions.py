"""What a drill asks, and what it makes of the answers. Pure.

Every request carries a nonce and a number of words. The upstream says the words `nonce.0 nonce.1 …`, so an answer shows whose it
is and whether it is whole: a word that is missing, doubled, out of order or somebody else's is seen.
"""

from __future__ import annotations

import re
from random import Random
from typing import Any, Literal

import msgspec

#: whole: every word once, in order, and said to be complete.
#: cut: some words, then an error inside the stream and no [DONE]. refused: a status other than 200.
#: broken: the connection ended, or time was up, and nothing said so inside the answer.
#: false: passed off as whole, and it is not. foreign: words of another request.
Ending = Literal["whole", "cut", "refused", "broken", "false", "foreign"]

_WORD = re.compile(rb"\b(q[0-9a-f]{12})\.(\d+)")
_ASKED = re.compile(r"\b(q[0-9a-f]{12}) wants (\d+) words")


class Question(msgspec.Struct, frozen=True):
    """`at` is when it is asked, in seconds from the beginning. `headers` are lines for the request."""

    nonce: str
    words: int
    is_stream: bool
    at: float
    model: str = "m"
    headers: str = ""
    padding: int = 0

    def body(self) -> bytes:
        text = f"{self.nonce} wants {self.words} words" + " and nothing else" * self.padding
        asked: dict[str, Any] = {"model": self.model, "messages": [{"role": "user", "content": text}]}
        if self.is_stream:
            asked |= {"stream": True, "stream_options": {"include_usage": True}}
        return msgspec.json.encode(asked)

    def request(self, key: str) -> bytes:
        """On a connection of its own, which ends with the answer."""
        body = self.body()
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: drill\r\nauthorization: Bearer {key}\r\nconnection: close\r\n"
        )
        return f"{head}{self.headers}content-length: {len(body)}\r\n\r\n".encode() + body


class Answer(msgspec.Struct, frozen=True):
    """`began` is on the loop's clock, `ttft_s` None when no word came. `cost_nano` is what the answer told of its price."""

    question: Question
    ending: Ending
    began: float = 0.0
    ttft_s: float | None = None
    took_s: float = 0.0
    why: str = ""
    request_id: str = ""
    cost_nano: int | None = None
    deployment: str = ""

    @property
    def is_before_commit(self) -> bool:
        """It failed, and nothing had been said: another deployment could have answered."""
        return self.ending != "whole" and self.ttft_s is None


def nonce(random: Random) -> str:
    return f"q{random.getrandbits(48):012x}"


def asked_of(body: bytes) -> tuple[str, int]:
    """(nonce, words) of a request as an upstream gets it."""
    found = _ASKED.search(body.decode())
    assert found is not None, body
    return found[1], int(found[2])


def said_before(body: bytes) -> int:
    """Words of the answer that were said by another, which is to be gone on with (vLLM's continue_final_message)."""
    if b'"continue_final_message":true' not in body:
        return 0
    last = msgspec.json.decode(body)["messages"][-1]
    assert last["role"] == "assistant", last
    return len(_WORD.findall(last["content"].encode()))


def word(nonce: str, number: int) -> str:
    return f"{nonce}.{number} "


def steady(random: Random, per_s: float, seconds: float, stream_part: float = 1.0, words: int = 3) -> list[Question]:
    """At an even rate, each a little off its place, so that nothing falls in step."""
    return [
        Question(nonce(random), words, random.random() < stream_part, (number + random.random()) / per_s)
        for number in range(int(per_s * seconds))
    ]


def read(question: Question, data: bytes) -> Answer:
    """`data` is everything that was said on the connection until its end."""
    head, _, body = data.partition(b"\r\n\r\n")
    if not body:
        return Answer(question, "broken", why="no answer")
    lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    told = Answer(
        question,
        "whole",
        request_id=headers.get("x-request-id", ""),
        deployment=headers.get("x-naru-deployment", ""),
    )
    status = int(lines[0].split()[1])
    if status != 200:
        return msgspec.structs.replace(told, ending="refused", why=f"{status} {_code(body)}")
    if headers.get("transfer-encoding") == "chunked":
        body, is_complete = _unchunked(body)
    else:
        is_complete = len(body) == int(headers.get("content-length", "-1"))
    words = [(found[1].decode(), int(found[2])) for found in _WORD.finditer(body)]
    if any(whose != question.nonce for whose, _ in words):
        return msgspec.structs.replace(told, ending="foreign", why=str(words[:3]))
    is_right = [number for _, number in words] == list(range(question.words))
    if question.is_stream:
        return _read_stream(told, body, is_right, is_complete)
    if not is_complete:
        return msgspec.structs.replace(told, ending="broken", why="a plain answer without its end")
    cost = nano(headers.get("x-naru-cost-usd", "0"))
    return msgspec.structs.replace(told, ending="whole" if is_right else "false", cost_nano=cost)


def _read_stream(told: Answer, body: bytes, is_right: bool, is_complete: bool) -> Answer:
    is_done = b"data: [DONE]" in body
    error = body.find(b'data: {"error"')
    if error >= 0:
        # An error and an end at once would be taken for an end.
        return msgspec.structs.replace(told, ending="false" if is_done else "cut", why=_code(body[error + 6 :]))
    if not is_done or not is_complete:
        # Without its [DONE] nobody takes it for whole; but nothing told the caller either.
        return msgspec.structs.replace(told, ending="broken", why="a stream without its end")
    return msgspec.structs.replace(told, ending="whole" if is_right else "false", cost_nano=_told_cost(body))


def _told_cost(body: bytes) -> int | None:
    for line in reversed(body.split(b"\n")):
        if line.startswith(b"data: {") and b'"usage":{' in line:
            found = re.search(rb'"cost_usd":([0-9.]+)', line)
            return nano(found[1].decode()) if found else None
    return None


def nano(usd: str) -> int:
    whole, _, rest = usd.partition(".")
    return int(whole) * 10**9 + int(rest.ljust(9, "0"))


def _code(data: bytes) -> str:
    found = re.search(rb'"code":"([^"]*)"', data)
    return found[1].decode() if found else ""


def _unchunked(data: bytes) -> tuple[bytes, bool]:
    """(the body, whether its last chunk came)."""
    whole = []
    while data:
        size, _, data = data.partition(b"\r\n")
        length = int(size or b"0", 16)
        if not length:
            return b"".join(whole), True
        whole.append(data[:length])
        data = data[length + 2 :]
    return b"".join(whole), False
