"""Told against seen, in bins, and its picture: a plot needs no plotting library here either."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
_SIDE, _MARGIN, _GAP = 260, 56, 24
_COLOUR = "#0b6e99"


@dataclass(frozen=True, slots=True)
class Bin:
    """Predictions of about the same height: `seen` with its 80 % interval of resampled rows."""

    told: float
    seen: float
    low: float
    high: float
    count: int


def bins_of(told: Array, seen: Array, weight: Array, count: int = 10) -> list[Bin]:
    """Cuts rows, sorted by `told`, into `count` parts of equal size; means go by `weight`."""
    rng = np.random.default_rng([8, 0])  # a stream that no caller draws from
    parts = [p for p in np.array_split(np.argsort(told, kind="stable"), count) if len(p)]
    return [_bin(rng, told[part], seen[part], weight[part]) for part in parts]


def expected_error(bins: Sequence[Bin]) -> float:
    """Returns the mean distance of told and seen, by the bins' counts (ECE)."""
    distance = [abs(b.told - b.seen) * b.count for b in bins]
    return sum(distance) / sum(b.count for b in bins)


def draw(plots: Mapping[str, Sequence[Bin]]) -> str:
    """Returns an SVG with one square a plot: told across, seen up, the diagonal is honesty."""
    width = len(plots) * (_SIDE + _MARGIN + _GAP) + _GAP
    height = _SIDE + 2 * _MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="12" fill="#222">',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
    ]
    for index, (title, bins) in enumerate(plots.items()):
        x = _GAP + _MARGIN + index * (_SIDE + _MARGIN + _GAP)
        parts.append(f'<g transform="translate({x} {_MARGIN})">')
        parts.extend(_square(title, bins))
        parts.append("</g>")
    return "\n".join([*parts, "</svg>\n"])


def _bin(rng: np.random.Generator, told: Array, seen: Array, weight: Array) -> Bin:
    draws = rng.integers(0, len(told), (200, len(told)))
    means = (seen[draws] * weight[draws]).sum(axis=1) / weight[draws].sum(axis=1)
    low, high = np.percentile(means, (10, 90))
    mean = float(np.average(seen, weights=weight))
    return Bin(float(np.average(told, weights=weight)), mean, float(low), float(high), len(told))


def _square(title: str, bins: Sequence[Bin]) -> list[str]:
    top = max(max(b.told, b.high) for b in bins) * 1.05 or 1.0
    scale = _SIDE / top

    def at(told: float, seen: float) -> tuple[float, float]:
        return told * scale, _SIDE - seen * scale

    parts = [
        f'<rect width="{_SIDE}" height="{_SIDE}" fill="none" stroke="#ccc"/>',
        f'<line x1="0" y1="{_SIDE}" x2="{_SIDE}" y2="0" stroke="#ccc" stroke-dasharray="4"/>',
        f'<text x="0" y="-12" font-weight="bold">{escape(title)}</text>',
        f'<text x="{_SIDE / 2}" y="{_SIDE + 34}" text-anchor="middle">told</text>',
        '<text x="-6" y="-12" text-anchor="end">seen</text>',
    ]
    for share in (0.0, 0.5, 1.0):
        x, y = at(top * share, top * share)
        label = f"{top * share:.3g}"
        parts.append(f'<text x="{x:.1f}" y="{_SIDE + 16}" text-anchor="middle">{label}</text>')
        parts.append(f'<text x="-6" y="{y + 4:.1f}" text-anchor="end">{label}</text>')
    for b in bins:
        (x, low), (_, high) = at(b.told, b.low), at(b.told, b.high)
        parts.append(
            f'<line x1="{x:.1f}" y1="{low:.1f}" x2="{x:.1f}" y2="{high:.1f}" stroke="{_COLOUR}"/>'
        )
        x, y = at(b.told, b.seen)
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{_COLOUR}"/>')
    return parts
