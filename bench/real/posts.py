"""The posts of one public account, 2009 to 2018: replies included, reposts of others left out."""

from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from bench.real.frames import POSTS, read_frame

Array = NDArray[np.float64]
ZONE = ZoneInfo("America/New_York")
DEVICES = ("Android", "iPhone", "iPad")


@dataclass(frozen=True, slots=True)
class Posts:
    """Posts in the order of time; all arrays are (posts,)."""

    seconds: NDArray[np.int64]  # since 1970
    hour_of_week: NDArray[np.int64]  # local
    month: NDArray[np.int64]
    favourites: Array
    reposts: Array
    length: Array
    tags: Array
    is_reply: Array  # 0 or 1
    form: Array  # (posts, flags): reply, link, quote, mentions, devices
    texts: NDArray[np.object_]

    def __len__(self) -> int:
        return len(self.seconds)

    @property
    def device(self) -> Array:
        """Which of `DEVICES` each came from, (posts, devices)."""
        return self.form[:, -1 - len(DEVICES) : -1]

    @property
    def engagement(self) -> Array:
        return np.asarray(self.favourites + self.reposts)

    def between(self, first: str, last: str) -> "Posts":
        """Returns the posts of a span of days, its last day left out."""
        low, high = (int(datetime.fromisoformat(day).timestamp()) for day in (first, last))
        return self.only((self.seconds >= low) & (self.seconds < high))

    def then(self, later: "Posts") -> "Posts":
        """Returns these posts and, after them, the later ones."""
        pairs = ((getattr(self, name), getattr(later, name)) for name in self.__slots__)
        return Posts(*map(np.concatenate, pairs))

    def only(self, kept: NDArray[np.bool_] | NDArray[np.int64] | slice) -> "Posts":
        """Returns some of the posts, in their order."""
        numbers = (self.seconds, self.hour_of_week, self.month)
        seconds, hours, months = (part[kept] for part in numbers)
        counts = (self.favourites, self.reposts, self.length, self.tags, self.is_reply, self.form)
        return Posts(seconds, hours, months, *(c[kept] for c in counts), self.texts[kept])


def read_posts() -> Posts:
    """Reads the account's own posts. Raises `ArtifactError` when the package cannot be had."""
    frame = read_frame(POSTS)
    own = np.flatnonzero(~frame["is_retweet"].astype(bool))
    moments = [datetime.fromisoformat(text).astimezone(UTC) for text in frame["created_at"][own]]
    order = np.argsort([moment.timestamp() for moment in moments], kind="stable")
    moments, own = [moments[index] for index in order], own[order]
    local = [moment.astimezone(ZONE) for moment in moments]
    texts = frame["text"][own].tolist()
    replies = (~np.isnan(frame["in_reply_to_user_id_str"][own])).astype(float)
    return Posts(
        seconds=np.array([int(moment.timestamp()) for moment in moments], dtype=np.int64),
        hour_of_week=np.array([one.weekday() * 24 + one.hour for one in local], dtype=np.int64),
        month=np.array([one.year * 12 + one.month for one in local], dtype=np.int64),
        favourites=frame["favorite_count"][own].astype(np.float64),
        reposts=frame["retweet_count"][own].astype(np.float64),
        length=np.array([float(len(text)) for text in texts]),
        tags=np.array([float(text.count("#")) for text in texts]),
        is_reply=replies,
        form=_form(texts, replies, frame["source"][own].tolist()),
        texts=np.array(texts, dtype=object),
    )


def _form(texts: list[str], replies: Array, sources: list[str]) -> Array:
    flags = [
        [text.startswith(('"@', "@")), "http" in text, "@" in text, text.isupper(), "!" in text]
        for text in texts
    ]
    devices = [[f"Twitter for {name}" == source for name in DEVICES] for source in sources]
    return np.column_stack([np.array(flags), np.array(devices), replies]).astype(float)


def spans(posts: Posts) -> dict[str, tuple[Posts, Posts]]:
    """Returns earlier and later posts: of all years by half, and of the steadier late years."""
    half = len(posts) // 2
    return {
        "all years, by half": (posts.only(slice(None, half)), posts.only(slice(half, None))),
        "Jan 2016 to May 2017, then to Dec 2017": (
            posts.between("2016-01-01T00:00Z", "2017-06-01T00:00Z"),
            posts.between("2017-06-01T00:00Z", "2018-01-01T00:00Z"),
        ),
    }
