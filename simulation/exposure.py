"""What a feed's log shows of posts: those that an earlier ranker chose, where it put them.

Posts stand in feeds of 100, of which the first 20 places are seen. Somebody who is shown a place
looks at it with a probability that falls with it, and acts only on what they look at: an action per
impression tells of the place as well as of the post. The earlier ranker favours large accounts, and
may know more than any input (early engagement, say): then what it puts high has more appeal than it
looks. What it leaves out is not seen at all. A share of the feeds is shown in a random order, so
the probability of every post to be shown is known exactly and never 0.
"""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from simulation.feed import FeedTable

FEED_POSTS = 100
SEEN_PLACES = 20
EXPLORED = 0.1  # of the feeds, shown in a random order
LOOK_EXPONENT = 0.8  # place k (1 = first) is looked at with probability k ** -LOOK_EXPONENT
FAVOUR = 0.3  # of the log of the followers, which in truth have no effect on rates
POLICY_NOISE = 0.25  # of the log value by which it orders


@dataclass(frozen=True, slots=True)
class FeedLog:
    """Posts that were shown; all arrays are (posts,)."""

    posts: FeedTable  # its `actions` are those of the log
    position: NDArray[np.float64]  # 1 = first
    propensity: NDArray[np.float64]  # with which the post came to be shown, above 0 to 1


def draw_log(
    rng: np.random.Generator, posts: FeedTable, explored: float = EXPLORED, foresight: float = 1.0
) -> FeedLog:
    """Draws what was shown of `posts`, whole feeds only; `explored` = 1 is a random order.

    `foresight` is the share of the hidden appeal that the earlier ranker knows, 0 to 1.
    """
    feeds = rng.permutation(len(posts.reach))
    feeds = feeds[: len(feeds) // FEED_POSTS * FEED_POSTS].reshape(-1, FEED_POSTS)
    chosen = _places(-_policy_value(rng, posts, foresight)[feeds])
    drawn = _places(rng.random(feeds.shape))
    place = np.where(rng.random((len(feeds), 1)) < explored, drawn, chosen)
    drawn_share = explored * SEEN_PLACES / FEED_POSTS
    propensity = np.where(chosen < SEEN_PLACES, 1.0 - explored + drawn_share, drawn_share)
    is_seen = place < SEEN_PLACES
    rows, position = feeds[is_seen], place[is_seen] + 1.0
    shown = _only(posts, rows)
    looked = looks(position)[:, None] * shown.true_rates
    actions = rng.binomial(shown.reach.astype(np.int64)[:, None], looked)
    return FeedLog(_with_actions(shown, actions), position, propensity[is_seen])


def looks(position: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the probability that a place is looked at; `position` 1 is the first."""
    return np.asarray(position**-LOOK_EXPONENT)


def _policy_value(
    rng: np.random.Generator, posts: FeedTable, foresight: float
) -> NDArray[np.float64]:
    known, true = (np.log(r.sum(axis=1)) for r in (posts.knowable_rates, posts.true_rates))
    value = known + foresight * (true - known) + FAVOUR * np.log1p(posts.follower_count)
    return np.asarray(value + rng.normal(0, POLICY_NOISE, len(known)))


def _places(keys: NDArray[np.float64]) -> NDArray[np.int64]:
    """Returns the place of each key in its row, 0 for the least."""
    return np.asarray(keys.argsort(axis=1).argsort(axis=1))


def _only(posts: FeedTable, rows: NDArray[np.int64]) -> FeedTable:
    return FeedTable(*(getattr(posts, field.name)[rows] for field in fields(posts)))


def _with_actions(posts: FeedTable, actions: NDArray[np.int64]) -> FeedTable:
    values = {field.name: getattr(posts, field.name) for field in fields(posts)}
    return FeedTable(**{**values, "actions": actions})
