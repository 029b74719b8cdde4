"""Own posts from Parquet: the same posts as from CSV, and each wrong file in words."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.training.cells import EventsError
from serving.training.posts import OwnPosts, read_events
from simulation.audience import Family
from tests.serving.training.own_events import write_own_events

pytestmark = pytest.mark.extras
pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

NOON = datetime(2026, 5, 5, 12, tzinfo=UTC)
TWO: dict[str, list[Any]] = {
    "user_id": ["a", "b"],
    "post_time": [NOON, NOON + timedelta(hours=1)],
    "like": [3, 4],
}


def write(folder: Path, columns: dict[str, Any], **options: Any) -> Path:
    path = folder / "own.parquet"
    parquet.write_table(pyarrow.table(columns), path, **options)
    return path


def same(one: OwnPosts, other: OwnPosts) -> bool:
    pairs = ((getattr(one, f), getattr(other, f)) for f in OwnPosts.__slots__)
    return all(np.array_equal(a, b, equal_nan=a.dtype.kind == "f") for a, b in pairs)


@pytest.mark.parametrize("compression", ["none", "snappy", "zstd"])
def test_parquet_and_csv_of_the_same_posts_are_the_same(tmp_path: Path, compression: str) -> None:
    from pyarrow import csv  # noqa: PLC0415

    text = write_own_events(tmp_path / "own.csv", 30, 20, Family.A, seed=3)
    table = csv.read_csv(text)
    assert str(table.schema.field("post_time").type) == "timestamp[s, tz=UTC]"
    path = tmp_path / "own.parquet"
    parquet.write_table(table, path, compression=compression, row_group_size=100)
    assert same(read_events(path).posts, read_events(text).posts)


def test_types_of_many_writers_are_read(tmp_path: Path) -> None:
    zone = pyarrow.timestamp("ns", tz="America/Sao_Paulo")
    columns = {
        "user_id": pyarrow.array(["a", "b"]).dictionary_encode(),
        "post_time": pyarrow.array(TWO["post_time"]).cast(zone),
        "time_zone": pyarrow.array(["Europe/Rome", None], pyarrow.large_string()),
        "like": pyarrow.array([3, None], pyarrow.uint16()),
        "engagements": pyarrow.array([None, 7.0]),
        "impressions": pyarrow.array([100, 200]).cast(pyarrow.decimal128(21, 2)),
        "quality_score": pyarrow.array([8.5, None], pyarrow.float32()),
        "has_video": [True, None],
        "position": pyarrow.nulls(2),
        "note": [{"ignored": [1]}, None],
    }
    posts = read_events(write(tmp_path, columns)).posts
    assert posts.hour_of_week.tolist() == [24 + 14, 24 + 13]
    assert posts.actions.tolist() == [[3, 0, 0, 0], [7, 0, 0, 0]]
    assert posts.reach.tolist() == [100, 200]
    assert posts.quality_score.tolist() == [8.5, -1]
    assert posts.has_video.tolist() == [True, False]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"like": ["3", "4"]}, "like is text, expected whole number or number"),
        ({"user_id": [1.5, 2.5]}, "user_id is number, expected text or whole number"),
        ({"like": [[3], [4]]}, "like is list<.*>, expected whole number or number"),
        (
            {"post_time": [NOON.replace(tzinfo=None)] * 2},
            "post_time is time without a zone, expected time or text",
        ),
        ({"post_time": [NOON.date()] * 2}, r"post_time is date32\[day\], expected time or text"),
        ({"like": [3, -1]}, "row 2: like is '-1', 0 to"),
        ({"like": [3.0, float("nan")]}, "row 2: like is 'nan', 0 to"),
        ({"user_id": ["a", None]}, "row 2: user_id is empty"),
        ({"time_zone": ["UTC", "Mars/Base"]}, "row 2: time_zone is 'Mars/Base', an IANA name"),
        ({"post_time": ["2026-05-05T12:00:00", "x"]}, "row 1: post_time is .*, with Z"),
        ({"post_time": None}, "has no column post_time"),
        ({"like": None}, "none of the columns like"),
        ({name: [] for name in TWO}, "has no posts"),
    ],
)
def test_a_wrong_column_is_named_with_what_it_should_hold(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    columns = {name: c for name, c in {**TWO, **changes}.items() if c is not None}
    with pytest.raises(EventsError, match=message):
        read_events(write(tmp_path, columns))


@pytest.mark.parametrize("damage", ["cut off", "footer", "page", "nothing but its name"])
def test_a_damaged_file_says_so(tmp_path: Path, damage: str) -> None:
    columns = {name: values * 500 for name, values in TWO.items()}
    columns["user_id"] = [f"creator {n}" for n in range(1000)]
    path = write(tmp_path, columns, compression="none", use_dictionary=False)
    content = bytearray(path.read_bytes())
    match damage:
        case "cut off":
            content = content[: len(content) // 2]
        case "footer":
            content[-200:-8] = b"\xff" * 192
        case "page":
            content[4:60] = b"\xff" * 56
        case _:
            content = bytearray(b"PAR1")
    path.write_bytes(content)
    with pytest.raises(EventsError, match=r"own\.parquet is damaged, or no Parquet: "):
        read_events(path)
