"""Which files of a repository a model needs. Pure: a list of files in, a choice or one clear refusal out.

Weights of one format are taken, never pickles (.bin without an .xml, .pt, .ckpt): opening one can run any program. Programs
in the repository (.py) are not taken either. Of a repository of .gguf files one quantisation is taken.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from msgspec import Struct

from naru.errors import BadRequest, NotFound

FORMATS = ("auto", "openvino", "gguf", "safetensors")
#: The best first, as far as size and quality go together; small models lose more by 4 bits.
GGUF_ORDER = ("q4_k_m", "q8_0", "q5_k_m", "q4_0", "q6_k", "q4_k_s", "q5_0", "q3_k_m", "f16", "bf16")
SMALL_GGUF_BYTES = 2_000_000_000
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
COMPANIONS = (".json", ".jinja", ".txt", ".model", ".tiktoken")
#: Folders of companions: sentence-transformers' modules, and named chat templates.
FOLDERS = re.compile(r"\d+_\w+|additional_chat_templates|chat_templates")
OPENVINO_MODELS = ("openvino_model.xml", "openvino_language_model.xml", "openvino_encoder_model.xml")
TEXTS = re.compile(r"(readme\.md|licen[cs]e.*|notice.*|use_policy.*)", re.IGNORECASE)
_PART = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf", re.IGNORECASE)
#: Licences that ask for nothing but their text. Any other has to be accepted by whoever downloads.
OPEN_LICENSES = frozenset(
    ["apache-2.0", "mit", "bsd", "bsd-2-clause", "bsd-3-clause", "cc0-1.0", "cc-by-4.0", "isc", "unlicense", "mpl-2.0"]
)


class HubFile(Struct, frozen=True):
    """`sha256` of a file in LFS, else empty and `blob_id` is git's SHA-1 of it. `size` in bytes."""

    path: str
    size: int
    blob_id: str
    sha256: str = ""

    @property
    def digest(self) -> str:
        """The name of the file's blob in the cache, which is what it is checked with."""
        return self.sha256 or self.blob_id


class License(Struct, frozen=True):
    """As the model's card says it: `id` ("apache-2.0", "other"), and a custom one's `name` and `link`."""

    id: str = ""
    name: str = ""
    link: str = ""

    @property
    def is_open(self) -> bool:
        return self.id.lower() in OPEN_LICENSES

    def __str__(self) -> str:
        shown = self.name if self.name and self.id in ("", "other") else self.id or "none stated"
        return f"{shown} ({self.link})" if self.link else shown


class Choice(Struct, frozen=True):
    """`file`: the .gguf that was chosen (its first part), else empty."""

    kind: str
    files: tuple[HubFile, ...]
    file: str = ""

    @property
    def bytes(self) -> int:
        return sum(file.size for file in self.files)


def choose(repo: str, files: Sequence[HubFile], wanted: str = "auto", file: str = "") -> Choice:
    """`wanted`: one of FORMATS; `file`: a .gguf by name. Raises NotFound where the repository has no such weights, and
    BadRequest for pickles and where nobody can say which file is meant."""
    if wanted not in FORMATS:
        raise BadRequest(f"There is no format {wanted!r}. Formats: {', '.join(FORMATS)}.")
    if file and wanted not in ("auto", "gguf"):
        raise BadRequest(f"{file} is a .gguf file, and the format {wanted} was asked for. Leave one of the two out.")
    if file:
        return _gguf(repo, files, file)
    able = [kind for kind, weights_of in WEIGHTS.items() if weights_of(files)]
    if not able:
        raise _no_weights(repo, files)
    if wanted != "auto" and wanted not in able:
        raise NotFound(
            f"{repo} has no weights in the format {wanted}; it has: {', '.join(able)}.", code="model_not_found"
        )
    kind = able[0] if wanted == "auto" else wanted
    if kind == "gguf":
        return _gguf(repo, files, "")
    return Choice(kind, (*WEIGHTS[kind](files), *_companions(files)))


def conversions_of(repo: str) -> tuple[str, ...]:
    """Repositories in which a model of that name is usually found converted, for the OpenVINO engine first."""
    owner, _, name = repo.partition("/")
    return (f"OpenVINO/{name}-int4-ov", f"OpenVINO/{name}-int8-ov", f"{owner}/{name}-GGUF")


