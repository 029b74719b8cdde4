import io
import random
import resource
import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from serving.errors import InvalidRequestError
from serving.media import ImageLimits, decode_image

LIMITS = ImageLimits()


def scene(width: int = 64, height: int = 48) -> Image.Image:
    """A red left half and a blue right half with a green top-left corner."""
    image = Image.new("RGB", (width, height), "red")
    image.paste("blue", (width // 2, 0, width, height))
    image.paste("lime", (0, 0, width // 4, height // 4))
    return image


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def refusal(content: bytes, limits: ImageLimits = LIMITS) -> str:
    with pytest.raises(InvalidRequestError) as error:
        decode_image(content, limits)
    return str(error.value)


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds nothing more."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    checked = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + checked + struct.pack(">I", 0) + b"IDAT" + b"\0\0\0\0"


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
def test_each_format_of_the_contract_decodes_to_upright_rgb(kind: str) -> None:
    decoded = decode_image(encoded(scene(), kind), LIMITS)

    assert (decoded.format, decoded.width_px, decoded.height_px) == (kind, 64, 48)
    assert decoded.pixels.shape == (48, 64, 3)
    assert decoded.pixels.dtype == np.uint8
    assert decoded.pixels[40, 10].argmax() == 0
    assert decoded.pixels[40, 50].argmax() == 2


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_undone(orientation: int) -> None:
    undo: dict[int, Callable[[Image.Image], Image.Image]] = {
        1: lambda image: image,
        2: lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        3: lambda image: image.transpose(Image.Transpose.ROTATE_180),
        4: lambda image: image.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
        5: lambda image: image.transpose(Image.Transpose.TRANSPOSE),
        6: lambda image: image.transpose(Image.Transpose.ROTATE_90),
        7: lambda image: image.transpose(Image.Transpose.TRANSVERSE),
        8: lambda image: image.transpose(Image.Transpose.ROTATE_270),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = undo[orientation](scene())

    decoded = decode_image(encoded(stored, "PNG", exif=exif), LIMITS)

    assert (decoded.width_px, decoded.height_px) == (64, 48)
    assert np.array_equal(decoded.pixels, np.asarray(scene()))


def test_alpha_is_composited_on_white() -> None:
    clear = Image.new("RGBA", (32, 32), (255, 0, 0, 0))
    half = Image.new("RGBA", (32, 32), (255, 0, 0, 128))
    assert decode_image(encoded(clear), LIMITS).pixels[0, 0].tolist() == [255, 255, 255]
    assert decode_image(encoded(half), LIMITS).pixels[0, 0].tolist() == pytest.approx(
        [255, 127, 127], abs=1
    )
    assert decode_image(encoded(clear.convert("LA")), LIMITS).pixels[0, 0].min() == 255


def test_palette_with_a_transparent_colour_is_composited_on_white() -> None:
    image = Image.new("P", (32, 32), 0)
    image.putpalette([10, 20, 30, 200, 100, 50])
    assert decode_image(encoded(image), LIMITS).pixels[0, 0].tolist() == [10, 20, 30]
    assert decode_image(encoded(image, transparency=0), LIMITS).pixels[0, 0].min() == 255


def test_sixteen_bit_grayscale_keeps_its_brightness() -> None:
    gray = Image.fromarray(np.full((32, 32), 0x8000, np.uint16))
    assert decode_image(encoded(gray), LIMITS).pixels[0, 0].tolist() == [128, 128, 128]


@pytest.mark.parametrize("mode", ["1", "L", "CMYK", "YCbCr"])
def test_other_colour_modes_become_rgb(mode: str) -> None:
    kind = "PNG" if mode == "1" else "JPEG"
    white = Image.new("RGB", (32, 32), "white").convert(mode)
    decoded = decode_image(encoded(white, kind), LIMITS)
    assert decoded.pixels.shape == (32, 32, 3)
    assert decoded.pixels.min() >= 254


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_animation_gives_its_first_frame(kind: str) -> None:
    frames = [Image.new("RGB", (32, 32), colour) for colour in ("red", "blue", "lime")]
    animated = encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=50)
    assert decode_image(animated, LIMITS).pixels[16, 16].argmax() == 0


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize(
    ("enough_px", "side"), [(None, 1024), (1000, 1024), (512, 512), (300, 512), (64, 64)]
)
def test_large_image_is_reduced_no_further_than_is_enough(
    kind: str, enough_px: int | None, side: int
) -> None:
    decoded = decode_image(encoded(scene(1536, 1024), kind), LIMITS, enough_px)
    assert decoded.pixels.shape == (side, side * 3 // 2, 3)
    assert (decoded.width_px, decoded.height_px) == (1536, 1024)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "image is 0 B, expected 1 B to 8 MiB"),
        (b"\0" * (8 * 1024 * 1024 + 1), "image is 8.1 MiB, expected 1 B to 8 MiB"),
        (b"no image at all", "image is 15 B of an unknown format, expected JPEG, PNG, WebP or GIF"),
        (encoded(scene(), "BMP"), "image is 9.1 KiB of an unknown format, expected JPEG, PNG, "),
        (png_header(30_000, 30_000), "image is 30000 x 30000 px, at most 4096 px a side"),
        (png_header(4097, 16), "image is 4097 x 16 px, at most 4096 px a side"),
        (encoded(scene(64, 15)), "image is 64 x 15 px, at least 16 px a side"),
        (png_header(64, 64), "image is a damaged PNG of 45 B, expected a complete file"),
    ],
)
def test_refusal_names_field_value_and_limit(content: bytes, message: str) -> None:
    assert refusal(content).startswith(message)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
def test_truncated_file_is_refused(kind: str) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)
    content = encoded(Image.fromarray(noise), kind)
    assert "damaged" in refusal(content[: len(content) // 2])


def test_jpeg_of_thousands_of_scans_is_refused() -> None:
    content = encoded(scene(), "JPEG")
    assert "3001 scans, at most 100" in refusal(content + b"\xff\xda" * 3000)


def test_file_of_very_many_parts_is_refused() -> None:
    content = encoded(scene(), "JPEG")
    comment = b"\xff\xfe" + struct.pack(">H", 3) + b"x"
    assert "in thousands of parts" in refusal(content[:2] + comment * 30_000 + content[2:])
    assert decode_image(content[:2] + comment * 1000 + content[2:], LIMITS).format == "JPEG"


def test_palette_image_without_a_palette_is_refused() -> None:
    content = encoded(scene().quantize(4), "PNG")
    start, end = content.index(b"PLTE") - 4, content.index(b"IDAT") - 4
    assert "damaged" in refusal(content[:start] + content[end:])


def test_file_is_judged_by_its_content_and_the_field_is_named() -> None:
    with pytest.raises(InvalidRequestError, match=r"requests\[3\]\.image is 5 B of an unknown"):
        decode_image(b"hello", LIMITS, field="requests[3].image")


def test_limits_that_allow_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="allows no image"):
        ImageLimits(min_side_px=10, max_side_px=9)


def test_bombs_cost_no_memory() -> None:
    refusal(png_header(30_000, 30_000))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for side in (4097, 30_000, 2**31 - 1):
        refusal(png_header(side, side))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 8 * 1024  # KiB


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
def test_altered_bytes_give_an_image_or_a_refusal_and_nothing_else(kind: str) -> None:
    dice = random.Random(7)
    whole = encoded(scene(), kind)
    for _ in range(300):
        content = bytearray(whole)
        for _ in range(dice.randint(1, 12)):
            content[dice.randrange(len(content))] = dice.randrange(256)
        try:
            assert decode_image(bytes(content), LIMITS).pixels.ndim == 3
        except InvalidRequestError as error:
            assert str(error).startswith("image is")


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_picture_that_is_reduced_by_strips_is_the_picture_that_is_reduced_as_a_whole(
    mode: str,
) -> None:
    rng = np.random.default_rng(2)
    small = Image.fromarray(rng.integers(0, 256, (27, 31, 4), np.uint8))
    large = small.resize((1300, 1211), Image.Resampling.BICUBIC)
    if mode == "I;16":
        image = Image.fromarray(np.asarray(large.convert("L")).astype(np.uint16) << 8)
        expected = large.convert("L").reduce(4).convert("RGB")
    else:
        image = large.convert("RGB").convert(mode) if mode == "P" else large.convert(mode)
        plain = image.convert("RGB") if mode in ("P", "L") else image.convert("RGBA")
        plain = image if mode == "RGB" else plain
        expected = plain.reduce(4)
        if expected.mode == "RGBA":
            paper = Image.new("RGBA", expected.size, "white")
            expected = Image.alpha_composite(paper, expected).convert("RGB")
    found = decode_image(encoded(image, "PNG", compress_level=0), LIMITS, 302).pixels
    assert np.array_equal(found, np.asarray(expected))


def test_webp_that_would_take_too_much_memory_is_refused() -> None:
    largest, next_larger = (Image.new("RGB", (4096, side)) for side in (3072, 3073))
    fast = {"method": 0, "quality": 1}
    assert decode_image(encoded(largest, "WEBP", **fast), LIMITS, 256).pixels.shape[0] == 384
    message = "image is a WebP of 4096 x 3073 px, at most 12582912 px in all"
    assert refusal(encoded(next_larger, "WEBP", **fast)).startswith(message)


def test_colour_profile_is_ignored() -> None:
    plain = decode_image(encoded(scene()), LIMITS).pixels
    assert np.array_equal(
        decode_image(encoded(scene(), icc_profile=b"profile"), LIMITS).pixels, plain
    )
