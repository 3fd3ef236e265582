"""What a model may run on: memory, bandwidth and arithmetic of GPUs as their makers list them, and how they are written.

Memory is the nominal size in decimal GB, which is never more than what a card has; `--memory 24GiB` says it exactly.
Bandwidth and (dense) arithmetic are from the makers' data sheets; the SXM variant where there are several.
"""

from __future__ import annotations

import difflib
import re
from fractions import Fraction

from msgspec import Struct

from naru.errors import BadRequest

GB = 1_000_000_000
#: Of a GPU's memory engines take this part (vLLM's gpu_memory_utilization); the rest is the driver's and fragmentation's.
GPU_USABLE = Fraction(9, 10)
#: Of a machine's memory: the system and other programs need the rest (Ollama evicts above the same part).
RAM_USABLE = Fraction(8, 10)
#: CUDA context, kernels, graphs (llmfit takes the same), and NCCL's buffers where several GPUs talk to each other.
GPU_OVERHEAD = GB // 2
PEER_OVERHEAD = GB // 2
#: The process without weights (gguf-parser's platform footprint).
RAM_OVERHEAD = 150_000_000
MAX_COUNT = 1024
UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
UNITS |= {"kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}


class Device(Struct, frozen=True, kw_only=True):
    """Bytes, bytes a second, operations a second; None: not known. `flops8` is FP8's rate, None where there is none."""

    name: str
    label: str
    memory: int
    bandwidth: int | None = None
    flops: int | None = None
    flops8: int | None = None
    is_gpu: bool = True
    is_measured: bool = False
    aliases: tuple[str, ...] = ()


class Hardware(Struct, frozen=True, kw_only=True):
    """`count` devices of one kind, one model split over all of them (tensor parallel)."""

    device: Device
    count: int = 1

    @property
    def usable_part(self) -> Fraction:
        return GPU_USABLE if self.device.is_gpu else RAM_USABLE

    @property
    def usable(self) -> int:
        """Bytes of each device."""
        return int(self.device.memory * self.usable_part)

    @property
    def overhead(self) -> int:
        """Bytes on each device."""
        if not self.device.is_gpu:
            return RAM_OVERHEAD
        return GPU_OVERHEAD + (PEER_OVERHEAD if self.count > 1 else 0)

    @property
    def words(self) -> str:
        return self.device.label if self.count == 1 else f"{self.count} x {self.device.label}"


def _gpu(name: str, label: str, memory: int, bandwidth: int, tera: tuple[float, float | None], *aliases: str) -> Device:
    """Memory in GB, bandwidth in GB/s, dense 16-bit and FP8 arithmetic in TFLOPS."""
    flops, flops8 = tera
    return Device(
        name=name,
        label=label,
        memory=memory * GB,
        bandwidth=bandwidth * GB,
        flops=int(flops * 10**12),
        flops8=None if flops8 is None else int(flops8 * 10**12),
        aliases=aliases,
    )


GPUS = (
    _gpu("h100", "H100 80 GB", 80, 3350, (989, 1979), "h100-80", "h100-80gb", "h100-sxm"),
    _gpu("h200", "H200 141 GB", 141, 4800, (989, 1979), "h200-141", "h200-141gb", "h200-sxm"),
    _gpu("b200", "B200 180 GB", 180, 8000, (2250, 4500), "b200-180", "b200-180gb"),
    _gpu("a100", "A100 80 GB", 80, 2039, (312, None), "a100-80", "a100-80gb", "a100-sxm"),
    _gpu("a100-40", "A100 40 GB", 40, 1555, (312, None), "a100-40gb"),
    _gpu("l40s", "L40S 48 GB", 48, 864, (362, 733), "l40s-48", "l40s-48gb"),
    _gpu("l4", "L4 24 GB", 24, 300, (121, 242), "l4-24", "l4-24gb"),
    _gpu("rtx4090", "RTX 4090 24 GB", 24, 1008, (165, 330), "4090", "rtx-4090", "geforce-4090"),
    _gpu("rtx3090", "RTX 3090 24 GB", 24, 936, (71, None), "3090", "rtx-3090", "geforce-3090"),
    _gpu("rtx5090", "RTX 5090 32 GB", 32, 1792, (209, 419), "5090", "rtx-5090", "geforce-5090"),
    _gpu("mi300x", "MI300X 192 GB", 192, 5300, (1307, 2614), "mi300", "mi300x-192", "mi300x-192gb"),
)
BY_NAME = {name: gpu for gpu in GPUS for name in (gpu.name, *gpu.aliases)}


def gpu_named(text: str) -> Hardware:
    """`h100`, `h100x8`, `8xh100`, `a100-40x2`. Raises BadRequest with the names there are."""
    name, count = _name_and_count(re.sub(r"[\s_]+", "-", text.strip().lower()))
    device = BY_NAME.get(name)
    if device is None:
        near = difflib.get_close_matches(name, BY_NAME, n=2, cutoff=0.6)
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        known = ", ".join(gpu.name for gpu in GPUS)
        raise BadRequest(
            f"No GPU {text!r} is known.{hint} Known: {known}; h100x8 is eight of them, and --memory 24GiB is for any other."
        )
    if not 1 <= count <= MAX_COUNT:
        raise BadRequest(f"{text!r} is {count} GPUs; between 1 and {MAX_COUNT} are understood.")
    return Hardware(device=device, count=count)


def _name_and_count(asked: str) -> tuple[str, int]:
    """The x of rtx4090 is not one of 8x: a whole name goes first, then a count in front of one, then one behind."""
    if asked in BY_NAME:
        return asked, 1
    front = re.fullmatch(r"(\d{1,9})-?[x*]-?(.+)", asked)
    if front is not None and front[2] in BY_NAME:
        return front[2], int(front[1])
    behind = re.fullmatch(r"(.+)[x*]-?(\d{1,9})", asked)
    return (behind[1].rstrip("-"), int(behind[2])) if behind is not None else (asked, 1)


def device_of_memory(text: str) -> Device:
    """`24GiB`, `80GB`: any device, whose speed nobody knows."""
    return Device(name="memory", label=f"{text} of memory", memory=bytes_of(text, "--memory"))


def machine(memory: int, bandwidth: int | None) -> Device:
    """This machine's own memory, and the bandwidth that was measured on it."""
    label = f"this machine's {memory / GB:.1f} GB of RAM"
    return Device(name="cpu", label=label, memory=memory, bandwidth=bandwidth, is_gpu=False, is_measured=True)


def bytes_of(text: str, what: str) -> int:
    number, unit = _number(text)
    if number is None or unit not in UNITS or unit == "":
        raise BadRequest(f"{what} {text!r} is not understood: write 24GiB (2^30 bytes) or 24GB (10^9).")
    return int(number * UNITS[unit])


def tokens_of(text: str, what: str) -> int:
    """`32k` is 32,768 tokens, as in the names of contexts; `32000` is itself."""
    number, unit = _number(text)
    if number is None or unit not in ("", "k", "m"):
        raise BadRequest(f"{what} {text!r} is not understood: write 32k (32,768 tokens) or the number itself.")
    return int(number * UNITS[unit])


def _number(text: str) -> tuple[Fraction | None, str]:
    match = re.fullmatch(r"([0-9]{1,12}(?:\.[0-9]{1,6})?)\s*([a-z]*)", text.strip().lower().replace(",", ""))
    if match is None or not (number := Fraction(match[1])):
        return None, ""
    return number, match[2]
