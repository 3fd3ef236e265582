"""What servers tell of themselves, read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from naru.providers import load_providers
from naru.routing.load import LoadNames, load_of
from naru.routing.vitals import Load

KINDS = {name: LoadNames(*provider.load_names) for name, provider in load_providers().items() if provider.load_path}

VLLM = """
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="Qwen/Qwen3-8B"} 7.0
vllm:num_requests_running{engine="1",model_name="Qwen/Qwen3-8B"} 2.0
vllm:num_requests_waiting{engine="0",model_name="Qwen/Qwen3-8B"} 3.0
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{engine="0",model_name="Qwen/Qwen3-8B"} 0.41
vllm:kv_cache_usage_perc{engine="1",model_name="Qwen/Qwen3-8B"} 0.93
vllm:time_to_first_token_seconds_bucket{le="0.001"} 0.0
vllm:e2e_request_latency_seconds_sum 12.5
"""
SGLANG = """# TYPE sglang:num_running_reqs gauge
sglang:num_running_reqs{model_name="m"} 4.0
sglang:num_queue_reqs{model_name="m"} 1.0
sglang:token_usage{model_name="m"} 0.28
"""
LLAMACPP = """# TYPE llamacpp:requests_processing gauge
llamacpp:requests_processing 1
llamacpp:requests_deferred 5
"""


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        ("vllm", VLLM, Load(waiting=3, running=9, kv_used=0.93, at=5.0)),
        ("vllm", VLLM.replace("kv_cache", "gpu_cache"), Load(waiting=3, running=9, kv_used=0.93, at=5.0)),
        ("sglang", SGLANG, Load(waiting=1, running=4, kv_used=0.28, at=5.0)),
        ("llamacpp", LLAMACPP, Load(waiting=5, running=1, kv_used=0.0, at=5.0)),
    ],
)
def test_each_server_is_understood(kind: str, text: str, expected: Load) -> None:
    """Ranks and models are summed, the fullest memory counts; older names too."""
    assert load_of(text, KINDS[kind], 5.0) == expected


@pytest.mark.parametrize("text", ["", "<html>no</html>", SGLANG, "vllm:num_requests_running{ 7\n"])
def test_what_tells_nothing_is_no_load(text: str) -> None:
    assert load_of(text, KINDS["vllm"], 0.0) is None


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-5", "1e300"])
def test_odd_figures_do_no_harm(value: str) -> None:
    found = load_of(f"vllm:num_requests_running {value}\nvllm:num_requests_waiting {value}\n", KINDS["vllm"], 0.0)
    assert found == Load()


@given(st.text(max_size=300))
def test_nothing_said_breaks_it(text: str) -> None:
    load_of(text, KINDS["vllm"], 0.0)
    load_of("vllm:num_requests_running" + text, KINDS["vllm"], 0.0)
