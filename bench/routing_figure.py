"""docs/images/routing.svg: the 99th percentile of the time to first content, over time, for some policies. Text alone: no
fonts are fetched, and every colour reads on white and on black."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log

from bench.simulated_world import World

WIDTH, HEIGHT = 960, 430
LEFT, RIGHT, TOP, BOTTOM = 74, 806, 66, 372
#: Seconds; beyond is drawn at the edge.
LOWEST, HIGHEST = 0.2, 3.2
GRID_S = (0.2, 0.4, 0.8, 1.6, 3.2)
#: Between two labels, so that none lies on another.
LABEL_STEP = 19
COLOURS = {
    "round robin": "#d1495b",
    "weighted": "#c77d0a",
    "least_busy": "#1f9d6b",
    "latency": "#3d84e0",
    "ideal": "#8d6bd1",
}
GREY = "#768390"
FONT = "system-ui, -apple-system, 'Segoe UI', 'Noto Sans', 'DejaVu Sans', sans-serif"


def figure(p99_s: Mapping[str, Sequence[float]], world: World, per_s: int) -> str:
    """`p99_s`: by policy, for each of `per_s` slices of a second; policies without a colour are left out."""
    lines = {name: _points(p99_s[name], world, per_s) for name in COLOURS if name in p99_s}
    pieces = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-labelledby="title desc" font-family="{FONT}">',
        '  <title id="title">Time to first content while a region is lost</title>',
        f'  <desc id="desc">{_description(world)}</desc>',
        *_loss(world),
        *_axes(world),
        *(_line(points, name) for name, points in lines.items()),
        *_labels(lines),
        "</svg>",
    ]
    return "\n".join(pieces) + "\n"


def _description(world: World) -> str:
    return (
        f"The 99th percentile of the time to first content over {world.seconds:g} seconds, by the time of arrival, for "
        f"{', '.join(COLOURS)}. One region of {len(world.regions)} is silent from second {world.lost_at:g} to second "
        f"{world.back_at:g}. Made by bench/simulate_routing.py with seed {world.seed}."
    )


def _x(at: float, world: World) -> float:
    return LEFT + (RIGHT - LEFT) * (at - world.warm_s) / (world.seconds - world.warm_s)


def _y(seconds: float) -> float:
    held = min(max(seconds, LOWEST), HIGHEST)
    return BOTTOM - (BOTTOM - TOP) * log(held / LOWEST) / log(HIGHEST / LOWEST)


def _points(p99_s: Sequence[float], world: World, per_s: int) -> list[tuple[float, float]]:
    """One in the middle of each slice after the warm-up."""
    middles = [(place + 0.5) / per_s for place in range(len(p99_s))]
    return [
        (_x(at, world), _y(each)) for at, each in zip(middles, p99_s, strict=True) if at > world.warm_s and each > 0
    ]


def _loss(world: World) -> list[str]:
    since, until = _x(world.lost_at, world), _x(world.back_at, world)
    return [
        f'  <rect x="{since:.1f}" y="{TOP - 14}" width="{until - since:.1f}" height="{BOTTOM - TOP + 14}" fill="{GREY}" '
        f'fill-opacity="0.16"/>',
        _text((since + until) / 2, TOP - 22, "one region of five is silent", "middle"),
    ]


def _axes(world: World) -> list[str]:
    found = [_text(LEFT - 50, 22, "Time to first content, 99th percentile, by time of arrival", "start", 15)]
    for seconds in GRID_S:
        y = _y(seconds)
        found.append(f'  <path d="M{LEFT} {y:.1f} H{RIGHT}" stroke="{GREY}" stroke-opacity="0.35"/>')
        found.append(_text(LEFT - 8, y + 4, f"{seconds:g} s", "end"))
    at = world.warm_s
    while at <= world.seconds:
        x = _x(at, world)
        found.append(f'  <path d="M{x:.1f} {BOTTOM} V{BOTTOM + 5}" stroke="{GREY}"/>')
        found.append(_text(x, BOTTOM + 21, f"{at:g} s", "middle"))
        at += 0.5
    found.append(_text((LEFT + RIGHT) / 2, BOTTOM + 44, "simulated time", "middle"))
    return found


def _line(points: Sequence[tuple[float, float]], name: str) -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dashes = ' stroke-dasharray="6 4"' if name == "ideal" else ""
    return (
        f'  <polyline points="{path}" fill="none" stroke="{COLOURS[name]}" stroke-width="2.5" '
        f'stroke-linejoin="round"{dashes}/>'
    )


def _labels(lines: Mapping[str, Sequence[tuple[float, float]]]) -> list[str]:
    """Beside the end of each line, pushed apart where lines end close together."""
    found, lowest = [], float(TOP)
    for name, points in sorted(lines.items(), key=lambda each: each[1][-1][1]):
        y = max(points[-1][1], lowest)
        lowest = y + LABEL_STEP
        found.append(
            f'  <path d="M{points[-1][0]:.1f} {points[-1][1]:.1f} L{RIGHT + 14} {y:.1f}" stroke="{COLOURS[name]}" '
            f'stroke-opacity="0.6"/>'
        )
        found.append(_text(RIGHT + 18, y + 5, name, "start", 14, COLOURS[name]))
    return found


def _text(x: float, y: float, words: str, anchor: str, size: int = 12, colour: str = GREY) -> str:
    weight = ' font-weight="600"' if size > 12 else ""
    return f'  <text x="{x:.1f}" y="{y:.1f}" font-size="{size}"{weight} text-anchor="{anchor}" fill="{colour}">{words}</text>'
