"""port.Embedder and port.Reranker on OpenVINO, of an IR that optimum-intel exported.

On plain `openvino`, not on openvino_genai's TextEmbeddingPipeline and TextRerankPipeline (2026.4): those tokenize inside and
tell neither how many tokens they read nor that they cut a text, and the reranker's prompt has to be cut in its middle, in
tokens. Of openvino_genai only the tokenizer is used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy
import openvino
import openvino_genai
from openvino import opset13

from naru.engine.embedding import Embeddings, Pooling, padded, pooling_of
from naru.engine.openvino import reason_of
from naru.engine.rerank import Judge
from naru.engine.weights import read_json
from naru.errors import ConfigError

#: float32 where the IR has it: with AMX the default would be bfloat16, and a vector would depend on the machine.
EXACT: Mapping[str, Any] = {"EXECUTION_MODE_HINT": "ACCURACY"}
#: What may stand between the head's multiplication and the model's output.
_PASSING = frozenset({"Convert", "Multiply", "Add"})


class OpenVinoEmbedder(Embeddings):
    """Of an IR exported for feature-extraction. Raises ConfigError."""

    def __init__(
        self, folder: Path, device: str = "CPU", pooling: Pooling | None = None, properties: Mapping[str, Any] = EXACT
    ) -> None:
        super().__init__(_Embedding(folder, device, properties), pooling or pooling_of(folder))


class OpenVinoReranker(Judge):
    """Of an IR exported for text generation, with or without past. Raises ConfigError."""

    def __init__(self, folder: Path, device: str = "CPU", properties: Mapping[str, Any] = EXACT) -> None:
        super().__init__(_Reranking(folder, device, properties))


class _Model:
    """An IR, compiled, and its tokenizer."""

    def __init__(self, folder: Path, device: str, properties: Mapping[str, Any]) -> None:
        if not (folder / "openvino_model.xml").is_file():
            raise ConfigError(
                f"{folder} holds no OpenVINO IR (openvino_model.xml). Export the model with optimum-intel."
            )
        try:
            core = openvino.Core()
            model = core.read_model(folder / "openvino_model.xml")
            self._adapt(model)
            self._compiled = core.compile_model(model, device, dict(properties))
            self._tokenizer = openvino_genai.Tokenizer(folder)
        except RuntimeError as error:
            raise ConfigError(f"{folder} cannot be loaded by OpenVINO on {device}: {reason_of(error)}") from error
        self._request = self._compiled.create_infer_request()
        self._inputs = {name for port in self._compiled.inputs for name in port.get_names()}
        self.context = int(read_json(folder / "config.json").get("max_position_embeddings") or 0)
        if not self.context:
            raise ConfigError(f"{folder / 'config.json'} does not say how many tokens the model takes.")

    def _adapt(self, model: Any) -> None:
        """Changes the graph before it is compiled."""

    def _ids(self, text: str, adds_special: bool) -> list[int]:
        encoded = self._tokenizer.encode(text, add_special_tokens=adds_special)
        ids: list[int] = encoded.input_ids.data[0].tolist()
        return ids

    def _run(self, rows: Sequence[Sequence[int]], mask: Sequence[Sequence[int]]) -> Any:
        """The first output; what the IR does not ask for is not given."""
        ids, ones = numpy.array(rows, dtype=numpy.int64), numpy.array(mask, dtype=numpy.int64)
        inputs = {
            "input_ids": ids,
            "attention_mask": ones,
            "position_ids": numpy.maximum(ones.cumsum(axis=1) - 1, 0),
            "token_type_ids": numpy.zeros_like(ids),
            "beam_idx": numpy.arange(len(ids), dtype=numpy.int32),
        }
        self._request.reset_state()
        self._request.infer({name: value for name, value in inputs.items() if name in self._inputs})
        return self._request.get_output_tensor(0).data


class _Embedding(_Model):
    @property
    def dimensions(self) -> int:
        return int(self._compiled.output(0).get_partial_shape()[2].get_length())

    def encode(self, text: str) -> list[int]:
        return self._ids(text, adds_special=True)

    def hidden(self, rows: Sequence[Sequence[int]], mask: Sequence[Sequence[int]]) -> Any:
        return self._run(rows, mask)


class _Reranking(_Model):
    def _adapt(self, model: Any) -> None:
        """Leaves out the logits of all positions but the last, which for 8192 tokens of Qwen3's vocabulary take 5 GB."""
        node = model.output(0).get_node().input_value(0).get_node()
        while node.get_type_name() in _PASSING:
            node = node.input_value(0).get_node()
        if node.get_type_name() != "MatMul":
            raise ConfigError(f"The IR's output comes from {node.get_type_name()}: it is no model that writes text.")
        start, stop, step, axis = (numpy.array([value], dtype=numpy.int64) for value in (-1, 2**62, 1, 1))
        last = opset13.slice(node.input_value(0), start, stop, step, axis)
        node.input(0).replace_source_output(last.output(0))
        model.validate_nodes_and_infer_types()

    def encode(self, text: str) -> list[int]:
        return self._ids(text, adds_special=False)

    def id_of(self, token: str) -> int | None:
        found: int | None = self._tokenizer.get_vocab().get(token.encode())
        return found

    def logits(self, rows: Sequence[Sequence[int]], tokens: Sequence[int]) -> list[list[float]]:
        found: list[list[float]] = self._run(*padded(rows, "left"))[:, -1, list(tokens)].tolist()
        return found
