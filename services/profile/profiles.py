"""What a store of profiles is to the rest of the room, whichever database stands behind it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from services.profile.events import Message

HOURS = 168


@dataclass(frozen=True, slots=True)
class Profile:
    """A user's row and cells; `posts` and `engagements` are (168,) float64."""

    user_id: int
    user_name: str
    time_zone: str
    follower_count: int | None  # None until the user's facts came
    update_us: int
    post_count: int
    avg_engagement: float | None  # engagements per impression, 0 to 1; None without impressions
    posts: NDArray[np.float64]
    engagements: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Stored:
    """How many events of a message were new, and how many had been stored before."""

    accepted_count: int
    duplicate_count: int


class ProfileStore(Protocol):
    """Profiles and their events. Used from one event loop.

    Whatever touches the database raises `NotReadyError` while it cannot be reached.
    """

    async def profiles(self, user_ids: Sequence[int]) -> list[Profile | None]:
        """Reads profiles in the order of the ids; None for those of whom no event came."""

    async def ingest(self, message: Message) -> Stored:
        """Stores a message whole; returns when it is on disk.

        Raises `InvalidRequestError` when its `request_id` was used for other events.
        """

    async def delete(self, user_id: int) -> bool:
        """Deletes a user from tables and files; says whether the user was there.

        Raises `NotReadyError` when the rows are gone but not the bytes; calling again goes on.
        """

    async def drop_events(self, now_us: int, kept_us: int) -> int:
        """Drops events from the log that are older than `kept_us`; returns how many.

        Age counts from `now_us` or the latest event, whichever is earlier: neither a clock that
        leapt ahead nor one event from the future empties the log. No profile changes.
        """


def profile_of(row: Sequence[object], cells: NDArray[np.float64]) -> Profile:
    """Makes a profile of a row of `statements.USER_COLUMNS` and cells, (n, 3) float64.

    A cell is the hour of the week, posts, engagements.
    """
    user_id, name, time_zone, followers, update_us, post_count, impressions, engaged = row
    assert isinstance(impressions, float) and isinstance(engaged, float)
    by_hour = np.zeros((2, HOURS))
    by_hour[:, cells[:, 0].astype(np.intp)] = cells[:, 1:].T
    return Profile(
        user_id=user_id,  # type: ignore[arg-type]  # a row has the types of its columns
        user_name=name,  # type: ignore[arg-type]
        time_zone=time_zone,  # type: ignore[arg-type]
        follower_count=followers,  # type: ignore[arg-type]
        update_us=update_us,  # type: ignore[arg-type]
        post_count=post_count,  # type: ignore[arg-type]
        avg_engagement=min(1.0, engaged / impressions) if impressions else None,
        posts=by_hour[0],
        engagements=by_hour[1],
    )
