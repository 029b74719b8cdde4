from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.ranker.export import to_onnx
from services.ranker.features import COLUMN_COUNT, INPUTS, RANGES, UNKNOWN, to_rows
from services.ranker.fit import fit_basis, log_linear, logistic, quantile
from services.ranker.heads import Heads
from services.ranker.learn import columns, examples, fit_confidence, hide, is_right, learn
from services.ranker.measure import Report, report
from serving.engines.onnx import OnnxEngine
from simulation.audience import Family
from simulation.feed import draw_feed

ROWS = st.lists(
    st.tuples(*(st.one_of(st.just(UNKNOWN), st.floats(*RANGES[name])) for name in INPUTS)),
    min_size=1,
    max_size=20,
)


@pytest.fixture(scope="module")
def heads() -> Heads:
    """A ranker trained on few posts, quickly."""
    rng = np.random.default_rng(1)
    feed = draw_feed(rng, 700, 10, Family.A)
    inputs = columns(feed)
    learned = learn(examples(feed, hide(rng, inputs)), examples(feed, inputs))
    rows = to_rows(hide(rng, inputs), len(feed.reach))
    right = is_right(learned.predict(rows)["score"][:, 0], feed.true_rates)
    return replace(learned, confidence=fit_confidence(learned, rows, right))


@pytest.fixture(scope="module")
def report_on(heads: Heads) -> Report:
    return report(heads.predict, draw_feed(np.random.default_rng(2), 600, 20, Family.A))


def test_graph_computes_what_the_heads_say(
    heads: Heads, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    path.write_bytes(to_onnx(heads))
    feed = draw_feed(np.random.default_rng(3), 50, 10, Family.B)
    rows = to_rows(hide(np.random.default_rng(4), columns(feed)), 500)
    found, expected = OnnxEngine(path).infer({"rows": rows}), heads.predict(rows)
    assert found["score"] == pytest.approx(expected["score"], abs=0.05)
    for name in ("actions", "log_value", "reach", "confidence"):
        assert found[name] == pytest.approx(expected[name], rel=2e-3, abs=2e-4), name


def test_equal_heads_give_equal_bytes(heads: Heads) -> None:
    assert to_onnx(heads) == to_onnx(heads)


@settings(max_examples=60, deadline=None)
@given(posts=ROWS)
def test_answers_keep_to_their_ranges_and_add_up(
    engine: OnnxEngine, posts: list[tuple[float, ...]]
) -> None:
    rows = to_rows(dict(zip(INPUTS, np.array(posts).T, strict=True)), len(posts))
    found = engine.infer({"rows": rows})
    score = found["score"][:, 0]
    assert (score >= -1e-3).all() and (score <= 100 + 1e-3).all()
    assert ((found["actions"] > 0) & (found["actions"] < 1)).all()
    assert ((found["confidence"] >= 0) & (found["confidence"] <= 1)).all()
    assert (np.diff(found["reach"], axis=1) > 0).all()
    from_average = score - found["contributions"].sum(axis=1)
    assert from_average == pytest.approx(from_average[0], abs=0.05)


@settings(max_examples=40, deadline=None)
@given(posts=ROWS, data=st.data())
def test_an_answer_does_not_depend_on_its_batch_mates(
    engine: OnnxEngine, posts: list[tuple[float, ...]], data: st.DataObject
) -> None:
    rows = to_rows(dict(zip(INPUTS, np.array(posts).T, strict=True)), len(posts))
    row = data.draw(st.integers(0, len(posts) - 1))
    together, alone = engine.infer({"rows": rows}), engine.infer({"rows": rows[row : row + 1]})
    for name, values in together.items():
        assert values[row] == pytest.approx(alone[name][0], rel=1e-5, abs=1e-5), name


def test_a_poisoned_row_leaves_the_others_alone(engine: OnnxEngine) -> None:
    rows = np.zeros((3, COLUMN_COUNT), dtype=np.float32)
    rows[1] = np.nan
    found = engine.infer({"rows": rows})
    assert np.isnan(found["actions"][1]).all()
    assert np.array_equal(found["actions"][0], found["actions"][2])


def test_better_pictures_never_lower_the_score(engine: OnnxEngine) -> None:
    quality = np.linspace(1.0, 9.5, 18)
    found = engine.infer({"rows": to_rows({"quality_score": quality}, len(quality))})
    assert (np.diff(found["score"][:, 0]) > -0.2).all()
    assert found["score"][-1, 0] - found["score"][0, 0] > 15


def test_an_unknown_profile_costs_confidence(engine: OnnxEngine) -> None:
    known = {name: np.array([float(np.mean(RANGES[name]))]) for name in INPUTS}
    known |= {"follower_count": np.array([900.0]), "avg_engagement": np.array([0.08])}
    known |= {"caption_length": np.array([80.0]), "tag_count": np.array([4.0])}
    unknown = {**known, "avg_engagement": np.array([UNKNOWN])}
    told = [
        engine.infer({"rows": to_rows(inputs, 1)})["confidence"][0, 0]
        for inputs in (known, unknown)
    ]
    assert told[1] < told[0] - 0.1


def test_model_is_near_the_oracle_of_what_is_knowable(report_on: Report) -> None:
    for action, auc in report_on.auc.items():
        assert auc >= report_on.oracle_auc[action] - 0.03
        assert report_on.ece[action] <= 0.02
    assert report_on.ndcg["model"] >= 0.9 * report_on.ndcg["oracle"]
    assert report_on.ndcg["model"] >= 1.15 * report_on.ndcg["recency"]


def test_confidence_and_intervals_are_calibrated(report_on: Report) -> None:
    assert report_on.confidence == pytest.approx(report_on.right, abs=0.03)
    assert report_on.reach_coverage == pytest.approx(0.8, abs=0.03)
    for node, right in report_on.right_without.items():
        assert report_on.confidence_without[node] == pytest.approx(right, abs=0.05)
        assert right <= report_on.right + 0.01


def test_regressions_find_what_made_the_data() -> None:
    rng = np.random.default_rng(5)
    design = np.column_stack([rng.normal(size=20_000), np.ones(20_000)])
    linear = design @ np.array([0.5, -1.0])
    ones = np.ones(20_000)
    share = rng.binomial(10, 1 / (1 + np.exp(-linear))) / 10
    assert logistic(design, share, ones * 10) == pytest.approx([0.5, -1.0], abs=0.05)
    counts = rng.poisson(np.exp(linear)).astype(float)
    assert log_linear(design, counts, ones) == pytest.approx([0.5, -1.0], abs=0.05)
    noisy = linear + rng.exponential(size=20_000)
    assert quantile(design, noisy, 0.9) == pytest.approx([0.5, -1.0 + np.log(10)], abs=0.1)


def test_knots_lie_within_the_data() -> None:
    rows = to_rows(columns(draw_feed(np.random.default_rng(6), 30, 10, Family.A)), 300)
    basis = fit_basis(rows)
    assert basis.design(rows).shape == (300, basis.size + 1)
    assert (basis.knots >= rows[:, basis.columns].min(axis=0)).all()
