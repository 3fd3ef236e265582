"""The thread around the engine: what is delivered, and that nobody waits for ever."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the Transformers engine needs torch")
pytest.importorskip("transformers", reason="the Transformers engine needs transformers")
pytest.importorskip("xgrammar", reason="the Transformers engine needs xgrammar")
pytest.importorskip("peft", reason="the tests of the Transformers engine need peft")

import torch

from naru.engine.hf.backend import TransformersBackend
from naru.engine.hf.options import Options
from naru.engine.port import Grammar, Piece, Prompt
from tests.engine_torch import tiny
from tests.engine_torch.runs import generated, greedy

pytestmark = pytest.mark.torch

WAIT_S = 60


class Inbox:
    """What a backend delivered, by request; `ended` and `begun` are waited for."""

    def __init__(self) -> None:
        self.pieces: dict[int, list[Piece]] = {}
        self._changed = threading.Condition()

    def __call__(self, pieces: Sequence[tuple[int, Piece]]) -> None:
        with self._changed:
            for number, piece in pieces:
                self.pieces.setdefault(number, []).append(piece)
            self._changed.notify_all()

    def ended(self, *numbers: int) -> None:
        with self._changed:
            assert self._changed.wait_for(
                lambda: all(number in self.pieces and self.pieces[number][-1].ending for number in numbers), WAIT_S
            )

    def begun(self, number: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: number in self.pieces, WAIT_S)

    def ids(self, number: int) -> list[int]:
        return [token for piece in self.pieces[number] for token in piece.ids]


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


@pytest.fixture
def backend(dense: Path, inbox: Inbox) -> Iterator[TransformersBackend]:
    backend = TransformersBackend(dense, inbox)
    yield backend
    backend.close()


def test_many_requests_from_many_threads(backend: TransformersBackend, inbox: Inbox) -> None:
    prompts = tiny.prompts(None, range(2, 26))
    threads = [
        threading.Thread(target=backend.start, args=(number, Prompt(prompt), greedy()))
        for number, prompt in enumerate(prompts)
    ]
    for thread in threads:
        thread.start()
    inbox.ended(*range(len(prompts)))
    model = backend._loaded.model
    assert [inbox.ids(number) for number in range(len(prompts))] == [generated(model, prompt, 24) for prompt in prompts]


def test_the_text_of_a_prompt_becomes_ids_and_back(backend: TransformersBackend) -> None:
    text = '<|im_start|>user\n나루 "ferry"<|im_end|>\n<think>'
    ids = backend.encode(text)
    assert b"".join(backend.vocabulary.text_of(token) for token in ids).decode() == text
    assert backend.vocabulary.id_of("<|im_start|>") == ids[0]
    assert ids[-1] == backend.vocabulary.id_of("<think>")
    assert backend.facts.end_ids == {backend.vocabulary.id_of(token) for token in ("<|im_end|>", "<|endoftext|>")}
    assert backend.facts.context == tiny.CONTEXT
    assert backend.facts.library.startswith("transformers ")


def test_logprobs_come_with_the_tokens(backend: TransformersBackend, inbox: Inbox) -> None:
    """Equal to those of the model's own forward over prompt and answer."""
    (prompt,) = tiny.prompts(None, [14], seed=31)
    backend.start(1, Prompt(prompt), greedy(logprobs=3, temperature=1.0, seed=4))
    inbox.ended(1)
    ids = inbox.ids(1)
    with torch.no_grad():
        logits = backend._loaded.model(torch.tensor([prompt + ids])).logits[0, len(prompt) - 1 : -1]
    wanted = torch.log_softmax(logits, -1)
    found = [logprobs for piece in inbox.pieces[1] for logprobs in piece.logprobs]
    assert len(found) == len(ids)
    for row, (token, logprobs) in enumerate(zip(ids, found, strict=True)):
        assert logprobs.logprob == pytest.approx(float(wanted[row, token]), abs=1e-4)
        assert [token for token, _ in logprobs.likeliest] == torch.topk(wanted[row], 3).indices.tolist()


