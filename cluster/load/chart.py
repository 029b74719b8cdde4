"""Line charts as SVG, by hand: a plot needs no plotting library on the machine that measures."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

Point = tuple[float, float]
_WIDTH, _HEIGHT = 720, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 150, 34, 40
_COLOURS = ("#0b6e99", "#d9730d", "#0f7b6c", "#ad1a72", "#6940a5", "#64473a")


@dataclass(frozen=True, slots=True)
class Chart:
    """One set of axes; points that are not finite are left out."""

    title: str
    x_label: str
    y_label: str
    series: Mapping[str, Sequence[Point]]
    is_log: bool = False  # of the y axis


def draw(charts: Sequence[Chart]) -> str:
    """Returns one SVG document with the charts below each other."""
    height = _HEIGHT * len(charts)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
        'font-family="sans-serif" font-size="12" fill="#222">',
        f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>',
    ]
    for index, chart in enumerate(charts):
        parts.append(f'<g transform="translate(0 {_HEIGHT * index})">')
        parts.extend(_axes_and_lines(chart))
        parts.append("</g>")
    return "\n".join([*parts, "</svg>\n"])


def ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Returns round numbers from `low` to `high`, about `wanted` of them."""
    if not high > low:
        return [low]
    raw = (high - low) / wanted
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(size * m for m in (1, 2, 5, 10) if size * m >= raw)
    first = math.ceil(low / step)
    return [index * step for index in range(first, math.floor(high / step + 1e-9) + 1)]


def _axes_and_lines(chart: Chart) -> list[str]:
    points = [p for line in chart.series.values() for p in _drawable(line, chart.is_log)]
    x = _Axis(*_range([p[0] for p in points]), _LEFT, _WIDTH - _RIGHT)
    values = [math.log10(p[1]) if chart.is_log else p[1] for p in points]
    y = _Axis(*_range(values, from_zero=not chart.is_log), _HEIGHT - _BOTTOM, _TOP)
    parts = [_text(_LEFT, _TOP - 14, chart.title, weight="bold")]
    parts.extend(
        _text(x.at(tick), _HEIGHT - _BOTTOM + 16, f"{tick:g}", anchor="middle")
        for tick in ticks(x.low, x.high)
    )
    for tick in _decades(y) if chart.is_log else ticks(y.low, y.high):
        shown = 10.0**tick if chart.is_log else tick
        parts.append(_line([(_LEFT, y.at(tick)), (_WIDTH - _RIGHT, y.at(tick))], "#ddd", 1))
        parts.append(_text(_LEFT - 6, y.at(tick) + 4, f"{shown:g}", anchor="end"))
    parts.append(_text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 6, chart.x_label, anchor="middle"))
    parts.append(_text(8, _TOP - 14, chart.y_label))
    for index, (name, line) in enumerate(chart.series.items()):
        colour = _COLOURS[index % len(_COLOURS)]
        drawn = _drawable(line, chart.is_log)
        path = [(x.at(a), y.at(math.log10(b) if chart.is_log else b)) for a, b in drawn]
        parts.append(_line(path, colour, 2))
        parts.append(_text(_WIDTH - _RIGHT + 10, _TOP + 16 * index + 8, name, colour=colour))
    return parts


@dataclass(frozen=True, slots=True)
class _Axis:
    low: float
    high: float
    start_px: float
    end_px: float

    def at(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return self.start_px + share * (self.end_px - self.start_px)


def _drawable(line: Sequence[Point], is_log: bool) -> list[Point]:
    return [p for p in line if all(map(math.isfinite, p)) and (p[1] > 0 or not is_log)]


def _range(values: Sequence[float], *, from_zero: bool = False) -> tuple[float, float]:
    if not values:
        return 0.0, 1.0
    low, high = min(values), max(values)
    low = min(low, 0.0) if from_zero else low
    return (low, high * 1.05 if from_zero else high) if high > low else (low, low + 1.0)


def _decades(axis: _Axis) -> list[float]:
    whole = [float(t) for t in range(math.ceil(axis.low), math.floor(axis.high) + 1)]
    return whole if len(whole) > 1 else [axis.low, (axis.low + axis.high) / 2, axis.high]


def _line(points: Sequence[Point], colour: str, width: int) -> str:
    path = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}"/>'


def _text(
    x: float, y: float, text: str, *, anchor: str = "start", colour: str = "#222", weight: str = ""
) -> str:
    style = f' font-weight="{weight}"' if weight else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}"{style}>'
        f"{escape(text)}</text>"
    )
