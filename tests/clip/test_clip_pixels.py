import numpy as np
import pytest

from services.clip.pixels import look


def flat(colour: tuple[int, int, int], width: int = 120, height: int = 100) -> np.ndarray:
    return np.full((height, width, 3), colour, np.uint8)


def labels(pixels: np.ndarray) -> dict[str, float]:
    return {tag.label: tag.probability for tag in look(pixels)[0]}


@pytest.mark.parametrize(
    ("colour", "name"),
    [
        ((200, 30, 20), "red"),
        ((240, 140, 20), "orange"),
        ((120, 70, 10), "brown"),
        ((230, 220, 30), "yellow"),
        ((40, 180, 60), "green"),
        ((30, 60, 200), "blue"),
        ((140, 40, 200), "purple"),
        ((240, 60, 160), "pink"),
    ],
)
def test_dominant_colour_is_named_with_its_share(colour: tuple[int, int, int], name: str) -> None:
    pixels = flat(colour)
    assert labels(pixels) == {f"{name} tones": 1.0}
    pixels[:, :70] = (210, 210, 212)
    assert labels(pixels) == {}


def test_gray_picture_is_black_and_white_and_has_no_colour() -> None:
    ramp = np.repeat(np.arange(120, dtype=np.uint8)[None, :, None], 3, axis=2).repeat(100, axis=0)
    assert labels(ramp) == {"black-and-white": 1.0}


def test_dark_picture_with_lights_is_night_and_without_is_not() -> None:
    dark = flat((20, 10, 30))
    assert "night" not in labels(dark)
    dark[40:60, 50:70] = (250, 240, 200)
    assert labels(dark)["night"] > 0.9


def test_wide_picture_is_a_panorama_and_a_narrow_crop_is_not() -> None:
    assert "panorama" in labels(flat((128, 90, 100), 800, 400))
    assert "panorama" not in labels(flat((128, 90, 100), 800, 401))
    assert "panorama" not in labels(flat((128, 90, 100), 400, 100))


def test_palette_counts_colours_and_its_shares_add_up() -> None:
    pixels = flat((10, 20, 30))
    pixels[:25] = (200, 100, 50)
    _, (first, second) = look(pixels)
    assert (first.hex, second.hex) == ("#0a141e", "#c86432")
    assert first.share == pytest.approx(0.75, abs=0.02)
    assert first.share + second.share == pytest.approx(1)


def test_palette_has_at_most_five_colours() -> None:
    noise = np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)
    _, colours = look(noise)
    assert 1 <= len(colours) <= 5
    assert [c.share for c in colours] == sorted((c.share for c in colours), reverse=True)