# --- Weights by format


def _openvino(files: Sequence[HubFile]) -> list[HubFile]:
    """Every .xml at the top with the .bin beside it."""
    by_path = {file.path: file for file in files}
    pairs = [
        (by_path[path], by_path.get(f"{path[:-4]}.bin")) for path in by_path if re.fullmatch(r"openvino_\w+\.xml", path)
    ]
    whole = [(xml, weights) for xml, weights in pairs if weights is not None]
    has_model = any(xml.path in OPENVINO_MODELS for xml, _ in whole)
    return [file for pair in whole for file in pair] if has_model else []


def _safetensors(files: Sequence[HubFile]) -> list[HubFile]:
    """Transformers' names where there are such; an adapter's or another program's copy is left out."""
    plain = [file for file in files if file.path.endswith(".safetensors") and "/" not in file.path]
    named = [file for file in plain if file.path.startswith("model")]
    return named or [file for file in plain if not file.path.startswith(("adapter_", "consolidated"))]


def _ggufs(files: Sequence[HubFile]) -> list[HubFile]:
    return [file for file in files if file.path.lower().endswith(".gguf") and "mmproj" not in file.path.lower()]


WEIGHTS: dict[str, Callable[[Sequence[HubFile]], list[HubFile]]] = {
    "openvino": _openvino,
    "safetensors": _safetensors,
    "gguf": _ggufs,
}


def _gguf(repo: str, files: Sequence[HubFile], asked: str) -> Choice:
    """One file, or all parts of a split one. The companions are small and carry the licence."""
    parts = _by_first_part(_ggufs(files))
    names = ", ".join(parts) or "none"
    if asked:
        found = next((first for first in parts if first == asked or first.lower() == asked.lower()), "")
        if not found:
            raise NotFound(f"{repo} has no file {asked}. Its .gguf files: {names}.", code="model_not_found")
    else:
        found = _usual(parts)
        if not found:
            raise BadRequest(f"{repo} has several .gguf files; say which with --file. Its files: {names}.")
    return Choice("gguf", (*parts[found], *_companions(files)), found)


def _by_first_part(files: Iterable[HubFile]) -> dict[str, list[HubFile]]:
    """First part -> all parts in order; a file that is not split is its own first part."""
    groups: dict[str, list[HubFile]] = {}
    for file in sorted(files, key=lambda file: file.path):
        match = _PART.fullmatch(file.path)
        first = f"{match[1]}-00001-of-{match[3]}.gguf" if match else file.path
        groups.setdefault(first, []).append(file)
    return groups


def _usual(parts: dict[str, list[HubFile]]) -> str:
    if len(parts) == 1:
        return next(iter(parts))
    by_quant = {quant: first for quant in GGUF_ORDER for first in parts if re.search(rf"\b{quant}\b", _words(first))}
    small = by_quant.get("q8_0")
    if small is not None and sum(file.size for file in parts[small]) <= SMALL_GGUF_BYTES:
        return small
    return next(iter(by_quant.values()), "")


def _words(path: str) -> str:
    return path.lower().replace("-", " ").replace(".", " ")


# --- The rest


def _companions(files: Sequence[HubFile]) -> list[HubFile]:
    return [file for file in files if _is_companion(file.path)]


def _is_companion(path: str) -> bool:
    folder, _, name = path.rpartition("/")
    if folder and not FOLDERS.fullmatch(folder):
        return False
    if not folder and TEXTS.fullmatch(name):
        return True
    return name.endswith(COMPANIONS) and not name.endswith((".bin.index.json", ".h5.index.json"))


def _no_weights(repo: str, files: Sequence[HubFile]) -> BadRequest | NotFound:
    pickles = [file.path for file in files if file.path.endswith(PICKLES)]
    if pickles:
        return BadRequest(
            f"{repo} has its weights only as {pickles[0]}, in Python's pickle format: such a file can run any program when it is "
            "opened, so it is not downloaded. Look for a conversion to safetensors or GGUF."
        )
    return NotFound(f"{repo} has no weights: neither OpenVINO, safetensors nor GGUF files.", code="model_not_found")
