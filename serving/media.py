"""Decodes one encoded image under limits that hold before a pixel is decoded.

Format, size and scan count are read from the headers, so a bomb costs a refusal and not memory.
Whatever the file holds (palette, alpha, grayscale, CMYK, 16 bits, EXIF orientation, animation),
the result is upright 8-bit RGB of the first frame, transparency composited on white. Colour
profiles are ignored. Large images come out reduced, since no model here looks at all their pixels.

Decoding releases the GIL: call it in a thread, never on the event loop.
"""

import io
import math
import struct
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from PIL.WebPImagePlugin import WebPImageFile

from serving.errors import InvalidRequestError, Violation

FORMATS = ("JPEG", "PNG", "WEBP", "GIF")
FORMATS_TEXT = "expected JPEG, PNG, WebP or GIF"
MAX_JPEG_SCANS = 100  # a progressive photo has about 10; thousands would cost minutes
MAX_WEBP_PIXELS = 4096 * 3072  # 12 bytes each: libwebp composes two canvases and copies one
MAX_READS = 30_000  # of one file: some 10,000 chunks or markers, 0.3 s of Python at most
_STRIP_PIXELS = 1 << 20  # that are converted at once
_UNITS = ((1024 * 1024, "MiB"), (1024, "KiB"), (1, "B"))
_ORIENTATION = 0x0112  # EXIF tag
_TURNS = {  # what undoes each orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# All that Pillow was seen to raise for hostile bytes; each means that the file is damaged.
_DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    AssertionError,
    LookupError,
    EOFError,
    OverflowError,
    struct.error,
    zlib.error,
)

# The limit below is tighter and names the size; Pillow's would refuse without it.
Image.MAX_IMAGE_PIXELS = None


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """What a server accepts as an image; the contract's values."""

    max_bytes: int = 8 * 1024 * 1024  # encoded, >= 1
    min_side_px: int = 16  # below it there is nothing to see
    max_side_px: int = 4096

    def __post_init__(self) -> None:
        if self.max_bytes < 1 or not 1 <= self.min_side_px <= self.max_side_px:
            raise ValueError(f"{self} allows no image at all")


@dataclass(frozen=True, slots=True)
class DecodedImage:
    """Pixels of an image and what its file said about it."""

    pixels: NDArray[np.uint8]  # (height, width, 3), RGB, upright; reduced where that was asked for
    width_px: int  # of the upright original
    height_px: int
    format: str  # one of FORMATS


def decode_image(
    content: bytes,
    limits: ImageLimits,
    enough_px: int | None = None,
    field: str = "image",
) -> DecodedImage:
    """Decodes `content`; `enough_px` is the shorter side that the caller needs, None for all of it.

    The result is reduced by powers of 2 as long as its shorter side stays at `enough_px` or more.
    Raises `InvalidRequestError` about `field` for anything but a whole image within the limits.
    """
    if not 1 <= len(content) <= limits.max_bytes:
        raise _refusal(field, _size(len(content)), f"expected 1 B to {_size(limits.max_bytes)}")
    image = _open(content, field)
    width_px, height_px = image.size
    _check_header(image, content, limits, field)
    try:
        upright, is_turned = _upright_rgb(image, enough_px)
    except _DAMAGE as error:
        damage = f"a damaged {_format(image)} of {_size(len(content))}"
        raise _refusal(field, damage, "expected a complete file") from error
    if is_turned:
        width_px, height_px = height_px, width_px
    return DecodedImage(np.asarray(upright), width_px, height_px, _format(image))


class _Reader(io.BytesIO):
    """A file that may be read a bounded number of times: Pillow walks through headers in Python."""

    def __init__(self, content: bytes, field: str) -> None:
        super().__init__(content)
        self._content_bytes, self._field, self._left = len(content), field, MAX_READS

    def read(self, size: int | None = -1, /) -> bytes:
        if not self._left:
            found = f"a file of {_size(self._content_bytes)} in thousands of parts"
            raise _refusal(self._field, found, f"at most {MAX_READS} reads")
        self._left -= 1
        return super().read(size)


def _open(content: bytes, field: str) -> Image.Image:
    try:
        return Image.open(_Reader(content, field), formats=FORMATS)
    except UnidentifiedImageError as error:
        unknown = f"{_size(len(content))} of an unknown format"
        raise _refusal(field, unknown, FORMATS_TEXT) from error
    except _DAMAGE as error:
        damage = f"a damaged file of {_size(len(content))}"
        raise _refusal(field, damage, FORMATS_TEXT) from error


