from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from serving.training.cells import EventsError
from serving.training.posts import PROGRESS_ROWS, read_events, split_by_time
from serving.training.rows import UNKNOWN

HEADER = "user_id,post_time,time_zone,impressions,like,quality_score,has_video"


def write(folder: Path, *lines: str, header: str = HEADER) -> Path:
    path = folder / "events.csv"
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return path


def test_posts_come_in_order_of_time_with_local_hours(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "b,2026-05-05T22:40:00Z,America/Sao_Paulo,50,5,8.5,yes",
        "a,2026-05-04T00:00:00+02:00,Europe/Rome,,2,,",
    )
    posts = read_events(path).posts
    assert posts.creator.tolist() == [0, 1]
    assert posts.hour_of_week.tolist() == [0, 43]  # Monday in Rome, Tuesday 19 h in São Paulo
    assert posts.actions.tolist() == [[2, 0, 0, 0], [5, 0, 0, 0]]
    assert np.isnan(posts.reach[0]) and posts.reach[1] == 50
    assert posts.quality_score.tolist() == [UNKNOWN, 8.5]
    assert posts.has_video.tolist() == [False, True]


def test_summer_time_moves_the_hour(tmp_path: Path) -> None:
    winter, summer = "2026-03-28T12:00:00Z", "2026-03-29T12:00:00Z"
    path = write(tmp_path, *(f"a,{when},Europe/Berlin,1,1,,0" for when in (winter, summer)))
    assert (read_events(path).posts.hour_of_week % 24).tolist() == [13, 14]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a,yesterday,UTC,1,1,5,0", "line 2: post_time is 'yesterday', RFC 3339"),
        ("a,2026-05-04T00:00:00,UTC,1,1,5,0", "with Z or an offset"),
        ("a,1999-05-04T00:00:00Z,UTC,1,1,5,0", "years 2000 to 2100"),
        ("a,2026-05-04T00:00:00Z,Mars/Base,1,1,5,0", "time_zone is 'Mars/Base', an IANA name"),
        ("a,2026-05-04T00:00:00Z,+03:00,1,1,5,0", "time_zone is '+03:00', an IANA name"),
        ("a,2026-05-04T00:00:00Z,Europe,1,1,5,0", "time_zone is 'Europe', an IANA name"),
        ("a,2026-05-04T00:00:00Z,../passwd,1,1,5,0", "time_zone is '../passwd', an IANA name"),
        ("a,2026-05-04T25:00:00Z,UTC,1,1,5,0", "post_time is '2026-05-04T25:00:00Z', RFC 3339"),
        ("a,2026-05-04T00:00:00Z,UTC,-1,1,5,0", "impressions is '-1', 0 to 1e+12"),
        ("a,2026-05-04T00:00:00Z,UTC,1,nan,5,0", "like is 'nan', 0 to"),
        ("a,2026-05-04T00:00:00Z,UTC,1,1,11,0", "quality_score is '11', 0 to 10"),
        ("a,2026-05-04T00:00:00Z,UTC,1,1,5,maybe", "has_video is 'maybe', one of"),
        (",2026-05-04T00:00:00Z,UTC,1,1,5,0", "user_id is empty"),
    ],
)
def test_a_bad_cell_is_named_with_its_line_and_limit(
    tmp_path: Path, line: str, message: str
) -> None:
    with pytest.raises(EventsError) as caught:
        read_events(write(tmp_path, line))
    assert message in str(caught.value)


FORM_HEADER = "user_id,post_time,like,caption_length,link_count,mention_count,caps_share,is_reply"


def test_the_form_is_counted_in_captions_or_read_as_numbers(tmp_path: Path) -> None:
    when = "2026-05-04T00:00:00Z"
    path = write(tmp_path, f"a,{when},1,9,2,,0.5,yes", f"b,{when},1,,,,,", header=FORM_HEADER)
    numbers = read_events(path).posts
    assert numbers.caption_length.tolist() == [9, 0]
    assert numbers.link_count.tolist() == [2, UNKNOWN]
    assert numbers.mention_count.tolist() == [UNKNOWN, UNKNOWN]
    assert numbers.caps_share.tolist() == [0.5, UNKNOWN]
    assert numbers.is_reply.tolist() == [1, UNKNOWN]
    lines = [f'a,{when},1,9,2,,0.5,0,"NO, @b https://a.example "', f"b,{when},1,9,2,3,0.5,,"]
    texts = read_events(write(tmp_path, *lines, header=FORM_HEADER + ",caption")).posts
    assert texts.caption_length.tolist() == [25, 0]  # of what it has captions for, nothing else
    assert texts.link_count.tolist() == texts.mention_count.tolist() == [1, 0]
    assert texts.caps_share.tolist() == [1, 0]
    assert texts.is_reply.tolist() == [0, UNKNOWN]


