"""When a model does not fit: what would, each way computed. And the inequality in words."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct, structs

from naru.catalog.fit import WEIGHT_BYTES, Fit, Plan, fit, split_problem, weights_in_all
from naru.catalog.hardware import GB, GPUS, Hardware
from naru.catalog.shapes import Shape, parts_of

#: Fewer tokens than this help nobody.
LEAST_CONTEXT = 1024
#: Eight GPUs share a board; more are several machines and a fast network.
BOARD = 8
MAX_GPUS = 64


class Way(Struct, frozen=True, kw_only=True):
    """Bytes on each device."""

    what: str
    needed: int
    usable: int

    @property
    def fits(self) -> bool:
        return self.needed <= self.usable


def ways_to_fit(shape: Shape, hardware: Hardware, found: Fit) -> list[Way]:
    """Ways that change one thing, in the order: smaller numbers, fewer tokens, more or larger devices. One that does not
    suffice is shown too, with what is missing; then the smallest numbers with the least else changed."""
    ways = [*_smaller_numbers(shape, hardware, found.plan), *_fewer_tokens(shape, hardware, found)]
    return [*ways, *_more_devices(shape, hardware, found)]


def _smaller_numbers(shape: Shape, hardware: Hardware, plan: Plan) -> Iterator[Way]:
    have = WEIGHT_BYTES[plan.quant]
    for quant in ("fp8" if hardware.device.is_gpu else "int8", "int4"):
        if WEIGHT_BYTES[quant] < have:
            yield _way(f"--quant {quant}", shape, hardware, structs.replace(plan, quant=quant))
    if plan.cache == "bf16":
        yield _way("--kv fp8 (a cache of 8-bit values)", shape, hardware, structs.replace(plan, cache="fp8"))


def _fewer_tokens(shape: Shape, hardware: Hardware, found: Fit) -> Iterator[Way]:
    plan = found.plan
    if plan.batch > 1 and found.sequences:
        fewer = structs.replace(plan, batch=found.sequences)
        yield _way(f"--batch {found.sequences}", shape, hardware, fewer)
    if LEAST_CONTEXT <= found.longest < plan.context:
        # Whole thousands: a context of 30,345 tokens is nobody's wish.
        tokens = found.longest // LEAST_CONTEXT * LEAST_CONTEXT
        fewer = structs.replace(plan, context=tokens, batch=1)
        yield _way(f"--context {tokens // LEAST_CONTEXT}k", shape, hardware, fewer)


def _more_devices(shape: Shape, hardware: Hardware, found: Fit) -> Iterator[Way]:
    plan, device = found.plan, hardware.device
    if device.is_gpu and device.bandwidth is not None:
        count = hardware.count * 2
        while count <= MAX_GPUS:
            if not split_problem(shape, count):
                way = _way(_gpus(device.name, count), shape, structs.replace(hardware, count=count), plan)
                if way.fits:
                    yield way
                    break
            count *= 2
        for other in sorted(GPUS, key=lambda gpu: gpu.memory):
            way = _way(_gpus(other.name, hardware.count), shape, structs.replace(hardware, device=other), plan)
            if way.fits and other.memory > device.memory:
                yield way
                break
    # Rounded up, so that the figure that is read is enough.
    least = f"{-int(-found.needed / hardware.usable_part // (GB // 10)) / 10:.1f} GB"
    what = f"a device with {least}" if hardware.count == 1 else f"{hardware.count} devices with {least} each"
    yield Way(what=what, needed=found.needed, usable=found.needed)


def _gpus(name: str, count: int) -> str:
    boards = f" ({count // BOARD} machines)" if count > BOARD else ""
    return f"--gpu {name if count == 1 else f'{name}x{count}'}{boards}"


def _way(what: str, shape: Shape, hardware: Hardware, plan: Plan) -> Way:
    found = fit(shape, hardware, plan)
    return Way(what=what, needed=found.needed, usable=found.usable)


# --- In words


def gb(size: int | float) -> str:
    """Decimal gigabytes with one digit, and more where one would say 0.0."""
    return f"{size / GB:.1f} GB" if abs(size) >= GB / 20 else f"{size / 10**6:.0f} MB"


def billions(count: int | float) -> str:
    return f"{count / 10**9:.2f} B"


def weights_in_words(shape: Shape, found: Fit, gpus: int) -> str:
    """`8.19 B weights x 2 bytes`, `6.95 B x 0.52 + 1.24 B x 2 bytes`; over several GPUs the share of each, and its copies."""
    parts, quant = parts_of(shape), found.plan.quant
    if quant == "bf16":
        text = f"{billions(parts.total)} weights x 2 bytes"
    else:
        size = f"{float(WEIGHT_BYTES[quant]):.4g} byte"
        text = f"{billions(parts.low)} weights x {size} ({quant}) + {billions(parts.high)} x 2 bytes"
    if gpus == 1:
        return text
    copies = found.weights - weights_in_all(shape, quant) // gpus
    return f"({text}) / {gpus} + {gb(copies)} of copies"


def terms(shape: Shape, hardware: Hardware, found: Fit) -> list[tuple[str, int, str]]:
    """(term, bytes on each device, where it comes from)."""
    plan = found.plan
    each = "" if hardware.count == 1 else " on each GPU"
    sequences = "" if plan.batch == 1 else f"{plan.batch} sequences x "
    if shape.window_layers:
        cache = (
            f"{sequences}{plan.context:,} tokens, {shape.window_layers} of {shape.layers} layers keep {shape.window:,}"
        )
    else:
        cache = f"{sequences}{plan.context:,} tokens x {found.cache_per_token:,} bytes ({plan.cache}){each}"
    return [
        ("weights", found.weights, weights_in_words(shape, found, hardware.count)),
        ("KV cache", found.cache, cache),
        ("activations", found.activations, "one step of 2,048 tokens through the widest layer, and the logits"),
        (
            "runtime",
            found.overhead,
            "the engine's own: context, kernels" + (", exchange" if hardware.count > 1 else ""),
        ),
    ]


def inequality(shape: Shape, hardware: Hardware, found: Fit) -> str:
    """The whole of it in one line, as the person who has to believe it would write it."""
    plan, gpus = found.plan, hardware.count
    batch = "" if plan.batch == 1 else f"{plan.batch} x "
    sum_of_terms = " + ".join(
        (
            f"{weights_in_words(shape, found, gpus)} = {gb(found.weights)}",
            f"KV {batch}{plan.context:,} tokens x {found.cache_per_token:,} B = {gb(found.cache)}"
            if not shape.window_layers
            else f"KV {batch}{plan.context:,} tokens = {gb(found.cache)}",
            f"activations {gb(found.activations)}",
            f"runtime {gb(found.overhead)}",
        )
    )
    sign = "<=" if found.fits else ">"
    memory = f"{float(hardware.usable_part):.2f} x {hardware.device.memory / GB:.4g} GB = {gb(found.usable)}"
    verdict = f"fits, {gb(found.left)} left" if found.fits else f"does not fit, {gb(-found.left)} too much"
    each = "" if gpus == 1 else f"On each of {gpus} GPUs: "
    return f"{each}{sum_of_terms} = {gb(found.needed)} {sign} {memory}: {verdict}"
