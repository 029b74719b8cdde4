"""The linear score as a table for the gateway, for when no ranker answers.

Fitted to what the model itself says of the training posts, over the few inputs that a gateway can
read from a request; an input that is missing stands at its mean. Reach is linear in the followers,
fitted relative to the size of the account.
"""

from collections.abc import Callable, Collection, Mapping
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from services.ranker.fit import quantile

Array = NDArray[np.float64]

_SCORE_TERMS = (
    ("quality_score", "identity"),
    ("avg_engagement", "log1p"),
    ("has_video", "identity"),
)
KNOWN_TERMS = ("avg_engagement", "quality_score")  # the others are always known
TYPICAL_FOLLOWERS = 900.0  # the median account of the training population
_HEADER = """\
# Substitute for a dead ranker: fields of ScorePostResponse, by the linear rules of
# services/gateway/policies/tables.py. Written by `python -m services.ranker.train`: fitted to the
# model's own answers on posts of family A of simulation/.
"""


def fit_score(inputs: Mapping[str, Array], score: Array) -> dict[str, tuple[float, float]]:
    """Returns mean and coefficient of each term of the score, and under "" its intercept."""
    terms = [_transformed(inputs[name], transform) for name, transform in _SCORE_TERMS]
    means = [float(term.mean()) for term in terms]
    design = np.column_stack([*(t - m for t, m in zip(terms, means, strict=True)), score * 0 + 1])
    weights = np.linalg.lstsq(design, score, rcond=None)[0].tolist()
    named = zip((name for name, _ in _SCORE_TERMS), means, weights, strict=False)
    return {name: (mean, weight) for name, mean, weight in named} | {"": (0.0, weights[-1])}


def linear_score(fitted: Mapping[str, tuple[float, float]], inputs: Mapping[str, Array]) -> Array:
    """Returns what the table's rule gives, 0 to 100; an input that is not there adds nothing."""
    total = np.full(len(next(iter(inputs.values()))), fitted[""][1])
    for name, transform in _SCORE_TERMS:
        if name in inputs:
            mean, weight = fitted[name]
            total += weight * (_transformed(inputs[name], transform) - mean)
    return np.asarray(np.clip(total, 0.0, 100.0))


def fit_confidence(right: Callable[[Collection[str]], float]) -> dict[str, float]:
    """Returns how much each of `KNOWN_TERMS` adds to the share of right scores, "" the least.

    `right` measures that share with some of these inputs unknown. Least squares over all of them.
    """
    rows, shares = [], []
    for known in product((0.0, 1.0), repeat=len(KNOWN_TERMS)):
        hidden = [name for name, is_known in zip(KNOWN_TERMS, known, strict=True) if not is_known]
        rows.append([*known, 1.0])
        shares.append(right(hidden))
    weights = np.linalg.lstsq(np.array(rows), np.array(shares), rcond=None)[0].tolist()
    return dict(zip((*KNOWN_TERMS, ""), weights, strict=True))


def fit_reach(followers: Array, reach: Array) -> dict[str, tuple[float, float]]:
    """Returns intercept (at `TYPICAL_FOLLOWERS`) and slope of p10, p50 and p90 of reach."""
    size = followers + 100.0  # residuals grow with the account
    design = np.column_stack([(followers - TYPICAL_FOLLOWERS) / size, 1.0 / size])
    levels = {"p10": 0.1, "p50": 0.5, "p90": 0.9}
    fits = {name: quantile(design, reach / size, level) for name, level in levels.items()}
    return {name: (float(fit[1]), float(fit[0])) for name, fit in fits.items()}


def write_linear_score(
    path: Path,
    score: Mapping[str, tuple[float, float]],
    reach: Mapping[str, tuple[float, float]],
    confidence: Mapping[str, float],
) -> None:
    """Writes the table. `confidence`, which the graph's factor lowers, is of `fit_confidence`."""
    lines = [_HEADER + f"engagement_score:\n  intercept: {score[''][1]:.3f}\n  terms:"]
    for name, transform in _SCORE_TERMS:
        mean, weight = score[name]
        lines.append(_term(name, transform, mean, weight))
    lines.append("  min: 0\n  max: 100")
    for name, (intercept, slope) in reach.items():
        lines.append(f"reach.{name}:\n  intercept: {intercept:.3f}\n  terms:")
        lines.append(_term("follower_count", "identity", TYPICAL_FOLLOWERS, slope))
        lines.append("  min: 0")
    lines.append("reach.unit: accounts\nconfidence:  # what is known makes it right more often")
    lines.append(f"  intercept: {confidence['']:.3f}\n  terms:")
    lines += [_term(name, "known", 0.0, confidence[name]) for name in KNOWN_TERMS]
    lines.append("  min: 0\n  max: 1\n")
    path.write_text("\n".join(lines), encoding="utf-8")


def _term(name: str, transform: str, mean: float, coefficient: float) -> str:
    return (
        f"    - {{source_field: {name}, transform: {transform}, mean: {mean:.6g}, "
        f"coefficient: {coefficient:.6g}}}"
    )


def _transformed(values: Array, transform: str) -> Array:
    return np.log1p(values) if transform == "log1p" else values
