"""What the ranker knows of a post, as one row of numbers: the same code for training and serving.

A row has a plain value for every input, a flag for each input that may be unknown, and the hour of
the week as waves of a day and a week. An unknown input stands at the population's mean, so that it
moves nothing by itself, and its flag says so. A value that is not finite makes its row NaN: it is
the caller's mistake, and never a score. What a caption holds beside words, `serving.form` counts.
"""

import hashlib
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from serving.form import FORM, MAX_CAPTION_CHARS

Array = NDArray[np.float64]

INPUTS = (
    "quality_score",
    "hour_of_week",
    "follower_count",
    "avg_engagement",
    "is_moment",
    "has_video",
    "caption_length",
    "tag_count",
    "is_reply",
    *FORM,
)
# Ranges of the contract; a value outside is cut back to them.
RANGES: Mapping[str, tuple[float, float]] = {
    "quality_score": (0.0, 10.0),
    "hour_of_week": (0.0, 167.0),
    "follower_count": (0.0, 1e12),
    "avg_engagement": (0.0, 1.0),
    "is_moment": (0.0, 1.0),
    "has_video": (0.0, 1.0),
    "caption_length": (0.0, float(MAX_CAPTION_CHARS)),
    "tag_count": (0.0, 100.0),
    "is_reply": (0.0, 1.0),
    "link_count": (0.0, float(MAX_CAPTION_CHARS)),
    "mention_count": (0.0, float(MAX_CAPTION_CHARS)),
    "caps_share": (0.0, 1.0),
}
MAY_BE_UNKNOWN = (
    *("quality_score", "hour_of_week", "follower_count", "avg_engagement"),
    *("is_reply", *FORM),
)
_DAY_WAVES = 4
_WEEK_WAVES = 2
_LOG_ENGAGEMENT_FLOOR = 0.01  # of avg_engagement; below it nothing is told apart
WAVE_COUNT = 2 * (_DAY_WAVES + _WEEK_WAVES)
# A column for each input but the hour, the waves of the hour, then the flags of the unknown.
PLAIN = tuple(name for name in INPUTS if name != "hour_of_week")
COLUMN_COUNT = len(PLAIN) + WAVE_COUNT + len(MAY_BE_UNKNOWN)
# Where an unknown input stands: near the mean of the training population, in the column's units.
_NEUTRAL: Mapping[str, float] = {
    "quality_score": 5.5,
    "follower_count": float(np.log1p(900.0)),
    "avg_engagement": float(np.log(0.087)),
    "is_moment": 0.0,
    "has_video": 0.0,
    "caption_length": float(np.log1p(80.0)),
    "tag_count": 4.0,
    "is_reply": 0.0,  # of the form the training population knows nothing
    **dict.fromkeys(FORM, 0.0),
}
PROBES = 9  # values of an input that are tried, the unknown among them
_PROBED_TO = 2000.0
_LOG1P = ("follower_count", "caption_length", "link_count", "mention_count")


def to_rows(columns: Mapping[str, Array], row_count: int) -> NDArray[np.float32]:
    """Returns (rows, `COLUMN_COUNT`) features from columns named as in `INPUTS`, each (rows,).

    A missing column is unknown in every row; `UNKNOWN` is so in one. Columns are filled
    one after the other and turned into rows at the end: half the time of filling rows.
    """
    filled = np.zeros((COLUMN_COUNT, row_count), dtype=np.float32)
    is_bad = np.zeros(row_count, dtype=bool)
    for name in INPUTS:
        values = columns.get(name)
        if values is None:
            _leave_out(filled, name)
            continue
        is_finite = np.isfinite(values)
        if not is_finite.all():
            is_bad |= ~is_finite
            values = np.where(is_finite, values, 0.0)
        _fill(filled, name, values)
    rows = np.ascontiguousarray(filled.T)
    rows[is_bad] = np.nan
    return rows


UNKNOWN = -1.0  # below the range of every input


def probes() -> NDArray[np.float32]:
    """Returns features of every input alone, unknown and from end to end of its range.

    Each input has `PROBES` rows, one after the other in the order of `INPUTS`.
    """
    rows = []
    for name in INPUTS:
        low, high = RANGES[name]
        values = np.r_[UNKNOWN, np.linspace(low, min(high, _PROBED_TO), PROBES - 1)]
        rows.append(to_rows({name: values}, len(values)))
    return np.concatenate(rows)


def unlearned(told: Mapping[str, NDArray[np.float32]]) -> tuple[str, ...]:
    """Returns the inputs that move nothing at all of what a model told of `probes()`."""
    still = np.ones(len(INPUTS), dtype=bool)
    for values in told.values():
        by_input = values.reshape(len(INPUTS), PROBES, -1)
        still &= (by_input == by_input[:, :1]).all(axis=(1, 2))
    return tuple(name for name, is_still in zip(INPUTS, still, strict=True) if is_still)


def fingerprint() -> str:
    """Returns 16 hex digits that change when features do, not with another machine's last bits.

    A model learned from features of another fingerprint would be shown what it does not know.
    """
    rounded = np.rint(probes().astype(np.float64) * 1000).astype("<i8")
    return hashlib.sha256(rounded.tobytes()).hexdigest()[:16]


def columns_of(name: str) -> list[int]:
    """Returns which columns of a row belong to an input, its flag included."""
    if name == "hour_of_week":
        own = list(range(len(PLAIN), len(PLAIN) + WAVE_COUNT))
    else:
        own = [PLAIN.index(name)]
    if name in MAY_BE_UNKNOWN:
        own.append(len(PLAIN) + WAVE_COUNT + MAY_BE_UNKNOWN.index(name))
    return own


def _leave_out(filled: NDArray[np.float32], name: str) -> None:
    """Fills the columns of an input that is unknown in every row."""
    if name != "hour_of_week":
        filled[PLAIN.index(name)] = _NEUTRAL[name]
    if name in MAY_BE_UNKNOWN:
        filled[len(PLAIN) + WAVE_COUNT + MAY_BE_UNKNOWN.index(name)] = 1.0


def _fill(filled: NDArray[np.float32], name: str, values: Array) -> None:
    """Fills the columns of one input, (columns, rows); `values` are finite."""
    is_unknown = values == UNKNOWN
    values = np.clip(values, *RANGES[name])
    if name == "hour_of_week":
        waves = filled[len(PLAIN) : len(PLAIN) + WAVE_COUNT]
        np.take(_WAVES, values.astype(np.int64), axis=1, out=waves, mode="clip")
        waves[:, is_unknown] = 0.0
    else:
        if name in _LOG1P:
            values = np.log1p(values)
        elif name == "avg_engagement":
            values = np.log(np.maximum(values, _LOG_ENGAGEMENT_FLOOR))
        filled[PLAIN.index(name)] = np.where(is_unknown, _NEUTRAL[name], values)
    if name in MAY_BE_UNKNOWN:
        filled[len(PLAIN) + WAVE_COUNT + MAY_BE_UNKNOWN.index(name)] = is_unknown


def _waves() -> NDArray[np.float32]:
    """Returns sines and cosines of every hour of the week, (`WAVE_COUNT`, 168)."""
    hours = np.arange(168)
    days = np.multiply.outer(hours, 2 * np.pi / 24 * np.arange(1, _DAY_WAVES + 1))
    weeks = np.multiply.outer(hours, 2 * np.pi / 168 * np.arange(1, _WEEK_WAVES + 1))
    angles = np.concatenate([days, weeks], axis=1)
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1).T.astype(np.float32, order="C")


_WAVES = _waves()
