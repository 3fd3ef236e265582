"""Tiny models as OpenVINO IR: the same weights, so that what OpenVINO computes can be compared with Transformers."""

from __future__ import annotations

import warnings
from pathlib import Path

from optimum.exporters.openvino import main_export


def export_openvino(folder: Path, out: Path, *, task: str = "text-generation-with-past") -> Path:
    """`folder` as IR in float32 in `out`, with OpenVINO's tokenizer and the generation config. `task` is optimum's name:
    "feature-extraction" for an embedding model. Takes 5 seconds, the library's import apart."""
    with warnings.catch_warnings():  # tracing warns of every shape that it reads
        warnings.simplefilter("ignore")
        main_export(str(folder), str(out), task=task, convert_tokenizer=True)
    return out
