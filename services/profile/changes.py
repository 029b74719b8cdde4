"""What a message changes, worked out before anything is written, the same for every database.

The aggregates are a function of the set of events, whatever their order and grouping: a post lies
in the cell of its local hour of week, its engagements lie in the same cell, and engagements that
come before their post wait in the post's row. A change of zone counts a user's cells anew.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from fomofeed.profile.v1 import profile_service_pb2 as pb
from services.profile.events import ENGAGEMENTS, Facts, Message
from services.profile.profiles import Stored
from serving.hours import of_local, zone_named

Key = tuple[int, int]  # user_id, post_id
Total = tuple[int, float, float, int]  # user_id, impressions, engagements, latest event_us
Cell = tuple[int, int, float, float]  # user_id, hour of week, posts, engagements
KnownUsers = Mapping[int, tuple[str, int]]  # time_zone and facts_us
KnownPosts = Mapping[Key, tuple[int | None, float]]  # post_us and engagements


@dataclass(frozen=True, slots=True)
class Changes:
    """What one message brings, each user and each post once."""

    event_count: int
    post_count: int  # posts told, repetitions and all
    totals: list[Total]  # by user_id
    facts: Mapping[int, Facts]  # the latest of each user
    posts: Mapping[Key, int]  # event_us, as first told
    engagements: Mapping[Key, float]

    def post_keys(self) -> list[Key]:
        """Returns the posts that are mentioned, in order."""
        return sorted(self.posts.keys() | self.engagements.keys())

    def user_ids(self) -> list[int]:
        """Returns the users whose zone matters, in order."""
        return sorted({user_id for user_id, _ in self.post_keys()} | self.facts.keys())


@dataclass(frozen=True, slots=True)
class Writes:
    """Rows to write, their columns as `statements` has them."""

    facts: list[tuple[str, str, int, int, int]]  # name, zone, followers, facts_us, user_id
    posts: list[tuple[int, int, int | None, float]]  # user_id, post_id, post_us, engagements
    post_counts: list[tuple[int, int]]  # how many more, user_id
    cells: list[Cell]
    moved: Mapping[int, str]  # new zone of users whose cells are to be counted anew
    stored: Stored


def changes_of(message: Message) -> Changes:
    """Sums a message up."""
    sums: dict[int, list[float]] = defaultdict(lambda: [0.0, 0.0])
    latest: dict[int, int] = defaultdict(int)
    posts: dict[Key, int] = {}
    engaged: dict[Key, float] = defaultdict(float)
    post_count = 0
    for user_id, kind, post_id, event_us, weight in message.actions:
        latest[user_id] = max(latest[user_id], event_us)
        if kind == pb.EVENT_KIND_POST:
            posts.setdefault((user_id, post_id), event_us)
            post_count += 1
        elif kind in ENGAGEMENTS:
            sums[user_id][1] += weight
            engaged[user_id, post_id] += weight
        else:
            sums[user_id][0] += weight
    facts = _latest_facts(message.facts)
    for user_id, one in facts.items():
        latest[user_id] = max(latest[user_id], one.event_us)
    totals = [(user, sums[user][0], sums[user][1], latest[user]) for user in sorted(latest)]
    return Changes(message.event_count, post_count, totals, facts, posts, engaged)


def plan(changes: Changes, users: KnownUsers, posts: KnownPosts) -> Writes:
    """Works out what to write, given the rows that are there of the users and posts mentioned."""
    newer = [one for one in changes.facts.values() if one.event_us >= users[one.user_id][1]]
    moved = {one.user_id: one.time_zone for one in newer}
    moved = {user: name for user, name in moved.items() if name != users[user][0]}
    rows: list[tuple[int, int, int | None, float]] = []
    fresh: dict[int, int] = defaultdict(int)
    cells: dict[Key, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for key in changes.post_keys():
        told_us, added = changes.posts.get(key), changes.engagements.get(key, 0.0)
        rows.append((*key, told_us, added))
        known_us, waiting = posts.get(key, (None, 0.0))
        is_fresh = known_us is None and told_us is not None
        fresh[key[0]] += is_fresh
        post_us = told_us if known_us is None else known_us
        if post_us is not None and key[0] not in moved:
            cell = cells[key[0], hour_of_week(post_us, users[key[0]][0])]
            cell[0] += is_fresh
            cell[1] += added + (waiting if is_fresh else 0.0)
    repeated = changes.post_count - sum(fresh.values())
    return Writes(
        facts=[(f.user_name, f.time_zone, f.follower_count, f.event_us, f.user_id) for f in newer],
        posts=rows,
        post_counts=[(count, user_id) for user_id, count in fresh.items() if count],
        cells=_rows(cells),
        moved=moved,
        stored=Stored(changes.event_count - repeated, repeated),
    )


def count_anew(user_id: int, time_zone: str, posts: Iterable[tuple[int, float]]) -> list[Cell]:
    """Returns all cells of a user in a zone, from post_us and engagements of their posts."""
    cells: dict[Key, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for post_us, engagements in posts:
        cell = cells[user_id, hour_of_week(post_us, time_zone)]
        cell[0] += 1.0
        cell[1] += engagements
    return _rows(cells)


def hour_of_week(time_us: int, time_zone: str) -> int:
    """Returns the local hour of week, 0 to 167, Monday 00:00 first, of a time since 1970."""
    return of_local(datetime.fromtimestamp(time_us // 1_000_000, zone_named(time_zone)))


def _latest_facts(told: Iterable[Facts]) -> dict[int, Facts]:
    facts: dict[int, Facts] = {}
    for one in told:
        if one.user_id not in facts or one.event_us >= facts[one.user_id].event_us:
            facts[one.user_id] = one
    return dict(sorted(facts.items()))


def _rows(cells: Mapping[Key, list[float]]) -> list[Cell]:
    return [(*key, posts, engagements) for key, (posts, engagements) in sorted(cells.items())]
