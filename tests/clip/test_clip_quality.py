import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageFilter

from services.clip import quality
from services.clip.brisque import Brisque, features
from tests.clip.conftest import ReadPhoto

# Every photograph of the list but one: the Hubble field is black sky, which a stop more improves.
NAMES = [
    "coffee.png", "china.jpg", "chelsea.png", "flower.jpg", "rocket.jpg", "motorcycle_left.png",
    "motorcycle_right.png", "quokka.jpg", "camera.png", "astronaut.png", "page.png", "text.png",
    "coins.png", "retina.jpg", "moon.png", "ihc.png",
]  # fmt: skip


def levels(image: Image.Image, change: Callable[[np.ndarray], np.ndarray]) -> Image.Image:
    changed = change(np.asarray(image).astype(np.float32))
    return Image.fromarray(np.clip(changed + 0.5, 0, 255).astype(np.uint8))


def crushed(image: Image.Image) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=8)
    return Image.open(buffer).convert("RGB")


def noisy(image: Image.Image) -> Image.Image:
    size = (image.height, image.width, 3)
    return levels(image, lambda x: x + np.random.default_rng(0).normal(0, 25, size))


DAMAGE: dict[str, Callable[[Image.Image], Image.Image]] = {
    "blurred": lambda image: image.filter(ImageFilter.GaussianBlur(3)),
    "noisy": noisy,
    "crushed": crushed,
    "dark": lambda image: levels(image, lambda x: 0.25 * x),
    "over-exposed": lambda image: levels(image, lambda x: 3.5 * x),
    "low contrast": lambda image: levels(image, lambda x: 128 + 0.3 * (x - 128)),
}


@pytest.mark.parametrize("name", NAMES)
def test_original_beats_every_damaged_copy(name: str, photo: ReadPhoto, brisque: Brisque) -> None:
    original = Image.open(io.BytesIO(photo(name))).convert("RGB")
    copies = {kind: damage(original) for kind, damage in DAMAGE.items()}
    scores = {
        kind: quality.assess(np.asarray(copy), brisque).score for kind, copy in copies.items()
    }

    best = quality.assess(np.asarray(original), brisque).score

    assert {kind: score for kind, score in scores.items() if score >= best} == {}
    assert all(0 <= score <= 10 for score in scores.values())


@pytest.mark.parametrize(
    ("kind", "aspect"),
    [
        ("blurred", "sharpness"),
        ("noisy", "noise"),
        ("crushed", "compression"),
        ("dark", "exposure"),
        ("over-exposed", "exposure"),
        ("low contrast", "contrast"),
    ],
)
def test_each_damage_lowers_its_aspect(
    kind: str, aspect: str, photo: ReadPhoto, brisque: Brisque
) -> None:
    for name in ("coffee.png", "astronaut.png", "quokka.jpg"):
        original = Image.open(io.BytesIO(photo(name))).convert("RGB")
        damaged = quality.assess(np.asarray(DAMAGE[kind](original)), brisque)
        whole = quality.assess(np.asarray(original), brisque)
        assert damaged.aspects[aspect] < whole.aspects[aspect] - 0.5


@pytest.mark.parametrize(
    ("name", "score"),
    [("astronaut.png", 10.79), ("chelsea.png", 2.87), ("coins.png", -1.52), ("china.jpg", 14.50)],
)
def test_brisque_agrees_with_the_package_it_was_taken_from(
    name: str, score: float, photo: ReadPhoto, brisque: Brisque
) -> None:
    """The scores are those of brisque 0.2.0's features with scipy 1.17.1 and OpenCV 5.0.0.93."""
    pixels = np.asarray(Image.open(io.BytesIO(photo(name))).convert("RGB"))
    gray = (pixels @ quality.LUMINANCE) / np.float32(255)
    assert brisque.score(gray) == pytest.approx(score, abs=0.02)


@pytest.mark.parametrize("size", [(16, 16), (17, 4096), (4096, 16), (33, 47), (767, 767)])
@pytest.mark.parametrize("level", [0, 128, 255])
def test_flat_pictures_of_any_size_have_a_finite_and_poor_quality(
    size: tuple[int, int], level: int, brisque: Brisque
) -> None:
    flat = np.full((*size, 3), level, np.uint8)
    judged = quality.assess(flat, brisque)
    assert 0 <= judged.score < 1
    assert all(0 <= value <= 10 for value in judged.aspects.values())


def test_features_are_36_finite_numbers_even_for_extremes() -> None:
    checker = (np.indices((16, 16)).sum(axis=0) % 2).astype(np.float32)
    for gray in (checker, 1 - checker, np.zeros((16, 16), np.float32)):
        found = features(gray)
        assert found.shape == (36,)
        assert np.isfinite(found).all()