def _check_header(image: Image.Image, content: bytes, limits: ImageLimits, field: str) -> None:
    found = f"{image.width} x {image.height} px"
    if max(image.size) > limits.max_side_px:
        raise _refusal(field, found, f"at most {limits.max_side_px} px a side")
    if min(image.size) < limits.min_side_px:
        raise _refusal(field, found, f"at least {limits.min_side_px} px a side")
    scan_count = content.count(b"\xff\xda") if _format(image) == "JPEG" else 0
    if scan_count > MAX_JPEG_SCANS:
        raise _refusal(field, f"a JPEG of {scan_count} scans", f"at most {MAX_JPEG_SCANS}")
    if _format(image) == "WEBP" and image.width * image.height > MAX_WEBP_PIXELS:
        raise _refusal(field, f"a WebP of {found}", f"at most {MAX_WEBP_PIXELS} px in all")


def _upright_rgb(image: Image.Image, enough_px: int | None) -> tuple[Image.Image, bool]:
    """Decodes the first frame; the second value says whether width and height changed places."""
    factor = _reduction(min(image.size), enough_px)
    orientation = _orientation(image)
    wanted = (image.width // factor, image.height // factor)
    image.draft("RGB", wanted)  # a JPEG decodes at 1/2, 1/4 or 1/8, not below it
    frame = _frame(image)
    reduced = _reduced(frame, _reduction(min(frame.size), enough_px))  # what draft did not do
    turn = _TURNS.get(orientation)
    upright = reduced if turn is None else reduced.transpose(turn)
    return _on_white(upright), orientation >= 5


def _reduction(side_px: int, enough_px: int | None) -> int:
    factor = 1
    while enough_px and side_px // (factor * 2) >= enough_px:
        factor *= 2
    return factor


def _orientation(image: Image.Image) -> int:
    """Returns EXIF's orientation, 1 to 8; unreadable EXIF counts as none."""
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except _DAMAGE:
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _frame(image: Image.Image) -> Image.Image:
    """Decodes. A WebP's frame is taken from its decoder: loading it would hold it once more."""
    if not isinstance(image, WebPImageFile):
        image.load()
        return image
    frame = image._decoder.get_next()
    if frame is None:
        raise EOFError("no frame")
    image._decoder = None  # and its canvases
    return Image.frombuffer(image.rawmode, image.size, frame[0], "raw", image.rawmode, 0, 1)


def _reduced(image: Image.Image, factor: int) -> Image.Image:
    """Returns `_plain` averaged over squares; by strips, so that conversions need no memory."""
    if factor == 1:
        return _plain(image)
    width, rows = image.width, max(_STRIP_PIXELS // (image.width * factor), 1) * factor
    strips = [
        _plain(image.crop((0, top, width, min(top + rows, image.height)))).reduce(factor)
        for top in range(0, image.height, rows)
    ]
    whole = Image.new(strips[0].mode, (strips[0].width, sum(strip.height for strip in strips)))
    top = 0
    for strip in strips:
        whole.paste(strip, (0, top))
        top += strip.height
    return whole


def _plain(image: Image.Image) -> Image.Image:
    """Returns 8-bit L, RGB or RGBA: what can be averaged."""
    if image.mode.startswith("I"):  # 16-bit grayscale, which convert() would clip to white
        return Image.fromarray(np.clip(np.asarray(image) >> 8, 0, 255).astype(np.uint8))
    wanted = "L" if image.mode in ("1", "L") else "RGB"
    wanted = "RGBA" if image.has_transparency_data else wanted
    return image if image.mode == wanted else image.convert(wanted)


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode != "RGBA":
        return image if image.mode == "RGB" else image.convert("RGB")
    paper = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(paper, image).convert("RGB")


def _format(image: Image.Image) -> str:
    return "JPEG" if image.format == "MPO" else str(image.format)


def _size(byte_count: int) -> str:
    """Says a size in the unit that fits, rounded up, so that it never looks smaller than it is."""
    unit, name = next((unit, name) for unit, name in _UNITS if byte_count >= unit or unit == 1)
    return f"{math.ceil(byte_count / unit * 10) / 10:g} {name}"


def _refusal(field: str, found: str, limit: str) -> InvalidRequestError:
    return InvalidRequestError(Violation(field, found, limit))


def sample_image() -> bytes:
    """Returns a synthetic JPEG of 480 × 360 px: what a server decodes to warm up, and no photo."""
    rows, columns = np.mgrid[0:360, 0:480]
    waves = [(127 + 127 * np.sin(rows / (7 + i)) * np.cos(columns / (11 - i))) for i in range(3)]
    buffer = io.BytesIO()
    Image.fromarray(np.stack(waves, axis=-1).astype(np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()
