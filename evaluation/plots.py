"""Small plots as SVG text: bars with intervals, lines, points. No figures are computed here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Optional

__all__ = ["bars", "lines", "points"]

_WIDTH = 640
_LEFT = 60
_RIGHT = 170
_TOP = 34
_BOTTOM = 44
_COLOURS = ("#1b6ca8", "#c8553d", "#588157", "#8a5a99", "#b08900", "#555555", "#2a9d8f")
_OURS = "#c8553d"


def bars(title: str, rows: Sequence[tuple[str, float, float, float]], low: float, high: float, ours: str) -> str:
    """Horizontal bars (name, value, lower and upper end of its interval) on an axis from `low` to `high`."""
    height = _TOP + 26 * len(rows) + 30
    left, right = 160, 60

    def x(value: float) -> float:
        return left + (min(max(value, low), high) - low) / (high - low) * (_WIDTH - left - right)

    drawn = []
    for number, (name, value, least, most) in enumerate(rows):
        y = _TOP + 26 * number
        colour = _OURS if name == ours else _COLOURS[0]
        drawn.append(_text(left - 8, y + 14, name, "end"))
        drawn.append(f'<rect x="{left}" y="{y + 3}" width="{x(value) - left:.1f}" height="15" fill="{colour}"/>')
        drawn.append(_line(x(least), y + 10.5, x(most), y + 10.5, "#222", 1.5))
        drawn.append(_text(_WIDTH - right + 8, y + 14, f"{value:.3f}"))
    drawn += [_text(x(tick), height - 8, f"{tick:g}", "middle") for tick in _ticks(low, high)]
    return _svg(title, height, drawn)


def lines(
    title: str,
    series: Mapping[str, Sequence[tuple[float, float]]],
    axes: tuple[str, str],
    spans: tuple[tuple[float, float], tuple[float, float]],
    *,
    diagonal: bool = False,
) -> str:
    """One line with marks for each series of (x, y), named at the right."""
    (x_low, x_high), (y_low, y_high) = spans
    height = 330

    def place(point: tuple[float, float]) -> tuple[float, float]:
        x = _LEFT + (point[0] - x_low) / (x_high - x_low) * (_WIDTH - _LEFT - _RIGHT)
        y = height - _BOTTOM - (point[1] - y_low) / (y_high - y_low) * (height - _TOP - _BOTTOM)
        return x, y

    drawn = _axes(axes, spans, height, place((x_low, y_low)), place((x_high, y_high)))
    if diagonal:
        start, end = place((max(x_low, y_low), max(x_low, y_low))), place((min(x_high, y_high), min(x_high, y_high)))
        drawn.append(_line(*start, *end, "#999", 1.0))
    for number, (name, row) in enumerate(series.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        where = [place(point) for point in row]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in where)
        drawn.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        drawn += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in where]
        drawn += _key(number, name, colour)
    return _svg(title, height, drawn)


def points(
    title: str,
    series: Mapping[str, Sequence[tuple[float, float]]],
    axes: tuple[str, str],
    spans: tuple[tuple[float, float], tuple[float, float]],
) -> str:
    """Only the marks."""
    drawn = lines(title, series, axes, spans)
    return "\n".join(line for line in drawn.splitlines() if not line.startswith("<polyline"))


def _axes(
    names: tuple[str, str],
    spans: tuple[tuple[float, float], tuple[float, float]],
    height: int,
    origin: tuple[float, float],
    corner: tuple[float, float],
) -> list[str]:
    drawn = [_line(*origin, corner[0], origin[1]), _line(*origin, origin[0], corner[1])]
    for tick in _ticks(*spans[0]):
        x = origin[0] + (tick - spans[0][0]) / (spans[0][1] - spans[0][0]) * (corner[0] - origin[0])
        drawn.append(_text(x, origin[1] + 16, f"{tick:g}", "middle"))
    for tick in _ticks(*spans[1]):
        y = origin[1] - (tick - spans[1][0]) / (spans[1][1] - spans[1][0]) * (origin[1] - corner[1])
        drawn.append(_text(origin[0] - 6, y + 4, f"{tick:g}", "end"))
    drawn.append(_text((origin[0] + corner[0]) / 2, height - 8, names[0], "middle"))
    drawn.append(_text(8, _TOP - 4, names[1]))
    return drawn


def _ticks(low: float, high: float) -> list[float]:
    return [round(low + (high - low) * part / 5, 6) for part in range(6)]


def _key(number: int, name: str, colour: str) -> list[str]:
    y = _TOP + 18 * number
    x = _WIDTH - _RIGHT + 14
    return [f'<rect x="{x}" y="{y}" width="10" height="10" fill="{colour}"/>', _text(x + 15, y + 9, name)]


def _line(x1: float, y1: float, x2: float, y2: float, colour: str = "#222", width: Optional[float] = 1.0) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" stroke-width="{width:g}"/>'


def _text(x: float, y: float, words: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def _svg(title: str, height: int, drawn: Sequence[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" '
        'font-family="sans-serif" font-size="12" role="img">'
    )
    named = f'<title>{escape(title)}</title>\n<rect width="100%" height="100%" fill="white"/>'
    return "\n".join([head, named, _text(8, 16, title), *drawn, "</svg>", ""])
