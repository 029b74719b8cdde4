"""Open Bandit logs: real clicks with the probability with which each item was shown.

Six logs of 10,000 shown items each (Apache-2.0 package; the data have terms of their own).
"""

import csv
import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serving.models.manifest import Source
from serving.models.packages import fetch

Array = NDArray[np.float64]
CAMPAIGNS = ("all", "men", "women")
_PACKAGE_SHA256 = "87dec9caf4283c25ab13036532e0a24566f1c7bdcad1653a8ded43b2f5ef8208"
_SHA256 = {
    ("random", "all"): "7168295b6e0a9eabcf3392320a5dd434e542b68e705d5cd9491499af589812f1",
    ("random", "men"): "ede6d08c6877f99cd3770f7d09e26c738e6aa6de4445ccccfb1356ba5d06b1eb",
    ("random", "women"): "e65f3bd3beb17664fa69cc129bf7bf852a775f8ffa630506e505fc905315bb34",
    ("bts", "all"): "0ad874e4dbf6902f0845dd478ad8dde5ef6903583d3ffaace78411bdad064106",
    ("bts", "men"): "db6d1f7ed2d591ba521533e45286d4c1fba7fe57a8ad2e80342210335f43c527",
    ("bts", "women"): "e5d1b49a39b608585a2f3014a3f54970430cd37a495c1b73fceb85cdf428a5b8",
}


@dataclass(frozen=True, slots=True)
class Log:
    """What one policy showed; all arrays are (rows,)."""

    item: NDArray[np.int64]
    position: NDArray[np.int64]  # 1 to 3 on the page
    click: Array  # 0 or 1
    propensity: Array  # with which the item was shown there, above 0 to 1
    affinity: Array  # of this user with this item, >= 0

    def weights(self, wanted: Array) -> Array:
        """Returns importance weights of a policy that shows item i with `wanted[i]`."""
        return np.asarray(wanted[self.item] / self.propensity)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean with its normal 95 % interval."""

    value: float
    half_width: float

    def __str__(self) -> str:
        return f"{self.value * 100:.2f} % ± {self.half_width * 100:.2f}"

    def overlaps(self, other: "Estimate") -> bool:
        """Says whether the difference of two independent estimates is within its interval."""
        gap = np.hypot(self.half_width, other.half_width)
        return bool(abs(self.value - other.value) <= gap)


def estimate(values: Array) -> Estimate:
    """Returns the mean of independent rows."""
    return Estimate(float(values.mean()), float(1.96 * values.std(ddof=1) / np.sqrt(len(values))))


def ips(click: Array, weight: Array, most: float = np.inf) -> Estimate:
    """Returns the clicks of another policy by inverse propensity; weights are cut off at `most`.

    Unbiased without a cut, of any variance; a cut lowers both what it tells and how it scatters.
    """
    return estimate(click * np.minimum(weight, most))


def snips(click: Array, weight: Array) -> Estimate:
    """Returns likewise, over the sum of the weights (self-normalised); linearised interval."""
    value = float((click * weight).sum() / weight.sum())
    spread = weight * (click - value) / weight.mean()
    return Estimate(value, estimate(spread).half_width)


def read_log(policy: str, campaign: str) -> Log:
    """Reads a log; `policy` is "random" or "bts". Raises `ArtifactError` as `fetch` does."""
    source = Source(
        kind="wheel",
        package="obp",
        package_version="0.4.1",
        package_sha256=_PACKAGE_SHA256,
        file=f"obp/dataset/obd/{policy}/{campaign}/{campaign}.csv",
        sha256=_SHA256[policy, campaign],
    )
    rows = list(csv.DictReader(io.StringIO(fetch(source).decode())))
    return Log(
        item=np.array([int(row["item_id"]) for row in rows], dtype=np.int64),
        position=np.array([int(row["position"]) for row in rows], dtype=np.int64),
        click=np.array([float(row["click"]) for row in rows]),
        propensity=np.array([float(row["propensity_score"]) for row in rows]),
        affinity=np.array([float(row[f"user-item_affinity_{row['item_id']}"]) for row in rows]),
    )