def test_cancelled_requests_stop(backend: TransformersBackend, inbox: Inbox) -> None:
    backend.start(1, Prompt([5] * 8), greedy(2000, ignores_end=True))
    inbox.begun(1)
    backend.cancel(1)
    backend.start(2, Prompt([7] * 8), greedy(4, ignores_end=True))
    inbox.ended(2)
    assert len(inbox.ids(1)) < 2000
    assert not inbox.pieces[1][-1].ending
    backend.close()
    assert not inbox.pieces[1][-1].ending


@pytest.mark.parametrize(
    ("prompt", "more", "error"),
    [
        (Prompt([]), {}, "empty"),
        (Prompt([1] * tiny.CONTEXT), {}, f"{tiny.CONTEXT} tokens"),
        (Prompt([10**6]), {}, "does not know"),
        (Prompt([-1]), {}, "does not know"),
        (Prompt([5], text="x", images=(b"",)), {}, "reads no pictures"),
        (Prompt([5], text="x", audios=(b"",)), {}, "hears no sounds"),
        (Prompt([5]), {"grammar": Grammar("regex", "[a")}, "cannot be followed"),
        (Prompt([5]), {"adapter": "nowhere"}, "no adapter"),
    ],
    ids=["empty", "too-long", "unknown-token", "negative-token", "picture", "sound", "grammar", "adapter"],
)
def test_a_request_that_cannot_be_served_is_told_and_no_other(
    backend: TransformersBackend, inbox: Inbox, prompt: Prompt, more: dict[str, object], error: str
) -> None:
    backend.start(1, Prompt([5, 6, 7]), greedy())
    backend.start(2, prompt, greedy(**more))
    inbox.ended(1, 2)
    assert inbox.pieces[2][-1].ending == "error"
    assert error in inbox.pieces[2][-1].error
    assert inbox.ids(1) == generated(backend._loaded.model, [5, 6, 7], 24)


def test_weights_that_are_no_numbers_end_each_request_with_an_error(dense: Path, tmp_path: Path, inbox: Inbox) -> None:
    folder = tmp_path / "model"
    shutil.copytree(dense, folder)
    backend = TransformersBackend(folder, inbox)
    with torch.no_grad():
        backend._loaded.model.lm_head.weight.fill_(float("nan"))
    for number in range(3):
        backend.start(number, Prompt([5]), greedy())
    inbox.ended(0, 1, 2)
    backend.close()
    assert all("no number" in inbox.pieces[number][-1].error for number in range(3))


def test_a_failing_receiver_does_not_end_the_thread(dense: Path, inbox: Inbox) -> None:
    def deliver(pieces: Sequence[tuple[int, Piece]]) -> None:
        inbox(pieces)
        if any(number == 1 for number, _ in pieces):
            raise RuntimeError("the receiver is broken")

    backend = TransformersBackend(dense, deliver)
    backend.start(1, Prompt([5]), greedy(3, ignores_end=True))
    inbox.ended(1)
    backend.start(2, Prompt([5]), greedy(3, ignores_end=True))
    inbox.ended(2)
    backend.close()


def test_closing_tells_those_who_wait(dense: Path, inbox: Inbox) -> None:
    """Also who comes later."""
    backend = TransformersBackend(dense, inbox, Options(max_running=1))
    for number in range(3):
        backend.start(number, Prompt([5] * 4), greedy(2000, ignores_end=True))
    inbox.begun(0)
    backend.close()
    assert [inbox.pieces[number][-1].ending for number in range(3)] == ["error"] * 3
    assert not backend._thread.is_alive()
    backend.start(3, Prompt([5]), greedy(grammar=Grammar("regex", "a")))
    assert inbox.pieces[3][-1].error == "The engine is closing."
    backend.cancel(3)
    backend.close()
