"""Ways to foretell later posts of one account from earlier ones. Each takes (earlier, later).

What is learned is the log of the engagement less its level. `level_before` is what a server knows
when a post goes out: the median of the hundred posts before it that are two days old by then, for
counts are all but final after two days. The ways that learn once see nothing of the later posts;
those that learn monthly, as somebody who runs `fomofeed train` each month, see of each month's
posts only those before the month.
"""

import re
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.real.posts import Posts
from fomofeed.ranker.v1 import ranker_service_pb2 as pb
from services.ranker.export import to_onnx
from services.ranker.features import to_rows
from services.ranker.fit import fit_basis, log_linear
from services.ranker.heads import ACTIONS, Heads
from services.ranker.posts import to_columns
from services.timing.own_measure import smoothed_days
from services.timing.prior_file import read
from services.timing.rates import RateModel
from serving.engines.onnx import OnnxEngine
from simulation.history import Histories

Array = NDArray[np.float64]
PRIOR = Path("services/timing/artifacts/posting-times.npz")
LEVEL_POSTS = 100
SETTLED_S = 2 * 86_400
HALF_LIFE_S = 365 * 86_400.0  # by which earlier posts lose half their weight
WORDS = 1500  # the commonest
RIDGE = 5.0
MOST_ABOVE = 3.0  # nats, either way, that one post may teach
MOST_RELATIVE = 10.0  # times the level, likewise


def by_timing_model(earlier: Posts, later: Posts) -> Array:
    """Foretells by the served prior, given the account's history."""
    history = _history(earlier)
    curve = RateModel(read(PRIOR).prior).draw(history.posts[0], history.engagements[0])
    return np.asarray(curve.mean(axis=0)[later.hour_of_week])


def by_smoothing(earlier: Posts, later: Posts) -> Array:
    """Foretells by circularly smoothed engagement per post."""
    return np.asarray(smoothed_days(_history(earlier))[0][later.hour_of_week % 24])


def by_ranker_without_form(earlier: Posts, later: Posts) -> Array:
    """Foretells by the ranker, told hour, length and number of tags alone."""
    return _by_ranker(earlier, _rows(earlier), _rows(later))


def by_ranker(earlier: Posts, later: Posts) -> Array:
    """Foretells by the ranker, told as `ScorePost` is: caption, tags, hour, is it a reply."""
    return _by_ranker(earlier, served_rows(earlier), served_rows(later))


def by_ranker_of_captions(earlier: Posts, later: Posts) -> Array:
    """Likewise, never told whether a post is a reply: all else is counted in the caption."""
    known, new = (served_rows(posts, tells_replies=False) for posts in (earlier, later))
    return _by_ranker(earlier, known, new)


def by_form(earlier: Posts, later: Posts) -> Array:
    """Foretells by a ridge on hour, weekday, length, tags and form."""
    return _ridge(_design(earlier), above_level(earlier), recency(earlier), _design(later))


def by_form_alone(earlier: Posts, later: Posts) -> Array:
    """Likewise without the hour."""
    known, new = (
        np.column_stack([p.form, np.log1p(p.length), np.log1p(p.tags)]) for p in (earlier, later)
    )
    return _ridge(known, above_level(earlier), recency(earlier), new)


def by_words(earlier: Posts, later: Posts) -> Array:
    """Likewise, and on the words that the account uses."""
    words = Words(earlier)
    known, new = (np.column_stack([_design(p), words.of(p)]) for p in (earlier, later))
    return _ridge(known, above_level(earlier), recency(earlier), new)


def by_hour_monthly(earlier: Posts, later: Posts) -> Array:
    """Foretells by a ridge on hour and weekday, learned anew each month from all before it."""
    return _monthly(earlier, later, _clock(earlier.then(later)))


def by_form_monthly(earlier: Posts, later: Posts) -> Array:
    """Likewise on hour, weekday, length, tags and form."""
    return _monthly(earlier, later, _design(earlier.then(later)))


def level_before(posts: Posts) -> Array:
    """Returns the log level known when each post went out; 0 for the first ones."""
    values = np.log1p(posts.engagement)
    ends = np.searchsorted(posts.seconds, posts.seconds - SETTLED_S)
    levels = [np.median(values[max(0, end - LEVEL_POSTS) : end]) if end else 0.0 for end in ends]
    return np.array(levels)


def _monthly(earlier: Posts, later: Posts, design: Array) -> Array:
    both = earlier.then(later)
    above = np.clip(np.log1p(both.engagement) - level_before(both), -MOST_ABOVE, MOST_ABOVE)
    told = np.empty(len(both))
    for month in np.unique(later.month):
        own = np.flatnonzero(both.month == month)
        known = slice(LEVEL_POSTS, np.searchsorted(both.seconds, both.seconds[own[0]] - SETTLED_S))
        weight = 0.5 ** ((both.seconds[own[0]] - both.seconds[known]) / HALF_LIFE_S)
        told[own] = _ridge(design[known], above[known], weight, design[own])
    return told[len(earlier) :]


