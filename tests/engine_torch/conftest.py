"""Folders of the tiny models, each made once a session. Nothing here imports torch before a test has found it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


def made(factory: pytest.TempPathFactory, name: str, **more: Any) -> Path:
    from tests.engine_torch import tiny

    return getattr(tiny, name)(factory.mktemp(name), **more)


@pytest.fixture(scope="session")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory, "dense")


@pytest.fixture(scope="session")
def experts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory, "experts")


@pytest.fixture(scope="session")
def sliding(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory, "sliding")


@pytest.fixture(scope="session")
def hybrid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory, "hybrid")


@pytest.fixture(scope="session")
def vision(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory, "vision")


@pytest.fixture(scope="session")
def embedding(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory, "embedding")


@pytest.fixture(scope="session")
def reranker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory, "reranker")


@pytest.fixture(scope="session")
def adapters(dense: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Two LoRA adapters of the dense model."""
    from tests.engine_torch import tiny

    return {
        name: str(tiny.adapter(dense, tmp_path_factory.mktemp(name), seed=seed))
        for seed, name in enumerate(("harbour", "island"), 11)
    }


def exported(factory: pytest.TempPathFactory, folder: Path, task: str) -> Path:
    from tests.engine_torch.export import export_openvino

    return export_openvino(folder, factory.mktemp(f"{folder.name}-ir"), task=task)


@pytest.fixture(scope="session")
def dense_ir(dense: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(tmp_path_factory, dense, "text-generation-with-past")


@pytest.fixture(scope="session")
def experts_ir(experts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(tmp_path_factory, experts, "text-generation-with-past")


@pytest.fixture(scope="session")
def embedding_ir(embedding: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(tmp_path_factory, embedding, "feature-extraction")


@pytest.fixture(scope="session")
def reranker_ir(reranker: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(tmp_path_factory, reranker, "text-generation-with-past")
