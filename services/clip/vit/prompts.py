"""Sentences about a picture: ensembles of them, and how probability is spread over them.

The arithmetic is that of the CLIP paper's zero-shot classifier: a label's point is the mean of its
sentences' embeddings at unit length, and probabilities are the softmax of the cosines times the
model's own scale.
"""

from collections.abc import Awaitable, Callable, Sequence

import numpy as np
from numpy.typing import NDArray

TEMPLATES = ("a photo of a {}.",)  # of a caller who names none, as in the CLIP paper

Read = Callable[[Sequence[str]], Awaitable[NDArray[np.float32]]]


async def ensemble(groups: Sequence[Sequence[str]], read: Read) -> NDArray[np.float32]:
    """Returns (groups, size): each group of sentences as one point of L2 norm 1."""
    points = await read([sentence for group in groups for sentence in group])
    ends = np.cumsum([len(group) for group in groups])
    return np.stack([_mean(part) for part in np.split(points, ends[:-1])])


def probabilities(
    embedding: NDArray[np.float32], points: NDArray[np.float32], scale: float
) -> NDArray[np.float64]:
    """Returns (points,) shares that add up to 1."""
    scores = scale * (points.astype(np.float64) @ embedding)
    shares = np.exp(scores - scores.max())
    return np.asarray(shares / shares.sum())


def _mean(points: NDArray[np.float32]) -> NDArray[np.float32]:
    mean = points.mean(axis=0)
    return np.asarray(mean / max(float(np.linalg.norm(mean)), 1e-12), np.float32)
