import pytest

from tests.serving.scheduling.schedules import run_schedule
from tests.virtual_time import run_virtually


async def play(seeds: range) -> None:
    for seed in seeds:
        try:
            await run_schedule(seed)
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise


def test_promises_hold_on_five_thousand_random_schedules() -> None:
    run_virtually(play(range(5_000)))


@pytest.mark.prove
def test_promises_hold_on_a_hundred_thousand_random_schedules() -> None:
    run_virtually(play(range(5_000, 105_000)))


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("CRITICAL")
