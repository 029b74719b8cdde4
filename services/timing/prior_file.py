"""The trained file: curves in half precision, everything else in double, as a NumPy archive."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from services.timing.lifts import Lifts
from services.timing.rates import Prior, unit_mean


@dataclass(frozen=True, slots=True)
class Trained:
    """All that training learns."""

    prior: Prior
    lifts: Lifts


def to_bytes(trained: Trained) -> bytes:
    """Returns the file's content: equal values give equal bytes.

    Numbers are rounded, so that another machine's last bits do not make another file.
    """
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        curves=trained.prior.curves.astype(np.float16),
        weights=trained.prior.weights,
        dispersion=np.round(trained.prior.dispersion, 3),
        spread=np.round(trained.prior.spread, 3),
        quality_lift=np.round(trained.lifts.quality, 4),
        video_lift=np.round(trained.lifts.video, 4),
    )
    return buffer.getvalue()


def read(path: Path) -> Trained:
    """Reads a file that was verified before."""
    with np.load(path, allow_pickle=False) as arrays:
        curves = arrays["curves"].astype(np.float64)
        prior = Prior(
            curves=unit_mean(curves),
            weights=arrays["weights"],
            dispersion=float(arrays["dispersion"]),
            spread=arrays["spread"],
        )
        return Trained(prior, Lifts(arrays["quality_lift"], arrays["video_lift"]))
