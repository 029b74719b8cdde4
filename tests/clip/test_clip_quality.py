import numpy as np
import pytest
from PIL import Image

from bench.clip.damage import LADDERS, half, jpeg, photographs, rank_correlation
from services.clip import quality
from services.clip.composition import balance

# Sharp, soft, bright, dark, grey and textured ones.
FEW = (
    "coffee.png",
    "quokka.jpg",
    "camera.png",
    "imagenet_16_251.jpg",
    "imagenet_03_990.jpg",
    "t1.jpg",
)
ASPECT = {
    "blur": "sharpness",
    "noise": "noise",
    "JPEG": "compression",
    "low light": "contrast",
    "over-exposure": "exposure",
    "low contrast": "contrast",
}


def score(image: Image.Image) -> float:
    return quality.assess(np.asarray(image)).score


@pytest.fixture(scope="module")
def images() -> dict[str, Image.Image]:
    return photographs(FEW)


@pytest.mark.parametrize("kind", LADDERS)
@pytest.mark.parametrize("name", FEW)
def test_score_falls_with_each_step_of_damage(
    name: str, kind: str, images: dict[str, Image.Image]
) -> None:
    steps = LADDERS[kind][1::2]
    scores = [score(image) for image in (images[name], *(step(images[name]) for step in steps))]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] - scores[-1] > 0.5


@pytest.mark.parametrize("kind", LADDERS)
def test_each_damage_lowers_its_aspect(kind: str, images: dict[str, Image.Image]) -> None:
    for name in FEW[:3]:
        damaged = quality.assess(np.asarray(LADDERS[kind][-1](images[name]))).aspects
        whole = quality.assess(np.asarray(images[name])).aspects
        assert damaged[ASPECT[kind]] < whole[ASPECT[kind]] - 0.5


@pytest.mark.parametrize(
    "name", ["quokka.jpg", "imagenet_16_251.jpg", "imagenet_03_990.jpg", "t1.jpg"]
)
def test_half_the_size_or_a_good_jpeg_scores_the_same(
    name: str, images: dict[str, Image.Image]
) -> None:
    original = score(images[name])
    assert score(half(images[name])) == pytest.approx(original, abs=0.3)
    assert score(jpeg(images[name], 90)) == pytest.approx(original, abs=0.3)


@pytest.mark.prove
@pytest.mark.parametrize("kind", LADDERS)
def test_rank_correlation_with_damage_is_at_least_nine_tenths(kind: str) -> None:
    """All photographs and steps; `bench/clip_quality.py` writes the same as a table."""
    images = photographs()
    assert len(images) >= 20
    ladders = [
        [score(image), *(score(step(image)) for step in LADDERS[kind])] for image in images.values()
    ]
    assert np.mean([rank_correlation(scores) for scores in ladders]) >= 0.90
    beaten = [step < scores[0] for scores in ladders for step in scores[1:]]
    assert np.mean(beaten) >= 0.97


@pytest.mark.parametrize("size", [(16, 16), (17, 4096), (4096, 16), (33, 47), (767, 767)])
@pytest.mark.parametrize("level", [0, 128, 255])
def test_flat_pictures_of_any_size_have_a_finite_and_poor_quality(
    size: tuple[int, int], level: int
) -> None:
    judged = quality.assess(np.full((*size, 3), level, np.uint8))
    assert 0 <= judged.score < 1
    assert all(0 <= value <= 10 for value in judged.aspects.values())


def blob(x: float, y: float) -> np.ndarray:
    """A bright disc on an even ground; x and y are its centre as shares of the sides."""
    rows, columns = np.mgrid[:256, :256]
    ground = 0.5 + 0.02 * np.random.default_rng(0).standard_normal((256, 256))
    ground[(columns - x * 256) ** 2 + (rows - y * 256) ** 2 < 400] = 0.9
    return ground.astype(np.float32)


def test_subject_sits_well_in_the_middle_or_on_thirds_and_badly_when_cut_off() -> None:
    assert min(balance(blob(x, y)) for x, y in ((0.5, 0.5), (1 / 3, 1 / 3), (2 / 3, 1 / 3))) > 0.9
    assert balance(blob(0.5, 0.1)) < 0.7
    assert max(balance(blob(x, y)) for x, y in ((0.0, 0.5), (0.02, 0.02))) < 0.3


def test_composition_is_told_and_not_counted(images: dict[str, Image.Image]) -> None:
    judged = quality.assess(np.asarray(images["coffee.png"]))
    counted = [value / 10 for name, value in judged.aspects.items() if name != "composition"]
    assert judged.score == pytest.approx(10 * np.prod(counted))
