"""Does any of it hold for real posts? Writes docs/bench/real_posts.md.

`python bench/real_posts.py` reads the posts of one public account (2009 to 2018, replies included,
reposts of others left out) from a data package, learns from the earlier ones and foretells the
later: by the served timing model, given the account's history; by plain smoothing of its hours; by
the ranker's own basis, fitted to hour, length and tags; and, as a mark of what can be foretold at
all, by a ridge on hour and form (reply, link, mentions, device), which nothing here serves.
Engagement is favourites and reposts. Ranks are compared, not levels, for the audience grew a
thousandfold; "within a month" compares only posts of the same month. Intervals are 95 %, whole
weeks resampled, for posts of one week err alike.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from bench.real.frames import POSTS, read_frame
from services.ranker.features import to_rows
from services.ranker.fit import fit_basis, log_linear
from services.timing.own_measure import smoothed_days, spearman
from services.timing.prior_file import read
from services.timing.rates import RateModel
from serving.models.artifacts import ArtifactError
from simulation.history import Histories

Array = NDArray[np.float64]
PRIOR = Path("services/timing/artifacts/posting-times.npz")
REPORT = Path("docs/bench/real_posts.md")
ZONE = ZoneInfo("America/New_York")
WEEK_S = 7 * 86_400
RESAMPLES = 300
MIN_MONTH_POSTS = 20
DEVICES = ("Android", "iPhone", "iPad")


@dataclass(frozen=True, slots=True)
class Posts:
    """Posts in the order of time; all arrays are (posts,)."""

    seconds: NDArray[np.int64]  # since 1970
    hour_of_week: NDArray[np.int64]  # local
    month: NDArray[np.int64]
    engagement: Array
    length: Array
    tags: Array
    form: Array  # (posts, flags): reply, link, quote, mentions, devices

    def __len__(self) -> int:
        return len(self.seconds)

    def between(self, first: str, last: str) -> "Posts":
        """Returns the posts of a span of days, its last day left out."""
        low, high = (int(datetime.fromisoformat(day).timestamp()) for day in (first, last))
        return self.only((self.seconds >= low) & (self.seconds < high))

    def only(self, kept: NDArray[np.bool_] | slice) -> "Posts":
        parts = (self.seconds, self.hour_of_week, self.month, self.engagement, self.length)
        return Posts(*(part[kept] for part in parts), self.tags[kept], self.form[kept])


@dataclass(frozen=True, slots=True)
class Found:
    """A rank correlation with its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} ({self.low:.2f} to {self.high:.2f})"


def read_posts() -> Posts:
    """Reads the account's own posts. Raises `ArtifactError` when the package cannot be had."""
    frame = read_frame(POSTS)
    own = np.flatnonzero(~frame["is_retweet"].astype(bool))
    moments = [datetime.fromisoformat(text).astimezone(UTC) for text in frame["created_at"][own]]
    order = np.argsort([moment.timestamp() for moment in moments], kind="stable")
    moments, own = [moments[index] for index in order], own[order]
    local = [moment.astimezone(ZONE) for moment in moments]
    texts = frame["text"][own].tolist()
    gained = frame["favorite_count"][own] + frame["retweet_count"][own]
    return Posts(
        seconds=np.array([int(moment.timestamp()) for moment in moments], dtype=np.int64),
        hour_of_week=np.array([one.weekday() * 24 + one.hour for one in local], dtype=np.int64),
        month=np.array([one.year * 12 + one.month for one in local], dtype=np.int64),
        engagement=gained.astype(np.float64),
        length=np.array([float(len(text)) for text in texts]),
        tags=np.array([float(text.count("#")) for text in texts]),
        form=_form(texts, frame["in_reply_to_user_id_str"][own], frame["source"][own].tolist()),
    )


def _form(texts: list[str], replies: Array, sources: list[str]) -> Array:
    flags = [
        [text.startswith(('"@', "@")), "http" in text, "@" in text, text.isupper(), "!" in text]
        for text in texts
    ]
    devices = [[f"Twitter for {name}" == source for name in DEVICES] for source in sources]
    return np.column_stack([np.array(flags), np.array(devices), ~np.isnan(replies)]).astype(float)


def by_timing_model(earlier: Posts, later: Posts) -> Array:
    """Foretells by the served prior, given the account's history."""
    history = _history(earlier)
    curve = RateModel(read(PRIOR).prior).draw(history.posts[0], history.engagements[0])
    return np.asarray(curve.mean(axis=0)[later.hour_of_week])


def by_smoothing(earlier: Posts, later: Posts) -> Array:
    """Foretells by circularly smoothed engagement per post."""
    return np.asarray(smoothed_days(_history(earlier))[0][later.hour_of_week % 24])


def by_ranker_basis(earlier: Posts, later: Posts) -> Array:
    """Foretells by the ranker's basis, fitted to the earlier posts relative to their months."""
    relative = earlier.engagement / _monthly_means(earlier)
    rows = _rows(earlier)
    basis = fit_basis(rows)
    weights = log_linear(basis.design(rows), np.minimum(relative, 10.0), np.ones(len(earlier)))
    return np.asarray(basis.design(_rows(later)) @ weights)


def by_form(earlier: Posts, later: Posts) -> Array:
    """Foretells by a ridge on hour, length, tags and form; the log relative to the month."""

    def design(posts: Posts) -> Array:
        rows = _rows(posts).astype(np.float64)
        return np.column_stack([rows, posts.form, np.ones(len(posts))])

    target = np.log1p(earlier.engagement / _monthly_means(earlier))
    known = design(earlier)
    weights = np.linalg.solve(known.T @ known + np.eye(known.shape[1]), known.T @ target)
    return np.asarray(design(later) @ weights)