def ceiling(later: Posts) -> Array:
    """Tells each fifth of the later weeks by the other four: what words, form and hour can tell."""
    week = later.seconds // (7 * 86_400)
    fold = np.random.default_rng(0).permutation(int(week.max()) + 1)[week] % 5
    told = np.empty(len(later))
    level = above_level(later)
    for part in range(5):
        rest, own = later.only(fold != part), later.only(fold == part)
        words = Words(rest)
        known, new = (np.column_stack([_design(p), words.of(p)]) for p in (rest, own))
        told[fold == part] = _ridge(known, level[fold != part], np.ones(len(rest)), new)
    return told


def served_rows(posts: Posts, tells_replies: bool = True) -> NDArray[np.float32]:
    """Returns the features of the requests that a caller would send before each post."""
    columns = zip(posts.hour_of_week.tolist(), posts.texts, posts.is_reply, posts.tags, strict=True)
    requests = [
        pb.ScorePostRequest(
            hour_of_week=hour,
            caption=text,
            tags=["tag"] * int(tags),
            is_reply=bool(reply) if tells_replies else None,
        )
        for hour, text, reply, tags in columns
    ]
    return to_rows(to_columns(requests), len(posts))


def relative_to_level(posts: Posts) -> Array:
    """Returns the engagement in units of its running median, cut off at `MOST_RELATIVE`."""
    return np.asarray(np.minimum(np.exp(above_level(posts)), MOST_RELATIVE))


def above_level(posts: Posts) -> Array:
    """Returns the log of the engagement less its running median, both ways."""
    values = np.log1p(posts.engagement)
    reach = LEVEL_POSTS
    around = [np.median(values[max(0, i - reach) : i + reach + 1]) for i in range(len(values))]
    return np.asarray(values - np.array(around))


def recency(posts: Posts) -> Array:
    """Returns weights that halve with each year before the last post."""
    return np.asarray(0.5 ** ((posts.seconds[-1] - posts.seconds) / HALF_LIFE_S))


class Words:
    """TF-IDF of the commonest words of some posts, rows of length 1."""

    def __init__(self, posts: Posts) -> None:
        counts = Counter(word for text in posts.texts for word in set(_words(text)))
        common = counts.most_common(WORDS)
        self._places = {word: (i, np.log(len(posts) / n)) for i, (word, n) in enumerate(common)}

    def of(self, posts: Posts) -> Array:
        """Returns (posts, words)."""
        found = np.zeros((len(posts), WORDS))
        for row, text in enumerate(posts.texts):
            for word in _words(text):
                if word in self._places:
                    place, rarity = self._places[word]
                    found[row, place] += rarity
        length = np.linalg.norm(found, axis=1, keepdims=True)
        return np.asarray(found / np.maximum(length, 1e-9))


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z#@']{3,}", text.lower())


def _ridge(known: Array, target: Array, weight: Array, new: Array, ridge: float = RIDGE) -> Array:
    known, new = (np.column_stack([part, np.ones(len(part))]) for part in (known, new))
    penalty = ridge * np.eye(known.shape[1])
    penalty[-1, -1] = 0.0
    weighed = known * weight[:, None]
    return np.asarray(new @ np.linalg.solve(weighed.T @ known + penalty, weighed.T @ target))


def _design(posts: Posts) -> Array:
    return np.column_stack([_rows(posts).astype(np.float64), posts.form, _clock(posts)])


def _clock(posts: Posts) -> Array:
    hours, days = np.eye(24)[posts.hour_of_week % 24], np.eye(7)[posts.hour_of_week // 24]
    return np.column_stack([hours / 2, days / 2])


def _history(posts: Posts) -> Histories:
    """Counts posts, and their engagement relative to the level, in units of 100."""
    relative = 100.0 * relative_to_level(posts)
    counts = np.bincount(posts.hour_of_week, minlength=168).astype(np.float64)
    return Histories(counts[None], np.bincount(posts.hour_of_week, relative, 168)[None])


def _by_ranker(earlier: Posts, known: NDArray[np.float32], new: NDArray[np.float32]) -> Array:
    """Tells the log value that the ranker's file answers, its head learned by the ranker's fit.

    There are no impressions, so a post's rate is its engagement relative to the level.
    """
    basis = fit_basis(known)
    design = basis.design(known)
    value = log_linear(design, relative_to_level(earlier), np.ones(len(earlier)))
    none = np.zeros(design.shape[1])
    heads = Heads(
        basis=basis,
        actions=np.stack([none] * len(ACTIONS), axis=1),
        value=value,
        reach=np.stack([none] * 3, axis=1),
        confidence=none,
        percentiles=np.percentile(design @ value, np.arange(101.0)) + np.arange(101) * 1e-7,
        mean=design[:, :-1].mean(axis=0),
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ranker.onnx"
        path.write_bytes(to_onnx(heads))
        told = OnnxEngine(path).infer({"rows": new})
    return np.asarray(told["log_value"][:, 0], dtype=np.float64)


def _rows(posts: Posts) -> NDArray[np.float32]:
    inputs = {
        "hour_of_week": posts.hour_of_week.astype(np.float64),
        "caption_length": posts.length,
        "tag_count": posts.tags,
        "is_moment": np.zeros(len(posts)),
        "has_video": np.zeros(len(posts)),
    }
    return to_rows(inputs, len(posts))
