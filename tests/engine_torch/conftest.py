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
