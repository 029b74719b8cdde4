from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.engines.choose import Candidate, choose, remembered
from serving.engines.engine import Arrays

SAMPLE = {"x": np.ones((1, 2), np.float32)}


class Clock:
    """Tells the time that fake engines spend."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class FakeEngine:
    """Doubles its input with an error, in a stated time."""

    inputs, outputs = (), ()

    def __init__(self, clock: Clock, seconds: float, error: float) -> None:
        self.clock, self.seconds, self.error = clock, seconds, error

    def infer(self, inputs: Arrays) -> dict[str, Any]:
        self.clock.now += self.seconds
        return {"y": inputs["x"] * 2 + np.float32(self.error)}


def candidate(clock: Clock, name: str, seconds: float, error: float = 0.0) -> Candidate:
    return Candidate(name, "1", lambda: FakeEngine(clock, seconds, error))


@pytest.mark.parametrize(
    ("first", "second", "chosen"), [(0.010, 0.005, "b"), (0.005, 0.010, "a"), (0.005, 0.005, "a")]
)
def test_choice_follows_the_faster_engine(first: float, second: float, chosen: str) -> None:
    clock = Clock()
    candidates = [candidate(clock, "a", first), candidate(clock, "b", second)]
    assert choose(candidates, SAMPLE, 1e-3, "k", clock).name == chosen


def test_an_engine_outside_of_the_tolerance_is_never_chosen() -> None:
    clock = Clock()
    candidates = [candidate(clock, "exact", 0.010), candidate(clock, "loose", 0.001, error=0.1)]
    choice = choose(candidates, SAMPLE, 1e-3, "k", clock)
    assert choice.name == "exact"
    assert choice.figures[1].difference == pytest.approx(0.1, rel=1e-4)


def test_nan_and_other_shapes_are_infinitely_far() -> None:
    clock = Clock()
    candidates = [candidate(clock, "a", 0.010), candidate(clock, "b", 0.001, error=float("nan"))]
    assert choose(candidates, SAMPLE, 1e9, "k", clock).name == "a"


def test_an_engine_that_does_not_load_is_reported_and_left_out() -> None:
    def fail() -> FakeEngine:
        raise RuntimeError("no such library")

    clock = Clock()
    choice = choose(
        [candidate(clock, "a", 0.01), Candidate("b", "1", fail)], SAMPLE, 1e-3, "k", clock
    )
    assert (choice.name, choice.figures[1].error) == ("a", "no such library")


def test_choice_is_remembered_until_what_it_depends_on_changes(tmp_path: Path) -> None:
    clock, file = Clock(), tmp_path / "engine.json"
    candidates = [candidate(clock, "a", 0.010)]
    first = remembered(file, candidates, SAMPLE, 1e-3, "digest")
    spent = clock.now
    assert remembered(file, candidates, SAMPLE, 1e-3, "digest") == first
    assert clock.now == spent
    remembered(file, candidates, SAMPLE, 1e-3, "other digest")
    assert clock.now > spent


def test_a_damaged_memory_is_measured_anew(tmp_path: Path) -> None:
    file = tmp_path / "engine.json"
    file.write_text("{")
    assert remembered(file, [candidate(Clock(), "a", 0.01)], SAMPLE, 1e-3, "d").name == "a"
