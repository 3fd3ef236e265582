"""Which open-weight model for a task on given hardware: what fits, is not slow, and is known for it."""

from __future__ import annotations

import math

from naru.catalog.advice import NEEDS, STRENGTH, Advice, Task, best, misplaced, strengths_of
from naru.catalog.fit import Fit, fit, plan_for, split_problem
from naru.catalog.hardware import Hardware
from naru.catalog.shapes import Shape, ShapeTable, active_of, parts_of
from naru.catalog.speed import read_per_token, speed_of
from naru.catalog.ways import billions, gb

#: Tokens of context that a task gets: some pages, or a book.
USUAL_CONTEXT, LONG_CONTEXT = 32768, 131072
KINDS = {"embeddings": ("embedding",), "rerank": ("rerank",), "chat": ("chat", "vision")}
#: Fewer tokens a second than this (the low end) is no conversation.
SLOW = 8.0
#: On a CPU nothing is measured for advice, so that it stays the same: this many bytes a token are slow on any.
SLOW_READ = 4_000_000_000
#: Large enough to follow instructions, small enough to answer many at once: where bulk work looks first.
BULK_PARAMETERS = 4_000_000_000
#: Points: doubling the parameters; being slow; each step of quantisation; a vision part that the task does not need.
SIZE, TOO_SLOW, STEP, IDLE_TOWER = 1.0, -4.0, -0.5, -1.0


def local(task: Task, table: ShapeTable, hardware: Hardware) -> list[Advice]:
    """Shapes that fit. Several names of one shape and purpose (instruct, thinking) give one answer, the better one."""
    kinds = KINDS.get(task.endpoint, ())
    able = [advice for shape in table.shapes if shape.kind in kinds and (advice := _judge(task, shape, hardware))]
    chosen: dict[tuple[str, str], Advice] = {}
    for advice in able:
        key = (advice.family, advice.place)
        if key not in chosen or advice.points > chosen[key].points:
            chosen[key] = advice
    return best(chosen.values())


def _judge(task: Task, shape: Shape, hardware: Hardware) -> Advice | None:
    context = LONG_CONTEXT if "long" in task.needs else min(USUAL_CONTEXT, shape.max_context)
    if context > shape.max_context or ("vision" in task.needs and shape.kind == "chat"):
        return None
    if split_problem(shape, hardware.count):
        return None
    eight = "fp8" if hardware.device.is_gpu else "int8"
    forms = []
    for step, quant in enumerate(dict.fromkeys((shape.dtype, eight, "int4"))):
        found = fit(shape, hardware, plan_for(shape, quant, context))
        if found.fits:
            forms.append(_advice(task, shape, hardware, found, step))
    return max(forms, key=lambda advice: advice.points, default=None)


def _advice(task: Task, shape: Shape, hardware: Hardware, found: Fit, step: int) -> Advice:
    total = parts_of(shape).total
    strengths = {*shape.strengths, *strengths_of(shape.family)}
    known = [need for need in task.needs if need in strengths]
    doublings = math.log2(total / BULK_PARAMETERS)
    points = STRENGTH * len(known) + STEP * step + misplaced(shape.family, task)
    points += SIZE * (-abs(doublings) if "cheap" in task.needs else doublings)
    reasons = [f"known for {', '.join(NEEDS[need][0] for need in known)}"] if known else []
    reasons.append(
        f"{billions(total)} parameters" + (f", {billions(active_of(shape))} active" if shape.experts else "")
    )
    if shape.kind == "vision" and "vision" not in task.needs:
        points += IDLE_TOWER
    pace, is_slow = _pace(shape, hardware, found)
    points += TOO_SLOW if is_slow and task.endpoint == "chat" else 0
    reasons += pace
    reasons.append(
        f"{found.sequences:,} sequence{'' if found.sequences == 1 else 's'} of {found.plan.context:,} tokens at once"
    )
    return Advice(
        model=shape.name,
        family=shape.family,
        place=f"{found.plan.quant}, {gb(found.needed)} of {gb(found.usable)}{' each' if hardware.count > 1 else ''}",
        price="",
        points=round(points, 6),
        reasons=tuple(reasons),
    )


def _pace(shape: Shape, hardware: Hardware, found: Fit) -> tuple[list[str], bool]:
    """(words on its speed, whether it is too slow to talk with)."""
    speed = speed_of(shape, hardware, found.plan)
    if speed is not None:
        words = f"{speed.low:,.0f} to {speed.high:,.0f} tokens a second"
        return [words + (", slow" if speed.low < SLOW else "")], speed.low < SLOW
    if hardware.device.is_gpu or shape.kind in ("embedding", "rerank"):
        return [], False
    read = read_per_token(shape, found.plan, 1)
    is_slow = read > SLOW_READ
    return [f"{gb(read)} read for each token{', slow on a CPU' if is_slow else ''}"], is_slow
