"""Steps of an engine on a tiny model, counted by hand instead of by a thread; and what `generate` writes on the same one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import torch

from naru.engine.hf.engine import Engine
from naru.engine.hf.grammar import Grammars
from naru.engine.hf.loading import Loaded, load
from naru.engine.hf.options import Options
from naru.engine.port import Decoding, Piece, Prompt


class Run:
    """An engine and all that it has written, by request."""

    def __init__(self, folder: Path, options: Options | None = None, loaded: Loaded | None = None) -> None:
        options = options or Options(prefill_tokens=16)
        self.loaded = loaded or load(folder, options)
        facts = self.loaded.facts
        self.grammars = Grammars(self.loaded.tokenizer, self.loaded.vocabulary_size, facts.end_ids)
        self.engine = Engine(self.loaded, self.grammars, options)
        self.pieces: dict[int, list[Piece]] = defaultdict(list)
        self._number = 0

    def start(self, ids: Sequence[int], **decoding: Any) -> int:
        return self.ask(Prompt(ids), greedy(**decoding))

    def ask(self, prompt: Prompt, decoding: Decoding) -> int:
        """A grammar is compiled here and now."""
        self._number += 1
        compiled: Future[Any] | None = None
        if decoding.grammar is not None:
            compiled = Future()
            compiled.set_result(self.grammars.compile(decoding.grammar))
        self.engine.start(self._number, prompt, decoding, compiled)
        return self._number

    def step(self) -> None:
        for number, piece in self.engine.step():
            self.pieces[number].append(piece)

    def finish(self) -> None:
        while self.engine.has_work:
            self.step()

    def ids(self, number: int) -> list[int]:
        return [token for piece in self.pieces[number] for token in piece.ids]

    def ending(self, number: int) -> str:
        endings = [piece.ending for piece in self.pieces[number] if piece.ending]
        assert len(endings) == 1
        assert self.pieces[number][-1].ending, "something came after the end"
        return endings[0]


def greedy(max_tokens: int = 24, temperature: float = 0.0, **more: Any) -> Decoding:
    return Decoding(max_tokens=max_tokens, temperature=temperature, **more)


def generated(model: Any, ids: Sequence[int], max_tokens: int, **more: Any) -> list[int]:
    """What Transformers' own `generate` writes, alone, without the end token."""
    prompt = torch.tensor([list(ids)])
    output = model.generate(
        prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=max_tokens, **more
    )
    written = output[0, prompt.shape[1] :].tolist()
    ends = model.generation_config.eos_token_id
    return written[:-1] if written and written[-1] in ends else written