def correlation(told: Array, later: Posts) -> Found:
    """Compares the ranks of all later posts."""
    return _interval(later, lambda kept: spearman(told[kept], later.engagement[kept]))


def correlation_within_months(told: Array, later: Posts) -> Found:
    """Compares ranks among posts of the same month, the mean weighed by posts."""

    def measure(kept: NDArray[np.int64]) -> float:
        sums = np.zeros(2)
        for month in np.unique(later.month[kept]):
            mine = kept[later.month[kept] == month]
            if len(mine) >= MIN_MONTH_POSTS:
                sums += len(mine) * np.array([spearman(told[mine], later.engagement[mine]), 1.0])
        return float(sums[0] / sums[1]) if sums[1] else 0.0

    return _interval(later, measure)


def hour_agreement(earlier: Posts, later: Posts) -> Found:
    """Compares the 24 hours' mean engagement relative to the month, before and after."""

    def by_hour(posts: Posts, kept: NDArray[np.int64]) -> Array:
        relative = np.log1p(posts.engagement / _monthly_means(posts))[kept]
        hours = posts.hour_of_week[kept] % 24
        sums = np.bincount(hours, relative, 24)
        return sums / np.maximum(np.bincount(hours, minlength=24), 1)

    before = by_hour(earlier, np.arange(len(earlier)))
    return _interval(later, lambda kept: spearman(before, by_hour(later, kept)))


def _interval(posts: Posts, measure: Callable[[NDArray[np.int64]], float]) -> Found:
    rng = np.random.default_rng(1)
    _, starts = np.unique(posts.seconds // WEEK_S, return_index=True)
    weeks = np.split(np.arange(len(posts)), starts[1:])
    values = []
    for _ in range(RESAMPLES):
        chosen = rng.integers(0, len(weeks), len(weeks))
        values.append(measure(np.concatenate([weeks[index] for index in chosen])))
    low, high = np.percentile(values, (2.5, 97.5))
    return Found(measure(np.arange(len(posts))), float(low), float(high))


def _history(posts: Posts) -> Histories:
    """Counts posts, and their engagement relative to the month, in units of 100."""
    relative = 100.0 * posts.engagement / _monthly_means(posts)
    counts = np.bincount(posts.hour_of_week, minlength=168).astype(np.float64)
    return Histories(counts[None], np.bincount(posts.hour_of_week, relative, 168)[None])


def _monthly_means(posts: Posts) -> Array:
    _, index, counts = np.unique(posts.month, return_inverse=True, return_counts=True)
    return np.asarray(np.maximum(np.bincount(index, posts.engagement) / counts, 1e-9)[index])


def _rows(posts: Posts) -> NDArray[np.float32]:
    inputs = {
        "hour_of_week": posts.hour_of_week.astype(np.float64),
        "caption_length": posts.length,
        "tag_count": posts.tags,
        "is_moment": np.zeros(len(posts)),
        "has_video": np.zeros(len(posts)),
    }
    return to_rows(inputs, len(posts))


METHODS = {
    "plain smoothing of hours": by_smoothing,
    "timing model (hours only)": by_timing_model,
    "ranker basis (hour, length, tags)": by_ranker_basis,
    "ridge with form (not served)": by_form,
}


def spans(posts: Posts) -> dict[str, tuple[Posts, Posts]]:
    """Returns earlier and later posts: of all years by half, and of the steadier late years."""
    half = len(posts) // 2
    return {
        "all years, by half": (posts.only(slice(None, half)), posts.only(slice(half, None))),
        "Jan 2016 to May 2017, then to Dec 2017": (
            posts.between("2016-01-01T00:00Z", "2017-06-01T00:00Z"),
            posts.between("2017-06-01T00:00Z", "2018-01-01T00:00Z"),
        ),
    }


def table(posts: Posts) -> list[str]:
    """Returns the report's rows."""
    lines = [
        "| span | earlier / later posts | foretold by | rank correlation | within a month |",
        f"|{' --- |' * 5}",
    ]
    for span, (earlier, later) in spans(posts).items():
        counts = f"{len(earlier):,} / {len(later):,}"
        for name, method in METHODS.items():
            told = method(earlier, later)
            whole, within = correlation(told, later), correlation_within_months(told, later)
            lines.append(f"| {span} | {counts} | {name} | {whole} | {within} |")
        agreement = hour_agreement(earlier, later)
        lines.append(f"| {span} | {counts} | 24 hours' means, before and after | {agreement} | |")
    return lines


TEXT = """
What one account can show: whether hours that did better before did better later, for this one
audience, over years; and that the arithmetic runs on real, heavy-tailed counts. What it cannot
show: that the hour *causes* anything (what was posted at night was other than what was posted in
the morning); that it holds for any other creator; how often a best hour is hit, since nobody knows
it; or anything about pictures, reach and impressions, which the data do not have. It is therefore
no reason to take "experimental" off any model.

The mark set for these data, a rank correlation of .38 on later posts, is missed by all that is
served. It is one for form as well as hour: a ridge that knows replies, links and devices passes it
in the steady years, and over all years within a month. The hour alone carries little, and over nine
years, in which the account and its audience became others, nothing that a history of hours can
tell.
"""


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    try:
        posts = read_posts()
    except ArtifactError as error:
        print(f"not measured: {error}")
        return
    lines = table(posts)
    print("\n".join(lines))
    title = f"# {len(posts):,} real posts of one account\n\n"
    source = f"{POSTS.file} of {POSTS.origin}; `python bench/real_posts.py`. 95 % intervals.\n\n"
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text(title + source + "\n".join(lines) + "\n" + TEXT, encoding="utf-8")


if __name__ == "__main__":
    main()
