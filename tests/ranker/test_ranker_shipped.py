"""The file that ships, held against its bars on posts of creators who were in no training."""

import numpy as np
import pytest
from numpy.typing import NDArray

from services.ranker.features import INPUTS, RANGES, UNKNOWN, probes, to_rows, unlearned
from services.ranker.learn import columns
from services.ranker.measure import Report, report
from serving.engines.onnx import OnnxEngine
from serving.form import FORM
from simulation.audience import Family
from simulation.feed import draw_feed

SIZES = (1, 2, 3, 7, 16, 33, 500, 4096)


@pytest.fixture(scope="module", params=list(Family), ids=lambda family: family.value)
def measured(request: pytest.FixtureRequest, engine: OnnxEngine) -> Report:
    """Family A made the training posts, B none; the file has seen no post of either seed."""

    def predict(rows: NDArray[np.float32]) -> dict[str, NDArray[np.float64]]:
        found = engine.infer({"rows": rows})
        return {name: array.astype(np.float64) for name, array in found.items()}

    family: Family = request.param
    rng = np.random.default_rng([31, ord(family.value)])
    return report(predict, draw_feed(rng, 1500, 20, family))


def test_every_action_is_told_apart_nearly_as_well_as_can_be_known(measured: Report) -> None:
    for action, auc in measured.auc.items():
        assert auc >= measured.oracle_auc[action] - 0.03, action


def test_told_probabilities_come_true(measured: Report) -> None:
    assert max(measured.ece.values()) <= 0.02


def test_feeds_are_ordered_nearly_as_well_as_can_be_known(measured: Report) -> None:
    assert measured.ndcg["model"] >= 0.90 * measured.ndcg["oracle"]
    assert measured.ndcg["model"] >= 1.15 * measured.ndcg["recency"]


def test_reach_intervals_hold_four_posts_in_five_whatever_is_known_of_them(
    measured: Report,
) -> None:
    for coverage in (measured.reach_coverage, *measured.coverage_without.values()):
        assert 0.75 <= coverage <= 0.85


def test_reach_intervals_hold_for_nine_creators_in_ten(engine: OnnxEngine) -> None:
    feed = draw_feed(np.random.default_rng([31, 2]), 150, 400, Family.A)
    low, _, high = engine.infer({"rows": to_rows(columns(feed), len(feed.reach))})["reach"].T
    own = np.bincount(feed.creator, (low <= feed.reach) & (feed.reach <= high)) / 400
    chance = 2 * np.sqrt(0.8 * 0.2 / 400)
    assert (own >= 0.8 - chance).mean() >= 0.9
    assert (own >= 0.8 + chance).mean() <= 0.6


def test_intervals_of_small_and_large_accounts_are_as_wide_as_they_must_be(
    engine: OnnxEngine,
) -> None:
    feed = draw_feed(np.random.default_rng([31, 1]), 1500, 20, Family.A)
    low, middle, high = engine.infer({"rows": to_rows(columns(feed), len(feed.reach))})["reach"].T
    fifths = np.quantile(feed.follower_count, (0.2, 0.4, 0.6, 0.8))
    size = np.digitize(feed.follower_count, fifths)
    for fifth in range(5):
        mine, reach = size == fifth, feed.reach[size == fifth]
        covered = ((low[mine] <= reach) & (reach <= high[mine])).mean()
        assert covered == pytest.approx(0.84, abs=0.04)
        assert (reach < middle[mine]).mean() == pytest.approx(0.5, abs=0.06)


LEARNED = [name for name in INPUTS if name not in ("is_reply", *FORM)]


@pytest.mark.parametrize("name", LEARNED)
def test_a_contribution_is_what_the_score_loses_without_its_input(
    engine: OnnxEngine, name: str
) -> None:
    """The input is put at its median: what the score then loses goes with what was told."""
    known = columns(draw_feed(np.random.default_rng(32), 300, 20, Family.B))
    count = len(known[name])
    typical = {**known, name: np.full(count, np.median(known[name]))}
    told, without = (engine.infer({"rows": to_rows(c, count)}) for c in (known, typical))
    contribution = told["contributions"][:, INPUTS.index(name)]
    loss = told["score"][:, 0] - without["score"][:, 0]
    assert np.corrcoef(contribution, loss)[0, 1] > 0.9
    base = told["score"][:, 0] - told["contributions"].sum(axis=1)
    assert base == pytest.approx(np.full(count, base[0]), abs=0.05)


def test_no_answer_depends_on_the_size_of_its_batch(engine: OnnxEngine) -> None:
    rng = np.random.default_rng(5)
    known = columns(draw_feed(rng, 250, 20, Family.B))
    wild = {name: rng.uniform(*RANGES[name], 5000) for name in INPUTS}
    mixed = {
        n: np.where(rng.random(5000) < 0.3, wild[n], known[n]) if n in known else wild[n]
        for n in INPUTS
    }
    unknown = {n: np.where(rng.random(5000) < 0.1, UNKNOWN, mixed[n]) for n in INPUTS}
    rows = to_rows(unknown, 5000)
    whole = engine.infer({"rows": rows})
    for size in SIZES:
        for start in rng.integers(0, len(rows) - size, 20).tolist():
            part = engine.infer({"rows": rows[start : start + size]})
            for name, values in part.items():
                gap = np.abs(values - whole[name][start : start + size])
                assert gap.max() <= 1e-6, (name, size)


def test_form_of_which_simulated_posts_have_none_moves_nothing(engine: OnnxEngine) -> None:
    rng = np.random.default_rng(6)
    known = columns(draw_feed(rng, 50, 20, Family.B))
    form = {n: rng.uniform(*RANGES[n], 1000) for n in INPUTS if n not in LEARNED}
    without, told = (engine.infer({"rows": to_rows(c, 1000)}) for c in (known, known | form))
    assert all(np.array_equal(without[name], values) for name, values in told.items())
    assert unlearned(engine.infer({"rows": probes()})) == ("is_reply", *FORM)
