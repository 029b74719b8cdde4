"""Trains the timing prior on simulated creators of family A: `python -m services.timing.train`.

Takes long histories, not the curves behind them: each creator's weekly curve is fitted from their
posts, the curves are clustered, and a copy of each is rotated by a random number of hours. The same
command gives the same bytes.
"""

import argparse
import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from services.timing.lifts import fit_lifts
from services.timing.prior_file import Trained, to_bytes
from services.timing.rates import Prior, unit_mean
from services.timing.spread import fit_spread
from services.timing.substitute import write_population_hours
from simulation.audience import Family, draw_curves
from simulation.feed import draw_feed
from simulation.history import Histories, draw_histories

Array = NDArray[np.float64]
ARTIFACT = "services/timing/artifacts/posting-times.npz"
MANIFEST = "services/timing/manifests/posting-times.yaml"
TABLE = "services/gateway/tables/population_hours.yaml"
_MANIFEST = """\
# Written by `python -m services.timing.train`.
name: posting-times
version: "1"
file: posting-times.npz
sha256: {sha256}
source:
  kind: trained-here
  file: {file}
  sha256: {sha256}
  command: python -m services.timing.train
license: as this repository
trained_on: simulator
experimental: true
metric: >-
  Share of users whose best hour of the day is hit within 1 h, by number of posts:
  bench/timing_hits.py. Measured on simulated creators only, family A (trained on) and family B (not
  seen).
"""
SEED = 20260901
CREATORS = 3000
POSTS_EACH = 1000
CURVE_COUNT = 384  # as fitted; as many again are rotated
HOUR_BANDWIDTH = 0.9
SAME_KIND_OF_DAY = 0.5
OTHER_KIND_OF_DAY = 0.15
ROUNDS = 12  # of k-means


def train(seed: int = SEED, creators: int = CREATORS, curve_count: int = CURVE_COUNT) -> Trained:
    """Returns the prior and the lifts learned from `creators` simulated ones."""
    rng = np.random.default_rng(seed)
    histories = draw_histories(rng, draw_curves(rng, creators, Family.A), POSTS_EACH)
    curves = fit_curves(histories)
    centres, shares = cluster(rng, np.log(curves), curve_count)
    fitted = unit_mean(np.exp(centres))
    rotated = _rotated(rng, fitted, shares)
    prior = Prior(
        curves=np.concatenate([fitted, rotated]),
        weights=np.concatenate([shares, np.full(curve_count, 1 / curve_count)]) / 2,
        dispersion=dispersion_of(histories, curves),
        spread=np.zeros((2, 1)),
    )
    prior = replace(prior, spread=fit_spread(rng, prior))
    return Trained(prior, fit_lifts(rng, draw_feed(rng, 1500, 20, Family.A)))


def fit_curves(histories: Histories) -> Array:
    """Fits one weekly curve a creator, (creators, 168) of row mean 1: smoothed rates per post."""
    is_weekend = np.arange(7) >= 5
    same = np.equal.outer(is_weekend, is_weekend)
    days = np.where(same, SAME_KIND_OF_DAY, OTHER_KIND_OF_DAY)
    np.fill_diagonal(days, 1.0)
    distance = np.abs(np.subtract.outer(np.arange(24), np.arange(24)))
    distance = np.minimum(distance, 24 - distance)
    kernel = np.kron(days, np.exp(-0.5 * (distance / HOUR_BANDWIDTH) ** 2))
    total = histories.engagements.sum(axis=1, keepdims=True)
    mean = total / histories.posts.sum(axis=1, keepdims=True)
    rates = (histories.engagements @ kernel + mean) / (histories.posts @ kernel + 1.0)
    return unit_mean(rates)


def cluster(rng: np.random.Generator, points: Array, count: int) -> tuple[Array, Array]:
    """Returns k-means centres and each one's share of points; an empty one keeps its place."""
    centres = points[rng.choice(len(points), count, replace=False)]
    for _ in range(ROUNDS):
        distance = (centres**2).sum(axis=1) - 2 * points @ centres.T
        nearest = distance.argmin(axis=1)
        for cluster in np.unique(nearest):
            centres[cluster] = points[nearest == cluster].mean(axis=0)
    shares = np.bincount(nearest, minlength=count) + 0.5
    return centres, shares / shares.sum()


def _rotated(rng: np.random.Generator, curves: Array, shares: Array) -> Array:
    chosen = rng.choice(len(curves), len(curves), p=shares)
    hours = rng.integers(1, 24, len(curves))
    return np.stack([np.roll(curves[k], h) for k, h in zip(chosen, hours, strict=True)])


def dispersion_of(histories: Histories, curves: Array) -> float:
    """Returns the negative binomial size by moments: variance = mean + mean^2 / (size * posts)."""
    posts, gained = histories.posts, histories.engagements
    level = gained.sum(axis=1) / (posts * curves).sum(axis=1)
    mean = posts * curves * level[:, None]
    seen = posts > 0
    excess = posts[seen] * ((gained - mean)[seen] ** 2 - mean[seen]) / mean[seen] ** 2
    return float(1.0 / excess.mean())


def main() -> None:
    """Trains and writes artifact, manifest and the gateway's table into the source tree."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=Path(), help="the repository's root")
    root: Path = parser.parse_args().root
    trained = train()
    content = to_bytes(trained)
    digest = hashlib.sha256(content).hexdigest()
    (root / ARTIFACT).write_bytes(content)
    (root / MANIFEST).write_text(_MANIFEST.format(sha256=digest, file=ARTIFACT), encoding="utf-8")
    write_population_hours(trained.prior, root / TABLE)
    print(f"{ARTIFACT}: {len(content):,} bytes, sha256 {digest}")


if __name__ == "__main__":
    main()
