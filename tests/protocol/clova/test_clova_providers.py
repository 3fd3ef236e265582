"""The doors to HyperCLOVA X: which model is answered where, and in which version's words."""

from __future__ import annotations

import pytest

from naru.providers import load_providers

PROVIDERS = load_providers()
CLOVA = PROVIDERS["clova"]


@pytest.mark.parametrize(
    ("model", "endpoint", "path"),
    [
        ("HCX-007", "clova_v3", "/chat-completions/HCX-007"),
        ("HCX-005", "clova_v3", "/chat-completions/HCX-005"),
        ("HCX-DASH-002", "clova_v3", "/chat-completions/HCX-DASH-002"),
        ("HCX-003", "clova_v1", "//v1/chat-completions/HCX-003"),
        ("HCX-DASH-001", "clova_v1", "//v1/chat-completions/HCX-DASH-001"),
    ],
)
def test_each_model_has_one_endpoint(model: str, endpoint: str, path: str) -> None:
    """v1 only where v3 is missing; plain and streamed alike, since the Accept header asks for a stream."""
    assert [name for name in ("clova_v3", "clova_v1") if CLOVA.takes(name, model)] == [endpoint]
    assert CLOVA.call_paths(endpoint, model) == (path, path)


def test_the_model_that_thinks_names_its_limit_otherwise() -> None:
    assert CLOVA.quirks_for("HCX-007").max_tokens_field == "maxCompletionTokens"
    assert CLOVA.quirks_for("HCX-005").max_tokens_field == "maxTokens"
    assert CLOVA.quirks_for("HCX-005").thinking_style == "none"


def test_regions() -> None:
    assert CLOVA.base_url() == "https://clovastudio.stream.ntruss.com/v3"
    assert "gov-ntruss" in CLOVA.base_url("kr-gov")


def test_omniserve_has_two_tracks() -> None:
    provider = PROVIDERS["omniserve"]
    assert provider.base_url("b").endswith("/b/v1")
    assert provider.quirks_for("track_a_model").thinking_style == "template_kwarg"
    assert provider.quirks_for("track_b_model").thinking_style == "none"
