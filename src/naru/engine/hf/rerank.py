"""port.Reranker on Transformers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from naru.engine.embedding import padded
from naru.engine.hf.loading import check_device, context_of, ids_of, load_model, load_tokenizer
from naru.engine.hf.options import Options
from naru.engine.rerank import Judge


class TransformersReranker(Judge):
    """Of a folder. Raises ConfigError."""

    def __init__(self, folder: Path, options: Options | None = None) -> None:
        super().__init__(_Model(folder, options or Options()))


class _Model:
    def __init__(self, folder: Path, options: Options) -> None:
        check_device(options.device)
        self._tokenizer = load_tokenizer(folder, options)
        self._model = load_model(AutoModelForCausalLM, folder, options)
        self.context = options.context or context_of(self._model.config)

    def encode(self, text: str) -> list[int]:
        return ids_of(self._tokenizer, text)

    def id_of(self, token: str) -> int | None:
        found: int | None = self._tokenizer.get_vocab().get(token)
        return found

    def logits(self, rows: Sequence[Sequence[int]], tokens: Sequence[int]) -> list[list[float]]:
        ids, mask = (torch.tensor(part, device=self._model.device) for part in padded(rows, "left"))
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        with torch.inference_mode():
            output = self._model(
                input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False, logits_to_keep=1
            )
        found: list[list[float]] = output.logits[:, -1, list(tokens)].float().tolist()
        return found
