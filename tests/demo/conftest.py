"""The shipped model, for tests of the engine that want a real one. Without openvino-genai they are skipped and say so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from naru.local import LocalModel


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    try:
        import openvino_genai  # noqa: F401
    except ImportError:
        for item in items:
            if Path(__file__).parent in item.path.parents:
                item.add_marker(pytest.mark.skip(reason="needs openvino-genai (extra `local`)"))


@pytest.fixture(scope="session")
def model() -> Iterator[LocalModel]:
    """In exact arithmetic, so that nothing depends on what else is computed at the time."""
    with LocalModel("naru-demo", precision="f32") as model:
        yield model
