"""Which files of a repository are taken: one format, one quantisation, the companions, nothing that runs."""

from __future__ import annotations

import pytest

from naru.engine.choose import Choice, HubFile, License, choose, conversions_of
from naru.errors import BadRequest, NotFound

REPO = "Org/Name"
SAFE = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json")
TEXTS = ("README.md", "LICENSE", "config.json", "tokenizer.json", "merges.txt", "chat_template.jinja")
IR = ("openvino_model.xml", "openvino_model.bin", "openvino_tokenizer.xml", "openvino_tokenizer.bin")
JUNK = (
    "pytorch_model.bin", "pytorch_model.bin.index.json", "modeling_x.py", ".gitattributes", "onnx/model.onnx", "onnx/config.json",
    "original/params.json", "image.png", "consolidated.safetensors",
)  # fmt: skip


def repository(*paths: str, size: int = 10) -> list[HubFile]:
    return [HubFile(path, size, "b" * 40) for path in paths]


def taken(choice: Choice) -> set[str]:
    return {file.path for file in choice.files}


def test_safetensors_with_their_companions() -> None:
    choice = choose(
        REPO, repository(*SAFE, *TEXTS, *JUNK, "1_Pooling/config.json", "additional_chat_templates/rag.jinja")
    )
    assert choice.kind == "safetensors"
    assert taken(choice) == {*SAFE, *TEXTS, "1_Pooling/config.json", "additional_chat_templates/rag.jinja"}
    assert choice.bytes == 10 * len(choice.files)


def test_openvino_goes_first_and_can_be_left_out() -> None:
    files = repository(*IR, *SAFE, *TEXTS, *JUNK)
    assert taken(choose(REPO, files)) == {*IR, *TEXTS, SAFE[2]}
    assert choose(REPO, files, "safetensors").kind == "safetensors"
    assert choose(REPO, repository(*IR[:1], *IR[2:], *SAFE)).kind == "safetensors", (
        "an .xml without its .bin is no model"
    )


def test_names_that_are_not_transformers_are_taken_where_no_others_are() -> None:
    assert "weights.safetensors" in taken(choose(REPO, repository("weights.safetensors", "config.json")))
    assert "weights.safetensors" not in taken(choose(REPO, repository("weights.safetensors", *SAFE)))


@pytest.mark.parametrize(
    ("names", "size", "chosen"),
    [
        (("m-Q2_K.gguf", "m-Q4_K_M.gguf", "m-Q8_0.gguf"), 5 * 10**9, "m-Q4_K_M.gguf"),
        (("m-Q2_K.gguf", "m-Q4_K_M.gguf", "m-Q8_0.gguf"), 10**9, "m-Q8_0.gguf"),
        (("m.q5_k_m.gguf", "m.f16.gguf"), 5 * 10**9, "m.q5_k_m.gguf"),
        (("only.gguf", "mmproj-m.gguf"), 10, "only.gguf"),
        (
            ("m-Q4_K_M-00001-of-00002.gguf", "m-Q4_K_M-00002-of-00002.gguf", "m-Q2_K.gguf"),
            10,
            "m-Q4_K_M-00001-of-00002.gguf",
        ),
    ],
)
def test_the_usual_gguf(names: tuple[str, ...], size: int, chosen: str) -> None:
    """4 bits; 8 where that is small; every part of a split one; no vision part."""
    choice = choose(REPO, repository(*names, size=size))
    assert (choice.kind, choice.file) == ("gguf", chosen)
    assert taken(choice) == {chosen, chosen.replace("-00001-", "-00002-")}


def test_a_gguf_is_asked_for_by_name() -> None:
    files = repository("a-IQ2_XS.gguf", "b-IQ3_S.gguf", *TEXTS)
    assert choose(REPO, files, file="A-iq2_xs.gguf").file == "a-IQ2_XS.gguf"
    with pytest.raises(
        NotFound, match=r"Org/Name has no file c\.gguf\. Its \.gguf files: a-IQ2_XS\.gguf, b-IQ3_S\.gguf"
    ):
        choose(REPO, files, file="c.gguf")
    with pytest.raises(BadRequest, match=r"has several \.gguf files; say which with --file\. Its files: a-IQ2"):
        choose(REPO, files)
    with pytest.raises(BadRequest, match=r"is a \.gguf file, and the format openvino was asked for"):
        choose(REPO, files, "openvino", "a.gguf")


def test_what_is_not_there_is_refused() -> None:
    with pytest.raises(NotFound, match="Org/Name has no weights in the format gguf; it has: safetensors"):
        choose(REPO, repository(*SAFE), "gguf")
    with pytest.raises(BadRequest, match=r"There is no format 'onnx'\. Formats: auto, openvino, gguf, safetensors"):
        choose(REPO, repository(*SAFE), "onnx")
    with pytest.raises(NotFound, match="has no weights: neither OpenVINO, safetensors nor GGUF"):
        choose(REPO, repository(*TEXTS))
    for pickle in ("pytorch_model.bin", "model.pt", "weights.ckpt"):
        with pytest.raises(
            BadRequest, match=f"only as {pickle}, in Python's pickle format: such a file can run any program"
        ):
            choose(REPO, repository(pickle, *TEXTS))


def test_where_a_conversion_is_looked_for() -> None:
    assert conversions_of("Qwen/Qwen3-8B") == (
        "OpenVINO/Qwen3-8B-int4-ov", "OpenVINO/Qwen3-8B-int8-ov", "Qwen/Qwen3-8B-GGUF",
    )  # fmt: skip


def test_open_licences_need_no_word() -> None:
    assert License("Apache-2.0").is_open
    assert License("mit").is_open
    for custom in (License("other", "hyperclovax-seed"), License("llama3.2"), License("cc-by-nc-4.0"), License()):
        assert not custom.is_open
    assert [str(License("other", "qwen-research", "L")), str(License("mit")), str(License())] == [
        "qwen-research (L)", "mit", "none stated",
    ]  # fmt: skip
