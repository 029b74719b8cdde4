"""What an answer tells of itself, against the simulator's truth: the tables that are shipped."""

import numpy as np
import pytest

from bench.confidence import measure
from bench.stand_ins.graph_in_process import ALONE, COMPANIES, Answers
from bench.stand_ins.simulated_posts import draw_posts
from serving.training.reliability import bins_of, expected_error


def error_of(parts: list[Answers]) -> float:
    """The calibration error of answers together."""
    told = np.concatenate([part.told for part in parts])
    right = np.concatenate([part.right for part in parts])
    return expected_error(bins_of(told, right, np.ones(len(told))))


async def test_confidence_is_honest_whole_and_without_each_node() -> None:
    found = await measure(3, 60, [(), *ALONE])
    assert error_of(list(found.values())) <= 0.05
    for away, answers in found.items():
        assert abs(answers.gap) <= 0.08, away  # of so few posts 95 % lie within 0.06 of themselves


@pytest.mark.prove
async def test_confidence_is_honest_without_every_company_of_nodes() -> None:
    found = await measure(4, 1000, COMPANIES)
    assert error_of([answers for away, answers in found.items() if away]) <= 0.03
    for away, answers in found.items():
        assert abs(answers.gap) <= 0.05, away
        assert error_of([answers]) <= 0.05, away


def test_what_is_right_varies_with_the_score_and_the_hour() -> None:
    posts = draw_posts(5, 200)
    hours = posts.world.feed.hour_of_week
    near = posts.chance_of_right(np.full(200, 50.0), hours)
    far = posts.chance_of_right(np.full(200, 150.0), hours)
    assert 0.2 < near.mean() < 0.6  # two fifths of all posts lie from 30 to 70
    assert not far.any()
