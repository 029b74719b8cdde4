"""Posts of a feed: what is known of each before it goes out, what then happened, and what truly lay
behind it.

Per impression somebody likes, comments, shares or follows with a log-odds that adds up: the
action's base, the creator's appeal, picture quality (saturating), video, kind, caption length and
tags (both best in the middle), the audience at that hour, and an appeal of the post itself that no
input shows. Reach follows followers, hour, quality, video and the same hidden appeal. Family B has
other audiences, weaker effects and noisier posts.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulation.audience import Family, draw_curves
from simulation.history import draw_habits, posting_cells

ACTIONS = ("like", "comment", "share", "follow")
_BASE_LOG_ODDS = np.log([0.06, 0.008, 0.005, 0.003])
_QUALITY_EFFECT = np.array([0.2, 0.1, 0.25, 0.15])  # of 1.25 at a quality of 8.5: about + 30 %
_VIDEO_EFFECT = np.array([0.06, 0.15, 0.4, 0.2])
_MOMENT_EFFECT = np.array([-0.1, 0.25, -0.4, -0.1])
_HOUR_EFFECT = np.array([0.35, 0.45, 0.3, 0.25])
_CAPTION_EFFECT = np.array([0.1, 0.35, 0.15, 0.05])
_TAG_EFFECT = np.array([0.15, 0.05, 0.15, 0.3])
PAST_POSTS = 30  # behind a creator's average engagement, at most


@dataclass(frozen=True, slots=True)
class FeedTable:
    """Posts as columns of length `rows`; actions and rates are (rows, 4) in the order of
    `ACTIONS`.
    """

    creator: NDArray[np.int64]
    quality_score: NDArray[np.float64]  # 0 to 10
    hour_of_week: NDArray[np.int64]  # 0 to 167, the creator's local time
    follower_count: NDArray[np.float64]
    avg_engagement: NDArray[np.float64]  # engagements per impression of earlier posts, 0 to 1
    is_moment: NDArray[np.bool_]
    has_video: NDArray[np.bool_]
    caption_length: NDArray[np.float64]
    tag_count: NDArray[np.float64]
    age_hours: NDArray[np.float64]  # since it went out; has no effect, recency is a baseline
    reach: NDArray[np.float64]  # accounts that saw it
    actions: NDArray[np.int64]  # how many acted
    true_rates: NDArray[np.float64]  # probability of each action per impression
    knowable_rates: NDArray[np.float64]  # likewise, without what nothing shows beforehand


@dataclass(frozen=True, slots=True)
class _Creators:
    follower_count: NDArray[np.float64]
    appeal: NDArray[np.float64]
    log_curves: NDArray[np.float64]
    habits: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Drafts:
    creator: NDArray[np.int64]
    quality_score: NDArray[np.float64]
    hour_of_week: NDArray[np.int64]
    is_moment: NDArray[np.bool_]
    has_video: NDArray[np.bool_]
    caption_length: NDArray[np.float64]
    tag_count: NDArray[np.float64]

    def saturating_quality(self) -> NDArray[np.float64]:
        return np.asarray(np.tanh((self.quality_score - 5.5) / 2.5) * 1.5)


@dataclass(frozen=True, slots=True)
class PostWorld:
    """Posts, and what each may gain at another hour."""

    feed: FeedTable
    curves: NDArray[np.float64]  # audience by hour of the week, (creators, 168)
    _elsewhere: NDArray[np.float64]  # knowable log-odds without the hour's part, (rows, 4)
    _family: Family

    def draw_rates(self, rng: np.random.Generator, hours: NDArray[np.int64]) -> NDArray[np.float64]:
        """Draws true rates, (rows, 4), were each post to go out at its hour of `hours`.

        What nothing shows beforehand is drawn anew: nothing that is known of a post tells it.
        """
        knowable = self._elsewhere + _at_hour(self.curves, self.feed.creator, hours)
        return _draw_rates(rng, knowable, _hidden(rng, self._family, len(hours)))


def draw_feed(
    rng: np.random.Generator, creator_count: int, posts_each: int, family: Family
) -> FeedTable:
    """Draws `posts_each` posts of each of `creator_count` creators."""
    return draw_world(rng, creator_count, posts_each, family).feed


def draw_world(
    rng: np.random.Generator, creator_count: int, posts_each: int, family: Family
) -> PostWorld:
    """Draws the same posts as `draw_feed`, with the audiences behind them."""
    creators = _Creators(
        follower_count=np.maximum(1.0, np.rint(rng.lognormal(np.log(900.0), 1.6, creator_count))),
        appeal=rng.normal(0.0, 0.5, creator_count),
        log_curves=np.log(draw_curves(rng, creator_count, family)),
        habits=draw_habits(rng, creator_count),
    )
    drafts = _draw_drafts(rng, creators, posts_each)
    strength = 1.0 if family is Family.A else 0.75
    hidden = _hidden(rng, family, len(drafts.creator))
    knowable = _log_odds(creators, drafts, strength)
    rates = _draw_rates(rng, knowable, hidden)
    reach = _draw_reach(rng, creators, drafts, strength, hidden)
    feed = FeedTable(
        creator=drafts.creator,
        quality_score=drafts.quality_score,
        hour_of_week=drafts.hour_of_week,
        follower_count=creators.follower_count[drafts.creator],
        avg_engagement=_past_engagement(rng, creators)[drafts.creator],
        is_moment=drafts.is_moment,
        has_video=drafts.has_video,
        caption_length=drafts.caption_length,
        tag_count=drafts.tag_count,
        age_hours=rng.uniform(0.0, 48.0, len(drafts.creator)),
        reach=reach.astype(np.float64),
        actions=rng.binomial(reach[:, None], rates),
        true_rates=rates,
        knowable_rates=_sigmoid(knowable),
    )
    curves = np.exp(creators.log_curves)
    at_hour = _at_hour(curves, drafts.creator, drafts.hour_of_week)
    return PostWorld(feed, curves, knowable - at_hour, family)


def _hidden(rng: np.random.Generator, family: Family, count: int) -> NDArray[np.float64]:
    """Draws the appeal of each post that no input shows, log-odds of every action."""
    return rng.normal(0.0, 0.35 if family is Family.A else 0.45, count)


def _draw_rates(
    rng: np.random.Generator, knowable: NDArray[np.float64], hidden: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Draws what no input shows of each action, too; (rows, 4)."""
    return _sigmoid(knowable + hidden[:, None] + rng.normal(0.0, 0.12, knowable.shape))


