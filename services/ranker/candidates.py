"""The columns of `RankFeed`: checked, read without a copy, and filtered."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fomofeed.ranker.v1 import ranker_service_pb2 as pb
from services.ranker.features import INPUTS
from services.ranker.weights import WeightProfile
from serving.errors import MAX_TEXT, InvalidRequestError, Violation

Array = NDArray[np.float64]

MAX_CANDIDATES = 10_000
MAX_SHOWN = 1000  # posts shown before
DEFAULT_PAGE_SIZE = 50
FILTER_FEATURES = ("age_hours", "seen")
_KNOWN = (*INPUTS, *FILTER_FEATURES)


@dataclass(frozen=True, slots=True)
class Candidates:
    """Candidates, all columns of one length; `matrix` is (candidates, names)."""

    post_ids: NDArray[np.int64]
    author_ids: NDArray[np.int64]
    in_network: NDArray[np.bool_]
    names: tuple[str, ...]
    matrix: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.post_ids)

    def only(self, kept: NDArray[np.bool_]) -> "Candidates":
        """Returns those whose flag is set."""
        return Candidates(
            self.post_ids[kept],
            self.author_ids[kept],
            self.in_network[kept],
            self.names,
            self.matrix.compress(kept, axis=0),
        )

    def is_finite(self) -> NDArray[np.bool_]:
        """Says of each candidate whether all its features are numbers."""
        return np.asarray(np.isfinite(self.matrix).all(axis=1))

    def features(self) -> dict[str, Array]:
        """Returns the columns by name."""
        return dict(zip(self.names, self.matrix.T.astype(np.float64, order="C"), strict=True))

    def column(self, name: str) -> NDArray[np.float32] | None:
        """Returns one column, None where the request has none of that name."""
        return self.matrix[:, self.names.index(name)] if name in self.names else None


@dataclass(frozen=True, slots=True)
class Removed:
    """What one filter took out, and by which rule."""

    filter: str
    reason: str
    post_ids: NDArray[np.int64]


def read_candidates(request: pb.RankFeedRequest) -> Candidates:
    """Reads the columns of a request; raises `InvalidRequestError`."""
    violations = list(_violations(request))
    if violations:
        raise InvalidRequestError(*violations)
    count = len(request.post_ids)
    matrix = np.frombuffer(request.features, dtype="<f4").reshape(count, len(request.feature_names))
    in_network = np.array(request.in_network, dtype=np.bool_)
    return Candidates(  # np.array copies the memory of a packed field; to iterate costs 50 times it
        post_ids=np.array(request.post_ids, dtype=np.int64),
        author_ids=np.array(request.author_ids, dtype=np.int64),
        in_network=in_network if len(in_network) else np.ones(count, dtype=np.bool_),
        names=tuple(request.feature_names),
        matrix=matrix,
    )


def filtered(candidates: Candidates, profile: WeightProfile) -> tuple[Candidates, list[Removed]]:
    """Returns what may be shown, and what each filter took out; each post falls to one filter."""
    age, seen = (candidates.column(name) for name in FILTER_FEATURES)
    kept = np.ones(len(candidates), dtype=bool)
    removed = []
    flags = {"duplicate": ("the same post id came before", _repeats(candidates.post_ids))}
    if age is not None:
        limit = profile.max_age_hours
        flags["too_old"] = (f"age_hours is above {limit:g}", age > limit)
    if seen is not None:
        flags["seen"] = ("seen is set", seen > 0)
    for name, (reason, is_out) in flags.items():
        if (taken := kept & is_out).any():
            removed.append(Removed(name, reason, candidates.post_ids[taken]))
            kept &= ~is_out
    return (candidates.only(kept) if removed else candidates), removed


def _repeats(ids: NDArray[np.int64]) -> NDArray[np.bool_]:
    ordered = np.sort(ids)
    repeats = np.zeros(len(ids), dtype=bool)
    if (ordered[1:] == ordered[:-1]).any():
        repeats[:] = True
        repeats[np.unique(ids, return_index=True)[1]] = False
    return repeats


def _violations(request: pb.RankFeedRequest) -> Iterator[Violation]:
    count = len(request.post_ids)
    if count > MAX_CANDIDATES:
        yield Violation("post_ids", f"{count:,} posts", f"at most {MAX_CANDIDATES:,}")
        return
    if request.viewer_id < 0:
        yield Violation("viewer_id", str(request.viewer_id), "at least 0")
    if len(request.author_ids) != count:
        yield Violation("author_ids", f"{len(request.author_ids)} ids", f"{count}, as post_ids")
    if len(request.in_network) not in (0, count):
        given = f"{len(request.in_network)} flags"
        yield Violation("in_network", given, f"{count}, as post_ids, or none")
    if len(request.shown_author_ids) > MAX_SHOWN:
        given = f"{len(request.shown_author_ids):,} ids"
        yield Violation("shown_author_ids", given, f"at most {MAX_SHOWN:,}")
    if not 0 <= request.page_size <= MAX_CANDIDATES:
        yield Violation("page_size", str(request.page_size), f"0 to {MAX_CANDIDATES:,}")
    if request.as_columns and request.explain:
        yield Violation("explain", "set beside as_columns", "one of the two")
    yield from _feature_violations(request, count)


def _feature_violations(request: pb.RankFeedRequest, count: int) -> Iterator[Violation]:
    names = list(request.feature_names)
    if len(names) > len(_KNOWN):  # before each is looked at
        yield Violation("feature_names", f"{len(names):,} names", f"at most {len(_KNOWN)}")
        return
    for index, name in enumerate(names):
        if name not in _KNOWN:
            known = f"one of {', '.join(_KNOWN)}"
            yield Violation(f"feature_names[{index}]", repr(name[:MAX_TEXT]), known)
        elif name in names[:index]:
            yield Violation(f"feature_names[{index}]", repr(name), "each name once")
    expected = 4 * count * len(names)
    if len(request.features) != expected:
        limit = f"{expected:,} bytes: float32, {count} rows of {len(names)} columns"
        yield Violation("features", f"{len(request.features):,} bytes", limit)
