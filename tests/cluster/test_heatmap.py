"""The heat map of a user's week, asked of real servers in this process."""

import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from rich.console import Console

from cluster.errors import CommandError
from cluster.heatmap import Week, ask_week, print_week, to_svg
from fomofeed.profile.v1 import profile_service_pb2_grpc as profile_grpc
from fomofeed.timing.v1 import timing_service_pb2_grpc as timing_grpc
from services.profile.config import ProfileConfig
from services.profile.opening import open_store
from services.profile.servicer import ProfileServicer
from services.timing.advisor import Advisor
from services.timing.config import TimingConfig
from services.timing.servicer import TimingServicer
from serving.models.build import build

ROOT = Path(__file__).parents[2]
TUESDAY_EVENING = 43


@pytest.fixture
async def target(serving_on: Any, tmp_path: Path) -> AsyncIterator[str]:
    """One server with both services, over the demo users and the committed prior."""
    manifest = ROOT / "services/timing/manifests/posting-times.yaml"
    build(manifest, tmp_path / "models", tmp_path / "packages", {})
    timing = TimingConfig(model_repository=tmp_path / "models", database=tmp_path / "t.sqlite")
    async with (
        open_store(ProfileConfig(str(tmp_path / "p.sqlite"), is_synced=False)) as store,
        Advisor(timing) as advisor,
    ):
        running = await serving_on(
            [
                (profile_grpc.add_ProfileServiceServicer_to_server, ProfileServicer(store)),
                (timing_grpc.add_TimingServiceServicer_to_server, TimingServicer(advisor)),
            ]
        )
        yield running.target


async def test_week_of_the_demo_user_peaks_on_tuesday_evening(target: str) -> None:
    week = await ask_week(target, target, user_id=12, timeout_s=10.0)
    assert week.best == TUESDAY_EVENING
    assert week.shade(TUESDAY_EVENING) == max(week.shade(hour) or 0.0 for hour in range(168))
    assert week.title == "Marina Souza (simulated), America/Sao_Paulo, 240 posts"
    assert week.evidence == "their own history"
    assert sum(rate is None for rate in week.rates) <= 1  # an hour may fall to summer time


async def test_an_unknown_user_is_told_in_words(target: str) -> None:
    with pytest.raises(CommandError, match="404"):
        await ask_week(target, target, user_id=404, timeout_s=10.0)


def week(rates: tuple[float | None, ...]) -> Week:
    return Week(
        "<Ann> & co, UTC, 3 posts", "few", rates, 43, 1.2, 2.5, "posting-times 1, simulator"
    )


@pytest.fixture
def gapped() -> Week:
    """A week in which an hour is missing and Tuesday 19:00 is best."""
    return week(tuple(None if h == 5 else 2.0 if h == 43 else h / 200 for h in range(168)))


def test_terminal_shows_seven_days_of_24_hours_without_colours(gapped: Week) -> None:
    console = Console(file=io.StringIO(), width=120, no_color=True)
    print_week(console, gapped)
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    days = {line[2:5]: line[6:] for line in lines if line[2:5] in ("Mon", "Tue", "Sun")}
    assert days["Mon"][10:12] == "··"
    assert days["Tue"][38:40] == "◆◆"
    assert lines[-1] == "best: Tue 19:00, 2.0 times the average hour (80 %: 1.2 to 2.5)"


def test_svg_has_a_cell_for_each_hour_with_its_value(gapped: Week) -> None:
    root = ElementTree.fromstring(to_svg(gapped))
    titles = [title.text for title in root.iter("{http://www.w3.org/2000/svg}title")]
    assert len(titles) == 168
    assert titles[-1] == "Tue 19:00: 2.00"  # over the others, for its border
    assert titles[5] == "Mon 05:00: no such hour in this week"
    assert "pale 0.0, dark 2.0" in to_svg(gapped)


def test_a_flat_week_has_one_shade() -> None:
    flat = week((1.0,) * 168)
    assert {flat.shade(hour) for hour in range(168)} == {0.0}
    ElementTree.fromstring(to_svg(flat))
