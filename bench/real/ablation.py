"""What each input of the ranker does for real posts, and what others would, one by one."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.real.foretell import relative_to_level, served_rows
from bench.real.posts import Posts
from services.ranker.features import columns_of
from services.ranker.fit import RIDGE_POSTS, fit_basis, log_linear

Array = NDArray[np.float64]
_OPENING = re.compile(r"[\s\"“.]*@\w")


@dataclass(frozen=True, slots=True)
class Change:
    """A ranker that differs in one thing."""

    without: Sequence[str] = ()
    extra: Callable[[str], Sequence[float]] | None = None  # columns told of a text
    has_device: bool = False
    ridge_posts: Callable[[int], float] = lambda count: RIDGE_POSTS  # of so many posts

    def told(self, earlier: Posts, later: Posts) -> Array:
        """Returns the log values of the later posts."""
        known, new = (self._rows(posts) for posts in (earlier, later))
        basis = fit_basis(known)
        designs = [
            np.column_stack([self._more(posts), basis.design(rows)])
            for posts, rows in ((earlier, known), (later, new))
        ]
        ridge = self.ridge_posts(len(earlier))
        rate, ones = relative_to_level(earlier), np.ones(len(earlier))
        return np.asarray(designs[1] @ log_linear(designs[0], rate, ones, ridge))

    def _rows(self, posts: Posts) -> NDArray[np.float32]:
        rows = served_rows(posts)
        for name in self.without:
            rows[:, columns_of(name)] = 0.0
        return rows

    def _more(self, posts: Posts) -> Array:
        columns = [np.empty((len(posts), 0))]
        if self.extra:
            columns.append(np.array([self.extra(text) for text in posts.texts], dtype=float))
        if self.has_device:
            columns.append(posts.device)
        return np.concatenate(columns, axis=1)


def _exclaims(text: str) -> list[float]:
    return [text.count("!"), "!" in text]


def _asks(text: str) -> list[float]:
    return [text.count("?"), "?" in text]


def _opens(text: str) -> list[float]:
    return [bool(_OPENING.match(text))]


def _all_marks(text: str) -> list[float]:
    return [*_exclaims(text), *_asks(text), *_opens(text)]


CHANGES = {
    "as it is": Change(),
    "without link_count": Change(without=["link_count"]),
    "without mention_count": Change(without=["mention_count"]),
    "without caps_share": Change(without=["caps_share"]),
    "without is_reply": Change(without=["is_reply"]),
    "shrunk by 1 post, not by 5": Change(ridge_posts=lambda count: 1.0),
    "shrunk by 20 posts": Change(ridge_posts=lambda count: 20.0),
    "shrunk as before, by a hundred-thousandth": Change(ridge_posts=lambda count: 1e-5 * count),
    "and exclamation marks": Change(extra=_exclaims),
    "and question marks": Change(extra=_asks),
    "and does it open with a mention": Change(extra=_opens),
    "and the device": Change(has_device=True),
    "and all four": Change(extra=_all_marks, has_device=True),
}
