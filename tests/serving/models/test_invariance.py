from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.engines.engine import Arrays, TensorSpec
from serving.engines.onnx import OnnxEngine
from serving.engines.ragged import Ragged, RaggedEngine
from serving.models.artifacts import DEFAULT_REPOSITORY, Manifest, manifests_in, open_artifact
from serving.models.invariance import Answer, InvarianceError, check_invariance, rows_of
from tests.serving.tiny_models import write_linear, write_ragged

TEXTS = ["a", "of a certain length", "short", "the longest one of them all", "x y", "six words"]


def vector(character: str) -> float:
    return ord(character) / 128


def mean_with_a_mask(texts: Sequence[str]) -> Sequence[Answer]:
    """Pads to the longest text and leaves the padding out of the mean."""
    longest = max(map(len, texts))
    padded = np.array([[*map(vector, text.ljust(longest, "\0"))] for text in texts])
    lengths = np.array([len(text) for text in texts])
    return [{"y": np.array([row.sum() / n])} for row, n in zip(padded, lengths, strict=True)]


def mean_over_the_padding(texts: Sequence[str]) -> Sequence[Answer]:
    """The same, but the padding counts: a short text's answer depends on its mates."""
    longest = max(map(len, texts))
    padded = np.array([[*map(vector, text.ljust(longest, "\0"))] for text in texts])
    return [{"y": row.mean(keepdims=True)} for row in padded]


def check(run: Any, items: Any, tolerance: float = 1e-6) -> Any:
    return check_invariance(run, items, tolerance=tolerance, max_batch_rows=4)


def test_padding_behind_a_mask_passes() -> None:
    assert check(mean_with_a_mask, TEXTS).value < 1e-12


def test_padding_that_leaks_fails_and_the_worst_case_is_named() -> None:
    with pytest.raises(
        InvarianceError, match=r"y of item \d differs by .* in batch \(\d"
    ) as caught:
        check(mean_over_the_padding, TEXTS)
    assert "tolerance 1e-06" in str(caught.value)


def test_a_difference_within_the_tolerance_passes_and_is_told() -> None:
    worst = check(mean_over_the_padding, TEXTS, tolerance=1.0)
    assert 0 < worst.value < 1
    assert worst.item in worst.batch


class Centred:
    """An engine that takes the batch's mean away: the classic mistake."""

    inputs = (TensorSpec("x", np.dtype(np.float32), (-1, 2)),)
    outputs = (TensorSpec("y", np.dtype(np.float32), (-1, 2)),)

    def infer(self, inputs: Arrays) -> dict[str, Any]:
        return {"y": inputs["x"] - inputs["x"].mean(axis=0)}


def rows(count: int, width: int) -> list[dict[str, Any]]:
    chance = np.random.default_rng(1)
    return [{"x": chance.random((1 + i % 2, width), np.float32)} for i in range(count)]


def test_an_engine_with_a_statistic_over_the_batch_fails() -> None:
    with pytest.raises(InvarianceError):
        check(rows_of(Centred()), rows(6, 2))


def test_an_engine_that_keeps_rows_apart_passes(tmp_path: Path) -> None:
    engine = OnnxEngine(write_linear(tmp_path / "model.onnx"))
    assert check(rows_of(engine), rows(6, 3)).value == 0


@pytest.mark.parametrize("leaks", [False, True])
def test_rows_of_a_ragged_engine_are_kept_apart_or_it_fails(tmp_path: Path, leaks: bool) -> None:
    ragged = Ragged(("ids",), {"ends": "accumulated_element_count"}, ("each",))
    path = write_ragged(tmp_path / "model.onnx", leaks=leaks)
    run = rows_of(RaggedEngine(OnnxEngine(path), ragged))
    sizes = [(1, 0), (1, 3), (2, 7), (2, 1), (1, 7), (3, 3)]
    items = [{"ids": np.arange(count * length).reshape(count, length)} for count, length in sizes]
    if leaks:
        with pytest.raises(InvarianceError, match="each of item"):
            check(run, items)
    else:
        assert check(run, items).value == 0


@pytest.mark.parametrize(
    ("alone", "together"),
    [
        (np.zeros(2), np.zeros(3)),
        (np.array([np.nan]), np.array([1.0])),
        (np.array([np.inf]), np.array([-np.inf])),
        (np.array(["a"], object), np.array(["b"], object)),
        (np.array([True]), np.array([False])),
    ],
)
def test_what_cannot_be_close_is_infinitely_far(alone: Any, together: Any) -> None:
    def run(items: Sequence[int]) -> Sequence[Answer]:
        return [{"y": alone if len(items) == 1 else together} for _ in items]

    with pytest.raises(InvarianceError, match="differs by inf"):
        check(run, [0, 1], tolerance=1e9)


@pytest.mark.parametrize("value", [np.nan, np.inf, 2**53])
def test_the_same_is_no_difference(value: float) -> None:
    assert check(lambda items: [{"y": np.array([value])} for _ in items], [0, 1]).value == 0


def test_every_item_meets_others_in_batches_of_every_size() -> None:
    seen: list[tuple[int, ...]] = []

    def run(items: Sequence[int]) -> Sequence[Answer]:
        seen.append(tuple(items))
        return [{"y": np.array([item])} for item in items]

    check(run, list(range(7)))
    for size in (2, 3, 4):
        assert {item for batch in seen if len(batch) == size for item in batch} == set(range(7))


def served_models() -> list[Manifest]:
    if not DEFAULT_REPOSITORY.is_dir():
        return []
    return [m for m in manifests_in(DEFAULT_REPOSITORY) if m.file.endswith(".onnx")]


@pytest.mark.prove
@pytest.mark.parametrize("manifest", served_models(), ids=lambda manifest: manifest.name)
def test_each_model_that_is_served_answers_alone_as_in_a_batch(manifest: Manifest) -> None:
    engine = OnnxEngine(open_artifact(DEFAULT_REPOSITORY, manifest.name, manifest.version).path)
    chance = np.random.default_rng(7)

    def row() -> dict[str, Any]:
        return {
            spec.name: chance.random((1, *(max(1, size) for size in spec.shape[1:]))).astype(
                spec.dtype
            )
            for spec in engine.inputs
        }

    worst = check_invariance(
        rows_of(engine),
        [row() for _ in range(6)],
        tolerance=manifest.tolerance,
        max_batch_rows=4,
        rounds=1,
    )
    print(f"{manifest.name}: {worst.value:.1e} of {manifest.tolerance:.1e}")
