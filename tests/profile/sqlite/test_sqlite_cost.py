"""What a read costs does not depend on how much is stored: counted, not timed. It loses no bit."""

import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from services.profile import statements as sql
from services.profile.sqlite.store import READ_PROFILE, Store
from tests.profile.profile_events import action, message, post


def steps_of_a_read(path: Path, messages: int) -> int:
    """Returns how many steps SQLite takes for user 1 among `messages` times 1,000 events."""
    with closing(Store(path, is_synced=False)) as store:
        store.ingest([message("mine", post(1, 1), *(action(1, 1) for _ in range(9)))])
        for number in range(messages):
            others = (action(2 + number * 50 + k % 50, k + 1) for k in range(999))
            store.ingest([message(f"m-{number}", *others, action(1, 1))])
        steps = 0

        def step() -> int:
            nonlocal steps
            steps += 1
            return 0

        store._connection.set_progress_handler(step, 1)
        assert store.profile(1) is not None
        store._connection.set_progress_handler(None, 1)
        return steps


def test_a_read_takes_as_many_steps_among_many_events_as_among_few(tmp_path: Path) -> None:
    few = steps_of_a_read(tmp_path / "few.sqlite", messages=0)
    assert 0 < few == steps_of_a_read(tmp_path / "many.sqlite", messages=20)


@pytest.mark.parametrize("statement", [READ_PROFILE, sql.READ_POSTS])
def test_what_is_asked_for_is_searched_by_its_key(tmp_path: Path, statement: str) -> None:
    path = tmp_path / "profile.sqlite"
    Store(path).close()
    with closing(sqlite3.connect(path)) as connection:
        plan = connection.execute(f"EXPLAIN QUERY PLAN {statement}", (1,)).fetchall()
    assert not [row[3] for row in plan if row[3].startswith("SCAN")]
    assert [row[3] for row in plan if row[3].startswith("SEARCH")]


def test_numbers_come_back_to_the_last_bit(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    numbers = rng.random((2, 168)) * 10.0 ** rng.integers(-300, 300, (2, 168))
    with closing(Store(tmp_path / "profile.sqlite", is_synced=False)) as store:
        store.ingest([message("mine", post(1, 1))])
        store._connection.execute(sql.CLEAR_CELLS, (1,))
        rows = [(1, hour, *numbers[:, hour].tolist()) for hour in range(168)]
        store._connection.executemany(sql.ADD_CELLS, rows)
        profile = store.profile(1)
    assert profile is not None
    np.testing.assert_array_equal(profile.posts, numbers[0])
    np.testing.assert_array_equal(profile.engagements, numbers[1])
