"""The inequality against arithmetic by hand, for each kind of model; what must hold for all of them."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from naru.catalog.fit import WEIGHT_BYTES, Fit, fit, notes_on, plan_for, split_problem, weights_in_all
from naru.catalog.hardware import GB, GPUS, Device, Hardware, gpu_named, machine
from naru.catalog.shapes import Shape, active_of, cache_bytes, load_shapes, parts_of
from naru.catalog.speed import read_per_token, speed_of
from naru.catalog.ways import inequality, ways_to_fit
from naru.errors import BadRequest, NotFound

TABLE = load_shapes()
SHAPES = pytest.mark.parametrize("shape", TABLE.shapes, ids=lambda shape: shape.name)


def fitted(model: str, gpu: str, quant: str | None = None, context: int | None = None, **more: object) -> Fit:
    shape = TABLE.find(model)
    return fit(shape, gpu_named(gpu), plan_for(shape, quant, context, **more))  # type: ignore[arg-type]


# --- Shapes


@pytest.mark.parametrize(
    ("model", "total"),
    [
        # The sums of the published checkpoints' tensors (safetensors metadata), to the last parameter.
        ("qwen2.5-0.5b", 494_032_768),
        ("qwen2.5-7b", 7_615_616_512),
        ("qwen3-0.6b", 596_049_920),
        ("qwen3-8b", 8_190_735_360),
        ("qwen3-30b-a3b", 30_532_122_624),
        ("qwen3-235b-a22b", 235_093_634_560),
        ("qwen3-coder-480b-a35b", 480_154_875_392),
        ("qwen3-vl-8b", 8_767_123_696),
        ("deepseek-v3", 671_026_419_200),
    ],
)
def test_parameters_are_counted_to_the_last_one(model: str, total: int) -> None:
    assert parts_of(TABLE.find(model)).total == total


@pytest.mark.parametrize(
    ("model", "billions"), [("qwen3-30b-a3b", 3.35), ("qwen3-235b-a22b", 22.2), ("qwen3-coder-480b-a35b", 35.5), ("deepseek-v3", 37.6)]
)  # fmt: skip
def test_active_parameters_are_the_published_ones(model: str, billions: float) -> None:
    assert active_of(TABLE.find(model)) / 10**9 == pytest.approx(billions, abs=0.06)


@pytest.mark.parametrize(
    ("model", "each"),
    [
        ("qwen2.5-0.5b", 2 * 24 * 2 * 64 * 2),
        ("qwen3-0.6b", 2 * 28 * 8 * 128 * 2),
        ("qwen3-8b", 2 * 36 * 8 * 128 * 2),
        ("qwen3-235b-a22b", 2 * 94 * 4 * 128 * 2),
        ("deepseek-v3", 61 * (512 + 64) * 2),
        ("deepseek-v3.2", 61 * ((512 + 64) * 2 + 128 + 4)),
        ("hyperclovax-seed-think-32b", 2 * 72 * 8 * 128 * 2),
    ],
)
def test_cache_of_a_token_is_exact(model: str, each: int) -> None:
    """GQA by its KV heads; MLA by its latent, which belongs to all heads."""
    shape = TABLE.find(model)
    assert cache_bytes(shape, 1, 2) == each
    assert cache_bytes(shape, 32768, 2) == 32768 * each


def test_a_sliding_window_keeps_no_more_than_its_width() -> None:
    shape = Shape(
        name="s", family="s", layers=4, hidden=64, heads=4, kv_heads=2, head_dim=16, vocab=100, context=8192, source="config",
        ffn=128, window=1024, window_layers=3,
    )  # fmt: skip
    one = 2 * 2 * 16 * 2
    assert cache_bytes(shape, 512, 2) == one * 4 * 512
    assert cache_bytes(shape, 8192, 2) == one * (8192 + 3 * 1024)


@SHAPES
def test_every_row_is_whole(shape: Shape) -> None:
    """No row whose figures leave something negative or say nothing of their source."""
    parts = parts_of(shape)
    assert all(value >= 0 for value in (parts.embed, parts.head, parts.ffn, parts.experts))
    assert parts.ffn + parts.experts > 0
    assert shape.source in ("config", "estimate")
    assert active_of(shape) <= parts.total
    assert shape.dtype in WEIGHT_BYTES


def test_names_are_found_as_people_write_them() -> None:
    assert TABLE.find("Qwen/Qwen3-8B").name == "qwen3-8b"
    assert TABLE.find("deepseek-ai/DeepSeek-V3").name == "deepseek-v3"
    assert TABLE.find("Qwen2.5-7B-Instruct").name == "qwen2.5-7b"
    assert TABLE.find("qwen3:8b").name == "qwen3-8b"


def test_an_unknown_model_is_said_to_be_unknown() -> None:
    """Never a guess: the nearest names, or what is known of it."""
    with pytest.raises(NotFound, match="Did you mean qwen3-8b"):
        TABLE.find("qwen3-8bb")
    with pytest.raises(NotFound, match=r"1\.6 T parameters"):
        TABLE.find("deepseek-v4-pro")
    with pytest.raises(NotFound, match=r"config\.json"):
        TABLE.find("zzz")


# --- The inequality by hand


def test_a_dense_model_by_hand() -> None:
    """Qwen3-8B in 16 bits on an H100."""
    found = fitted("qwen3-8b", "h100")
    assert found.weights == 2 * 8_190_735_360
    assert found.cache == 32768 * 147_456
    attention = (32 + 2 * 8) * 128
    assert found.activations == 2048 * 2 * (4 * 4096 + attention + 3 * 12288) + 4 * 151_936
    assert found.overhead == GB // 2
    assert found.needed == 21_957_186_304
    assert found.usable == 72 * GB
    assert found.fits
    room = 72 * GB - GB // 2 - found.weights - (found.activations - 4 * 151_936)
    assert found.sequences == room // (found.cache + 4 * 151_936) == 11
    assert found.longest == 131_072


def test_an_moe_model_by_hand() -> None:
    """Qwen3-235B-A22B at int4 on eight H100: experts shared by eight, four KV heads held twice."""
    found = fitted("qwen3-235b-a22b", "h100x8", "int4")
    embed = 151_936 * 4096
    norms = 94 * (2 * 4096 + 2 * 128) + 4096
    routers = 94 * 4096 * 128
    experts = 94 * 128 * 3 * 4096 * 1536
    queries = 94 * 2 * 64 * 128 * 4096
    keys = 94 * 2 * 4 * 128 * 4096
    low = Fraction(experts + queries, 8) + Fraction(keys, 4)
    exact = low * Fraction(133, 256) + Fraction(2 * embed, 8) * 2 + (norms + routers) * 2
    assert found.weights == -int(-exact // 1)
    assert found.cache == 32768 * 94 * 2 * 1 * 128 * 2
    assert found.fits


def test_an_mla_model_by_hand() -> None:
    """DeepSeek-V3 in its own FP8: 671 GB over eight H100 is 85 GB each, more than 72."""
    found = fitted("deepseek-v3", "h100x8")
    assert found.plan.quant == "fp8"
    assert found.cache == 32768 * 70_272  # all of it on each GPU
    assert found.weights / GB == pytest.approx(85.1, abs=0.05)
    assert not found.fits
    assert (found.sequences, found.longest) == (0, 0)
    assert fitted("deepseek-v3", "h200x8").fits
    assert fitted("deepseek-v3", "h100x8", "int4").fits


def test_the_inequality_is_written_out() -> None:
    shape = TABLE.find("qwen3-8b")
    hardware, plan = gpu_named("h100"), plan_for(shape, None, None)
    assert inequality(shape, hardware, fit(shape, hardware, plan)) == (
        "8.19 B weights x 2 bytes = 16.4 GB + KV 32,768 tokens x 147,456 B = 4.8 GB + activations 0.2 GB + runtime 0.5 GB "
        "= 22.0 GB <= 0.90 x 80 GB = 72.0 GB: fits, 50.0 GB left"
    )


def test_int4_has_its_scales_and_16_bit_embeddings() -> None:
    shape = TABLE.find("qwen3-8b")
    embeddings, norms = 2 * 151_936 * 4096, 36 * (2 * 4096 + 2 * 128) + 4096
    low = 8_190_735_360 - embeddings - norms
    assert weights_in_all(shape, "int4") == -(-low * 133 // 256) + 2 * (embeddings + norms)


def test_speed_by_hand() -> None:
    """All weights but one table of embeddings, and the whole cache, over the listed bandwidth."""
    shape = TABLE.find("qwen3-8b")
    plan = plan_for(shape, None, 1)
    read = 2 * (8_190_735_360 - 151_936 * 4096) + 147_456
    assert read_per_token(shape, plan, 1) == read
    speed = speed_of(shape, gpu_named("h100"), plan)
    assert speed is not None
    assert speed.ceiling == pytest.approx(3350e9 / read)
    # 2 bytes over 2 operations a weight: the batch is operations over bytes a second.
    assert speed.compute_batch == -(-989_000 // 3350)


def test_speed_of_an_moe_follows_its_active_part() -> None:
    shape = TABLE.find("qwen3-30b-a3b")
    speed = speed_of(shape, gpu_named("rtx4090"), plan_for(shape, "int4", 1))
    dense = speed_of(TABLE.find("qwen3-32b"), gpu_named("rtx4090"), plan_for(shape, "int4", 1))
    assert speed is not None
    assert dense is not None
    assert speed.ceiling > 7 * dense.ceiling
    # What was measured on that card (196 tokens a second, reference) lies below the ceiling.
    assert speed.ceiling > 196
    assert speed.compute_batch is not None
    assert dense.compute_batch is not None
    assert speed.compute_batch > 5 * dense.compute_batch


def test_no_speed_without_a_bandwidth_or_for_what_does_not_write() -> None:
    shape = TABLE.find("qwen3-8b")
    assert (
        speed_of(shape, Hardware(device=Device(name="m", label="m", memory=24 * GB)), plan_for(shape, None, None))
        is None
    )
    embedding = TABLE.find("qwen3-embedding-8b")
    assert speed_of(embedding, gpu_named("h100"), plan_for(embedding, None, None)) is None


# --- What holds for all


@SHAPES
def test_more_context_never_needs_less(shape: Shape) -> None:
    sizes = [1, 1024, 4096, shape.context // 2, shape.context, shape.max_context]
    needed = [fit(shape, gpu_named("h100"), plan_for(shape, None, size)).needed for size in sorted(sizes)]
    assert needed == sorted(needed)


@SHAPES
def test_fewer_bits_never_need_more(shape: Shape) -> None:
    by_quant = {quant: weights_in_all(shape, quant) for quant in WEIGHT_BYTES}
    assert by_quant["int4"] <= by_quant["int8"] == by_quant["fp8"] <= by_quant["bf16"]
    assert by_quant["bf16"] == 2 * parts_of(shape).total


@SHAPES
def test_more_gpus_never_hold_more_each(shape: Shape) -> None:
    """Weights and cache shrink or stay. (The second GPU costs buffers for the exchange.)"""
    counts = [count for count in (1, 2, 4, 8, 16) if not split_problem(shape, count)]
    found = [fit(shape, Hardware(device=GPUS[0], count=count), plan_for(shape, None, None)) for count in counts]
    for name in ("weights", "cache"):
        sizes = [getattr(item, name) for item in found]
        assert sizes == sorted(sizes, reverse=True)
    room = [item.longest for item in found[1:]]
    assert room == sorted(room)


@SHAPES
@pytest.mark.parametrize("gpu", ["l4", "h100", "h200x8"])
def test_longest_and_sequences_are_what_fits(shape: Shape, gpu: str) -> None:
    """One more would not: the figures are exact for the same inequality."""
    hardware = gpu_named(gpu)
    if split_problem(shape, hardware.count):
        return
    found = fit(shape, hardware, plan_for(shape, "int4", None))
    if found.longest:
        assert fit(shape, hardware, plan_for(shape, "int4", found.longest)).fits
    if found.longest < shape.max_context:
        assert not fit(shape, hardware, plan_for(shape, "int4", found.longest + 1)).fits
    if found.sequences:
        assert fit(shape, hardware, plan_for(shape, "int4", None, batch=found.sequences)).fits
    assert not fit(shape, hardware, plan_for(shape, "int4", None, batch=found.sequences + 1)).fits


@SHAPES
def test_every_way_that_fits_says_the_truth(shape: Shape) -> None:
    """There is always one: a device large enough."""
    hardware = gpu_named("l4")
    found = fit(shape, hardware, plan_for(shape, None, None))
    ways = ways_to_fit(shape, hardware, found)
    assert all(way.fits == (way.needed <= way.usable) for way in ways)
    assert ways[-1].fits


def test_ways_out_of_an_rtx_4090() -> None:
    shape, hardware = TABLE.find("qwen3-8b"), gpu_named("rtx4090")
    found = fit(shape, hardware, plan_for(shape, None, None))
    assert not found.fits
    ways = {way.what.split(" (")[0] for way in ways_to_fit(shape, hardware, found) if way.fits}
    assert {"--quant fp8", "--quant int4", "--kv fp8", "--context 29k", "--gpu rtx4090x2", "--gpu rtx5090"} <= ways


# --- What is refused


@pytest.mark.parametrize(
    ("quant", "context", "cache", "batch", "words"),
    [
        (None, 131_073, "bf16", 1, "at most 131,072 tokens"),
        (None, 0, "bf16", 1, "0 were asked for"),
        ("int3", None, "bf16", 1, "bf16, fp8, int8, int4"),
        (None, None, "int2", 1, "bf16, fp8, int8"),
        (None, None, "bf16", 0, "starts at 1"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(
    quant: str | None, context: int | None, cache: str, batch: int, words: str
) -> None:
    with pytest.raises(BadRequest, match=words):
        plan_for(TABLE.find("qwen3-8b"), quant, context, cache, batch)


def test_heads_that_do_not_divide_are_said() -> None:
    with pytest.raises(BadRequest, match=r"32 heads and 8 KV heads.*3 GPUs.*1, 2, 4, 8, 16, 32 can"):
        fitted("qwen3-8b", "h100x3")
    assert split_problem(TABLE.find("deepseek-v3"), 16) == ""


def test_notes_say_what_the_figures_do_not() -> None:
    shape = TABLE.find("qwen3-235b-a22b")
    notes = " ".join(notes_on(shape, gpu_named("a100x8"), plan_for(shape, "fp8", 131_072)))
    for words in ("YaRN", "16 bits", "no FP8 arithmetic", "each head is held 2 times", "expert parallelism"):
        assert words in notes
    seed = TABLE.find("hyperclovax-seed-think-14b")
    assert "estimate" in notes_on(seed, gpu_named("h100"), plan_for(seed, None, None))[0]


def test_a_machine_without_gpu_has_its_own_rules() -> None:
    shape = TABLE.find("qwen3-0.6b")
    hardware = Hardware(device=machine(16 * GB, 40 * GB))
    found = fit(shape, hardware, plan_for(shape, "int8", 4096))
    assert (found.usable, found.overhead) == (int(12.8 * GB), 150_000_000)
    speed = speed_of(shape, hardware, found.plan)
    assert speed is not None
    assert (speed.kind, speed.compute_batch) == ("cpu", None)


@pytest.mark.parametrize(
    ("model", "gpu", "quant"), [("qwen3-8b", "rtx4090", None), ("qwen3-235b-a22b", "h100x8", "int4")]
)
def test_the_page_shows_what_is_computed(model: str, gpu: str, quant: str | None) -> None:
    """docs/local-fit.md has the very lines."""
    shape, hardware = TABLE.find(model), gpu_named(gpu)
    page = (Path(__file__).parents[2] / "docs/local-fit.md").read_text()
    assert f"\n{inequality(shape, hardware, fit(shape, hardware, plan_for(shape, quant, None)))}\n" in page


@pytest.mark.parametrize(("quant", "size"), [("bf16", 1342), ("fp8", 673), ("int4", 352)])
def test_the_page_has_the_right_figures_of_deepseek(quant: str, size: int) -> None:
    assert round(weights_in_all(TABLE.find("deepseek-v3"), quant) / GB) == size


def test_a_device_that_is_named_as_large_enough_is() -> None:
    """The figure is rounded up, never down."""
    for shape in TABLE.shapes:
        hardware = gpu_named("l4")
        found = fit(shape, hardware, plan_for(shape, None, None))
        size = ways_to_fit(shape, hardware, found)[-1].what.removeprefix("a device with ").removesuffix(" GB")
        larger = Hardware(device=Device(name="m", label="m", memory=int(Fraction(size) * GB)))
        assert fit(shape, larger, found.plan).fits
