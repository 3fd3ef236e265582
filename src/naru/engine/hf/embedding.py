"""port.Embedder on Transformers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel

from naru.engine.embedding import Embeddings, Pooling, pooling_of
from naru.engine.hf.loading import check_device, context_of, load_model, load_tokenizer
from naru.engine.hf.options import Options


class TransformersEmbedder(Embeddings):
    """Of a folder. Raises ConfigError."""

    def __init__(self, folder: Path, options: Options | None = None, pooling: Pooling | None = None) -> None:
        super().__init__(_Model(folder, options or Options()), pooling or pooling_of(folder))


class _Model:
    def __init__(self, folder: Path, options: Options) -> None:
        check_device(options.device)
        self._tokenizer = load_tokenizer(folder, options)
        self._model = load_model(AutoModel, folder, options)
        config = self._model.config.get_text_config()
        self.dimensions = int(config.hidden_size)
        self.context = options.context or context_of(self._model.config)

    def encode(self, text: str) -> list[int]:
        return list(self._tokenizer(text, truncation=False, verbose=False)["input_ids"])

    def hidden(self, rows: Sequence[Sequence[int]], mask: Sequence[Sequence[int]]) -> Any:
        device = self._model.device
        with torch.inference_mode():
            output = self._model(
                input_ids=torch.tensor(rows, device=device), attention_mask=torch.tensor(mask, device=device)
            )
        return output.last_hidden_state.float()
