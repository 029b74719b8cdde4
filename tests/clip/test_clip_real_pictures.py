import io

import numpy as np
import pytest
from PIL import Image

from services.clip.vit.errors import CheckpointError
from services.clip.vit.pictures import Pictures
from tests.clip.conftest import ReadPhoto


@pytest.mark.parametrize(
    ("name", "pixels"), [("china.jpg", (427, 640)), ("rocket.jpg", (427, 640))]
)
def test_cut_is_the_centre_of_the_whole_picture_resized(
    name: str, pixels: tuple[int, int], photo: ReadPhoto
) -> None:
    picture = np.asarray(Image.open(io.BytesIO(photo(name))))
    assert picture.shape[:2] == pixels
    for upright in (picture, np.ascontiguousarray(picture.transpose(1, 0, 2))):
        cut = Pictures(224, 224).cut(upright)
        height, width = upright.shape[:2]
        size = (224 * width // min(pixels), 224 * height // min(pixels))
        whole = np.asarray(Image.fromarray(upright).resize(size, Image.Resampling.BICUBIC))
        top, left = (whole.shape[0] - 224) // 2, (whole.shape[1] - 224) // 2
        assert np.array_equal(cut, whole[top : top + 224, left : left + 224])


def test_cut_of_a_larger_resize_leaves_a_margin() -> None:
    picture = np.zeros((300, 300, 3), np.uint8)
    picture[30:-30, 30:-30] = 255  # a tenth on each side
    assert (Pictures(224, 280).cut(picture)[2:-2, 2:-2] == 255).all()
    assert (Pictures(224, 224).cut(picture)[:20] == 0).all()


@pytest.mark.parametrize(
    ("side_px", "shortest_px", "deviation", "message"),
    [
        (224, 200, (1.0, 1.0, 1.0), "a crop of 224 px from 200 px"),
        (224, 224, (1.0, 0.0, 1.0), "of 3 colours"),
        (224, 224, (1.0, 1.0), "of 3 colours"),
    ],
)
def test_preprocessing_that_cannot_be_is_refused(
    side_px: int, shortest_px: int, deviation: tuple[float, ...], message: str
) -> None:
    with pytest.raises(CheckpointError, match=message):
        Pictures(side_px, shortest_px, deviation=deviation)
