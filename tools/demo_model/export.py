"""The trained model as the package ships it: `python -m tools.demo_model.export TRAINED src/naru/engine/demo`.

int8 weights and the tokenizer as OpenVINO's IR, with the template and the settings that Naru reads. Needs optimum-intel.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

KEPT = (
    "config.json", "chat_template.jinja", "tokenizer_config.json",
    "openvino_model.xml", "openvino_model.bin", "openvino_tokenizer.xml", "openvino_tokenizer.bin",
    "openvino_detokenizer.xml", "openvino_detokenizer.bin",
)  # fmt: skip
MOST_BYTES = 15_000_000


def export(trained: Path, out: Path) -> int:
    """Returns the bytes of all files. The model is greedy unless a caller says otherwise: it was measured so."""
    with tempfile.TemporaryDirectory() as folder:
        command = [str(Path(sys.executable).parent / "optimum-cli"), "export", "openvino", "--model", str(trained)]
        options = ["--task", "text-generation-with-past", "--weight-format", "int8"]
        subprocess.run([*command, *options, folder], check=True)
        out.mkdir(parents=True, exist_ok=True)
        for name in KEPT:
            shutil.copy(Path(folder) / name, out / name)
    end = json.loads((out / "config.json").read_text())["eos_token_id"]
    settings = {"do_sample": False, "eos_token_id": end, "pad_token_id": 0}
    (out / "generation_config.json").write_text(json.dumps(settings, indent=2) + "\n")
    size = sum(file.stat().st_size for file in out.iterdir())
    if size > MOST_BYTES:
        raise SystemExit(f"{out} holds {size} bytes; at most {MOST_BYTES} are shipped.")
    return size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("trained", type=Path)
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    print(f"{export(given.trained, given.out):,} bytes in {given.out}")


if __name__ == "__main__":
    main()