def _at_hour(
    curves: NDArray[np.float64], creator: NDArray[np.int64], hours: NDArray[np.int64]
) -> NDArray[np.float64]:
    return np.outer(np.log(curves[creator, hours]), _HOUR_EFFECT)


def _draw_drafts(rng: np.random.Generator, creators: _Creators, posts_each: int) -> _Drafts:
    rows = len(creators.appeal) * posts_each
    return _Drafts(
        creator=np.repeat(np.arange(len(creators.appeal)), posts_each),
        quality_score=np.clip(rng.normal(5.5, 1.7, rows), 0.0, 10.0),
        hour_of_week=posting_cells(rng, creators.habits, posts_each).ravel(),
        is_moment=rng.random(rows) < 0.25,
        has_video=rng.random(rows) < 0.3,
        caption_length=np.rint(rng.lognormal(np.log(80.0), 0.9, rows)) * (rng.random(rows) > 0.08),
        tag_count=rng.poisson(rng.gamma(2.0, 2.0, rows)).astype(np.float64),
    )


def _log_odds(creators: _Creators, drafts: _Drafts, strength: float) -> NDArray[np.float64]:
    """Returns the log-odds of each action, (rows, 4), as far as anything shows them beforehand."""
    saturating = drafts.saturating_quality()
    effects = (
        np.outer(saturating, _QUALITY_EFFECT)
        + np.outer(drafts.has_video * (1.0 + 0.3 * saturating), _VIDEO_EFFECT)
        + np.outer(drafts.is_moment, _MOMENT_EFFECT)
        + np.outer(
            _middling(np.log1p(drafts.caption_length), np.log1p(120.0), 1.2), _CAPTION_EFFECT
        )
        + np.outer(_middling(drafts.tag_count, 5.0, 4.0), _TAG_EFFECT)
    )
    at_hour = np.outer(creators.log_curves[drafts.creator, drafts.hour_of_week], _HOUR_EFFECT)
    appeal = creators.appeal[drafts.creator][:, None]
    return np.asarray(_BASE_LOG_ODDS + strength * effects + at_hour + appeal)


def _draw_reach(
    rng: np.random.Generator,
    creators: _Creators,
    drafts: _Drafts,
    strength: float,
    hidden: NDArray[np.float64],
) -> NDArray[np.int64]:
    followers = creators.follower_count[drafts.creator]
    log_reach = (
        np.log(25.0 + 0.45 * followers**0.95)
        + 0.5 * creators.log_curves[drafts.creator, drafts.hour_of_week]
        + strength * (0.06 * drafts.saturating_quality() + 0.12 * drafts.has_video)
        + 0.8 * hidden
        + rng.normal(0.0, 0.4, len(hidden))
    )
    return 1 + rng.poisson(np.exp(np.minimum(log_reach, 18.0)))


def _past_engagement(rng: np.random.Generator, creators: _Creators) -> NDArray[np.float64]:
    """Draws the engagements per impression that each creator has shown before, (creators,)."""
    count = len(creators.appeal)
    seen = rng.poisson(
        rng.integers(2, PAST_POSTS + 1, count) * (25.0 + 0.4 * creators.follower_count)
    )
    log_odds = np.log(0.085) + creators.appeal + rng.normal(0.0, 0.1, count)
    return rng.binomial(seen, _sigmoid(log_odds)) / np.maximum(seen, 1)


def _middling(value: NDArray[np.float64], best: float, width: float) -> NDArray[np.float64]:
    return np.asarray(np.exp(-0.5 * ((value - best) / width) ** 2))


def _sigmoid(log_odds: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(1.0 / (1.0 + np.exp(-log_odds)))
