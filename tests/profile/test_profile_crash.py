import random
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from services.profile.store import Store


def last_stored(database: Path, first: int, lines: int) -> int:
    """Runs the ingesting process, kills it with SIGKILL after `lines` acknowledgements.

    Returns the number of the last message that was acknowledged before the kill.
    """
    command = [sys.executable, "-m", "tests.profile.ingest_forever", str(database), str(first)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        seen = [int(process.stdout.readline()) for _ in range(lines)]
        process.kill()
        seen += [int(line) for line in process.stdout if line.endswith("\n")]
    return seen[-1]


def check(database: Path, acknowledged: int) -> None:
    """Asserts that nothing acknowledged is lost, nothing is there in part or twice."""
    with closing(Store(database)) as store:
        profile = store.profile(1)
        (stored,) = store._connection.execute("SELECT COUNT(*) FROM requests").fetchone()
        (events,) = store._connection.execute("SELECT COUNT(*) FROM events").fetchone()
        (whole,) = store._connection.execute("PRAGMA integrity_check").fetchone()
    assert profile is not None
    assert whole == "ok"
    assert stored in (acknowledged + 1, acknowledged + 2)  # the last may lack its acknowledgement
    assert profile.post_count == profile.posts.sum() == profile.engagements.sum() == 2 * stored
    assert events == 4 * stored


def kill_and_check(database: Path, kills: int) -> None:
    chance = random.Random(kills)
    acknowledged = -1
    for _ in range(kills):
        acknowledged = last_stored(database, acknowledged + 1, chance.randint(1, 30))
        check(database, acknowledged)


def test_killed_while_ingesting_nothing_is_lost_or_counted_twice(tmp_path: Path) -> None:
    kill_and_check(tmp_path / "profile.sqlite", kills=3)


@pytest.mark.prove
def test_killed_200_times_while_ingesting_nothing_is_lost_or_counted_twice(tmp_path: Path) -> None:
    kill_and_check(tmp_path / "profile.sqlite", kills=200)
