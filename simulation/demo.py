"""Simulated creators with whole histories, for demonstrations; each name says that it is simulated.

Everything follows from the user's id: the same id is always the same person with the same posts.
User 12 posts from São Paulo to an audience that is there on weekday evenings, Tuesdays most of all.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from simulation.audience import HOURS, Family, draw_curves
from simulation.history import QUALITY_SIGMA, draw_habits, posting_cells

FIRST_MONDAY = datetime(2026, 1, 5)  # local midnight with which every demo history starts
WEEKS = 36
SHARES = {"like": 0.8, "comment": 0.1, "share": 0.06, "follow": 0.04}  # of all engagements

_PEOPLE: tuple[tuple[str, str, int, int], ...] = (  # name, zone, followers, posts
    ("Aiko Tanaka", "Asia/Tokyo", 5200, 120),
    ("Ben Carter", "America/New_York", 150, 14),
    ("Chiara Rossi", "Europe/Rome", 2300, 64),
    ("Dalia Haddad", "Africa/Cairo", 830, 40),
    ("Emil Novak", "Europe/Prague", 410, 22),
    ("Fatima Bello", "Africa/Lagos", 12700, 210),
    ("Gabriel Martin", "Europe/Paris", 96, 6),
    ("Hana Kim", "Asia/Seoul", 38400, 260),
    ("Iris Jansen", "Europe/Amsterdam", 1900, 75),
    ("Jonas Weber", "Europe/Berlin", 640, 30),
    ("Kavya Nair", "Asia/Kolkata", 7400, 140),
    ("Marina Souza", "America/Sao_Paulo", 18400, 240),
    ("Noah Brown", "America/Los_Angeles", 2700, 85),
    ("Olivia Smith", "Europe/London", 3300, 110),
    ("Pedro Alves", "Europe/Lisbon", 520, 18),
    ("Quinn Murphy", "Europe/Dublin", 75, 3),
    ("Rosa Gutiérrez", "America/Mexico_City", 9100, 160),
    ("Samir Khan", "Asia/Karachi", 1200, 48),
    ("Tessa Wilson", "Australia/Sydney", 4600, 95),
    ("Umar Yusuf", "Africa/Nairobi", 290, 12),
    ("Valentina Díaz", "America/Bogota", 15800, 190),
    ("Wen Li", "Asia/Shanghai", 61000, 280),
    ("Ximena Torres", "America/Santiago", 980, 36),
    ("Yara Cohen", "Asia/Jerusalem", 2100, 1),
)
DEMO_USER_IDS = range(1, len(_PEOPLE) + 1)


@dataclass(frozen=True, slots=True)
class DemoPost:
    """A post with what it gained; `impressions` and the counts in `actions` are numbers of
    accounts.
    """

    post_id: int
    post_time: datetime
    impressions: int
    actions: dict[str, int]


@dataclass(frozen=True, slots=True)
class DemoUser:
    user_id: int
    user_name: str
    time_zone: str
    follower_count: int
    posts: tuple[DemoPost, ...]


def demo_users() -> Iterator[DemoUser]:
    """Yields the demo users in the order of their ids."""
    for user_id in DEMO_USER_IDS:
        yield demo_user(user_id)


def demo_user(user_id: int) -> DemoUser:
    """Returns one demo user; `user_id` is in `DEMO_USER_IDS`."""
    name, zone, followers, post_count = _PEOPLE[user_id - 1]
    rng = np.random.default_rng(user_id)
    curve = audience(user_id)
    cells = posting_cells(rng, draw_habits(rng, 1), post_count)[0]
    weeks = np.sort(rng.integers(0, WEEKS, post_count))
    minutes = rng.integers(0, 60, post_count)
    quality = rng.lognormal(0.0, QUALITY_SIGMA, post_count)
    impressions = 1 + rng.poisson((30 + 0.4 * followers) * quality**0.5)
    gained = rng.binomial(impressions, np.minimum(0.6, 0.07 * curve[cells] * quality**0.5))
    split = rng.multinomial(gained, list(SHARES.values()))
    posts = tuple(
        DemoPost(
            post_id=user_id * 100_000 + index + 1,
            post_time=_utc(int(weeks[index]), int(cells[index]), int(minutes[index]), zone),
            impressions=int(impressions[index]),
            actions=dict(zip(SHARES, split[index].tolist(), strict=True)),
        )
        for index in range(post_count)
    )
    return DemoUser(user_id, f"{name} (simulated)", zone, followers, posts)


def audience(user_id: int) -> NDArray[np.float64]:
    """Returns the true audience curve of a demo user: 168 relative rates of mean 1."""
    if user_id == 12:
        return _tuesday_evening()
    return draw_curves(np.random.default_rng(1000 + user_id), 1, Family.A).reshape(HOURS)


def _tuesday_evening() -> NDArray[np.float64]:
    angle = (np.arange(24) - 19) * (2 * np.pi / 24)
    by_day = np.array([1.0, 2.0, 1.1, 1.1, 1.0, 0.7, 0.7])
    week = np.outer(by_day, 0.2 + np.exp(6.0 * (np.cos(angle) - 1.0))).reshape(HOURS)
    return np.asarray(week / week.mean())


def _utc(week: int, cell: int, minute: int, zone: str) -> datetime:
    local = FIRST_MONDAY + timedelta(days=7 * week + cell // 24, hours=cell % 24, minutes=minute)
    return local.replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)
