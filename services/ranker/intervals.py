"""Makes the interval of reach hold for creators whose posts its quantiles were not fitted to.

Quantile regression says where four in five of the posts lay that it was fitted to. How far other
posts lie outside is measured on posts that it has not seen, and its ends are moved by the quantile
of that: conformalised quantile regression (Romano, Patterson, Candes 2019). It supposes no
distribution, only that posts to come are drawn as these were. That is what may be wrong: somebody
who asks is one creator, and may be unlike the average, as a whole other population may be. So the
margin is the one with which the interval holds for nine creators in ten, each by their own posts.
On the average it then holds for more than four posts in five.

The margin is a number of log reach on the intercept, and one on the flag of each input that may be
unknown: an interval is as wide as what is known of the post makes it.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from services.ranker.features import MAY_BE_UNKNOWN, UNKNOWN, columns_of, to_rows
from services.ranker.heads import Heads

Array = NDArray[np.float64]

LEVEL = 0.8  # of the posts of a creator lie between p10 and p90
CREATORS = 0.9  # for whom that is to hold


def hold_for_creators(
    heads: Heads, inputs: Mapping[str, Array], reach: Array, creator: NDArray[np.int64]
) -> Heads:
    """Moves the ends of the interval so that it holds for `CREATORS` of the creators.

    The posts were not learned from, and each creator has many: of few, chance would pass for being
    unlike others.
    """
    beyond = outside(heads, to_rows(inputs, len(reach)), reach)
    order = np.argsort(creator, kind="stable")
    starts = np.unique(creator[order], return_index=True)[1][1:]
    own = [conformal(posts, LEVEL) for posts in np.split(beyond[order], starts)]
    return _moved(heads, conformal(np.array(own), CREATORS), -1)


def hold_unknown(heads: Heads, inputs: Mapping[str, Array], reach: Array) -> Heads:
    """Moves them where an input is unknown, so that it holds as many posts as when all is known.

    The posts are of many creators: how large an account is that does not say so, few cannot tell.
    """
    count = len(reach)
    level = float((outside(heads, to_rows(inputs, count), reach) <= 0).mean())
    for name in (name for name in MAY_BE_UNKNOWN if name in inputs):
        rows = to_rows({**inputs, name: np.full(count, UNKNOWN)}, count)
        lacking = conformal(outside(heads, rows, reach), level)
        heads = _moved(heads, lacking, columns_of(name)[-1])
    return heads


def outside(heads: Heads, rows: NDArray[np.float32], reach: Array) -> Array:
    """Returns how far each post lies outside its interval, in log reach; negative inside."""
    low, _, high = np.log(heads.predict(rows)["reach"]).T
    seen = np.log(reach)
    return np.asarray(np.maximum(low - seen, seen - high))


def conformal(values: Array, level: float) -> float:
    """Returns what one more value, drawn likewise, stays below with a chance of `level`."""
    rank = min(len(values), int(np.ceil(level * (len(values) + 1))))
    return float(np.sort(values)[rank - 1])


def _moved(heads: Heads, by: float, entry: int) -> Heads:
    """Moves both ends outwards by `by` times an entry of the basis; -1 is the one that is 1."""
    reach = heads.reach.copy()
    reach[entry] += (-by, 0.0, by)
    return replace(heads, reach=reach)