def test_posts_that_differ_in_their_text_alone_are_two(tmp_path: Path) -> None:
    lines = [f"a,2026-05-04T00:00:00Z,1,{text}" for text in ("one", "two", "one")]
    said: list[str] = []
    path = write(tmp_path, *lines, header="user_id,post_time,like,caption")
    assert len(read_events(path, said.append).posts) == 2
    assert said == ["dropped 1 rows that repeat another"]


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ("-1,,,,", "link_count is '-1', 0 to 5000"),
        (",5001,,,", "mention_count is '5001', 0 to 5000"),
        (",,1.5,,", "caps_share is '1.5', 0 to 1"),
        (",,nan,,", "caps_share is 'nan', 0 to 1"),
        (",,,perhaps,", "is_reply is 'perhaps', one of"),
        (f",,,,{'x' * 5001}", "caption is 5,001 characters, at most 5,000"),
    ],
)
def test_a_form_out_of_range_is_named(tmp_path: Path, cells: str, message: str) -> None:
    header = "user_id,post_time,like,link_count,mention_count,caps_share,is_reply,caption"
    path = write(tmp_path, f"a,2026-05-04T00:00:00Z,1,{cells}", header=header)
    with pytest.raises(EventsError) as caught:
        read_events(path)
    assert f"line 2: {message}" in str(caught.value)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("user_id,like", "no column post_time"),
        ("user_id,post_time", "none of the columns like, comment, share, follow, engagements"),
        (HEADER, "has no posts"),
    ],
)
def test_a_file_without_what_is_needed_says_so(tmp_path: Path, header: str, message: str) -> None:
    with pytest.raises(EventsError, match=message):
        read_events(write(tmp_path, header=header))


def test_what_is_neither_text_nor_parquet_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "events.xlsx"
    path.write_bytes(b"PK\x03\x04\xff\xfe\x00")
    with pytest.raises(
        EventsError, match=r"events\.xlsx is neither UTF-8 text \(CSV\) nor Parquet"
    ):
        read_events(path)
    with pytest.raises(EventsError, match=r"cannot read .*missing\.csv: No such file"):
        read_events(tmp_path / "missing.csv")
    with pytest.raises(EventsError, match="Is a directory"):
        read_events(tmp_path)


@pytest.mark.skipif(find_spec("pyarrow") is not None, reason="pyarrow is there")
def test_parquet_without_its_reader_says_what_to_install(tmp_path: Path) -> None:
    path = tmp_path / "events.parquet"
    path.write_bytes(b"PAR1\xff\xfe\x00")
    with pytest.raises(EventsError, match=r"is Parquet: install the extra parquet \(pyarrow\)"):
        read_events(path)


def test_a_torn_line_is_named(tmp_path: Path) -> None:
    good = "a,2026-05-04T00:00:00Z,UTC,1,1,5,0"
    for torn, count in (("a,2026-05-05T00:00:00Z,UTC", 3), (f"{good},9", 8)):
        with pytest.raises(EventsError, match=f"line 3: {count} cells, 7 as the header"):
            read_events(write(tmp_path, good, torn))


def test_columns_that_come_twice_are_refused(tmp_path: Path) -> None:
    line = "a,2026-05-04T00:00:00Z,1,2"
    with pytest.raises(EventsError, match="has 2 columns like"):
        read_events(write(tmp_path, line, header="user_id,post_time,like,like"))


def test_cells_may_hold_line_breaks_and_blank_lines_are_none(tmp_path: Path) -> None:
    header = "user_id,post_time,like,note"
    lines = ('a,2026-05-04T00:00:00Z,1,"two\nlines"', "", "a,2026-05-05T00:00:00Z,2,\u2028 \x0c")
    posts = read_events(write(tmp_path, *lines, header=header)).posts
    assert posts.actions[:, 0].tolist() == [1, 2]


def test_a_cell_beyond_all_measure_is_named(tmp_path: Path) -> None:
    with pytest.raises(EventsError, match="line 2: field larger than field limit"):
        read_events(write(tmp_path, f"{'a' * 200_000},2026-05-04T00:00:00Z,UTC,1,1,5,0"))


def test_rows_that_repeat_another_are_dropped_and_told(tmp_path: Path) -> None:
    one, other = (f"a,2026-05-04T00:00:00Z,UTC,,{likes},5,0" for likes in (1, 2))
    told: list[str] = []
    posts = read_events(write(tmp_path, one, other, one, one), told.append).posts
    assert posts.actions[:, 0].tolist() == [1, 2]
    assert told == ["dropped 2 rows that repeat another"]


def test_long_files_tell_how_far_they_are(tmp_path: Path) -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    lines = [f"a,{(start + timedelta(minutes=n)).isoformat()},,1,1,," for n in range(PROGRESS_ROWS)]
    told: list[str] = []
    assert len(read_events(write(tmp_path, *lines), told.append).posts) == PROGRESS_ROWS
    assert told == [f"read {PROGRESS_ROWS:,} rows …"]


def test_place_and_propensity_are_read_where_they_are_known(tmp_path: Path) -> None:
    header = "user_id,post_time,like,position,propensity"
    path = write(
        tmp_path, "a,2026-05-04T00:00:00Z,1,3.5,0.02", "a,2026-05-05T00:00:00Z,1,,", header=header
    )
    posts = read_events(path).posts
    assert (posts.position[0], posts.propensity[0]) == (3.5, 0.02)
    assert np.isnan([posts.position[1], posts.propensity[1]]).all()
    for cells, message in (("0,0.5", "position is '0', 1 to"), ("1,0", "propensity is '0', 1e-09")):
        line = f"a,2026-05-04T00:00:00Z,1,{cells}"
        with pytest.raises(EventsError, match=message):
            read_events(write(tmp_path, line, header=header))


def test_no_later_post_is_among_the_earlier(tmp_path: Path) -> None:
    days = [f"a,2026-05-{day:02}T00:00:00Z,UTC,1,1,5,0" for day in (9, 2, 7, 4, 1, 3, 8, 5, 6, 10)]
    earlier, later = split_by_time(read_events(write(tmp_path, *days)).posts, 0.2)
    assert (len(earlier), len(later)) == (8, 2)
    assert earlier.post_us.max() < later.post_us.min()
