"""Files that are nearly pictures: altered, cut, joined, lying about their size, packed tight.

Deterministic for a seed. No file is made to exploit a certain bug; they are what a picture becomes
on bad ways and in unfriendly hands.
"""

import io
import random
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

import numpy as np
from PIL import Image

Source = random.Random
_LARGEST_PX = 4096
_SOI, _APP1, _SOF0, _SOF2, _SOS = b"\xff\xd8", b"\xff\xe1", b"\xff\xc0", b"\xff\xc2", b"\xff\xda"


def broken_pictures(
    count: int, seed: int = 0, with_large: bool = True
) -> Iterator[tuple[str, bytes]]:
    """Yields `count` files with the name of their kind; the kinds take turns.

    Large ones, which are whole pictures of the largest size that is accepted, are one of 250.
    """
    source, kinds = Source(seed), list(_KINDS.items())
    large = list(_LARGE.items())
    for number in range(count):
        if with_large and number % 250 == 249:
            name, make_large = large[number // 250 % len(large)]
            yield name, make_large()
        else:
            kind, make = kinds[number % len(kinds)]
            yield kind, make(source)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@cache
def whole() -> tuple[bytes, ...]:
    """Small whole pictures, of every format, colour mode and way of coding."""
    y, x = np.mgrid[:72, :96]
    channels = [(127 + 120 * np.sin(x / (5 + at)) * np.cos(y / (9 - at))) for at in range(4)]
    rgba = Image.fromarray(np.stack(channels, axis=-1).astype(np.uint8))
    rgb, gray = rgba.convert("RGB"), rgba.convert("L")
    sixteen = Image.fromarray(np.asarray(gray).astype(np.uint16) << 8)
    exif = Image.Exif()
    exif[0x0112] = 6
    frames = [rgb.rotate(angle) for angle in (0, 30, 60)]
    animated: dict[str, Any] = {"save_all": True, "append_images": frames[1:], "duration": 40}
    return (
        encoded(rgb, "JPEG"),
        encoded(rgb, "JPEG", progressive=True, exif=exif, icc_profile=b"icc" * 99),
        encoded(gray, "JPEG"),
        encoded(rgb.convert("CMYK"), "JPEG", quality=60),
        encoded(rgb, "PNG"),
        encoded(rgba, "PNG", exif=exif),
        encoded(sixteen, "PNG"),
        encoded(rgb.quantize(64), "PNG", transparency=2),
        encoded(gray.convert("1"), "PNG"),
        encoded(frames[0], "PNG", **animated),
        encoded(rgb, "WEBP", exif=exif),
        encoded(rgba, "WEBP", lossless=True),
        encoded(frames[0], "WEBP", **animated),
        encoded(rgb, "GIF"),
        encoded(frames[0], "GIF", **animated),
    )


def altered(source: Source) -> bytes:
    """Some bytes are others, mostly in the headers."""
    content = bytearray(source.choice(whole()))
    end = len(content) if source.random() < 0.5 else min(120, len(content))
    for _ in range(source.randint(1, 12)):
        content[source.randrange(end)] = source.choice((0, 0x7F, 0x80, 0xFF, source.randrange(256)))
    return bytes(content)


def truncated(source: Source) -> bytes:
    content = source.choice(whole())
    return content[: source.randrange(len(content))]


def zeroed(source: Source) -> bytes:
    content = bytearray(source.choice(whole()))
    at = source.randrange(len(content))
    length = min(source.randint(1, 400), len(content) - at)
    content[at : at + length] = bytes(length)
    return bytes(content)


def repeated(source: Source) -> bytes:
    """A part of the file comes many times."""
    content = source.choice(whole())
    first, last = sorted(source.sample(range(len(content)), 2))
    return content[:last] + content[first:last] * source.choice((1, 3, 60)) + content[last:]


def spliced(source: Source) -> bytes:
    """Begins as one picture and goes on as another."""
    one, other = source.choice(whole()), source.choice(whole())
    return one[: source.randrange(len(one))] + other[source.randrange(len(other)) :]


def polyglot(source: Source) -> bytes:
    """A picture that is something else, too: ZIP, PDF, HTML, program, another picture."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("index.html", "<script>alert(1)</script>")
    strangers = (
        archive.getvalue(), b"%PDF-1.7\n1 0 obj<<>>endobj\n", b"<html><script>1</script></html>",
        b"\x7fELF\x02\x01\x01" + bytes(60), b"MZ" + bytes(60), b"#!/bin/sh\n:\n", *whole(),
    )  # fmt: skip
    picture, stranger = source.choice(whole()), source.choice(strangers)
    if source.random() < 0.3 and picture.startswith(_SOI):  # inside of a comment
        length = struct.pack(">H", min(len(stranger), 65_000) + 2)
        return _SOI + b"\xff\xfe" + length + stranger[:65_000] + picture[2:]
    return picture + stranger if source.random() < 0.5 else stranger + picture


def other_format(source: Source) -> bytes:
    """A whole file that is no picture of the contract, whatever its name would say."""
    image = Image.open(io.BytesIO(whole()[4])).convert("RGB")
    kind = source.choice(
        ("BMP", "TIFF", "ICO", "PPM", "PCX", "TGA", "PDF", "EPS", "JPEG2000", "DDS")
    )
    content = encoded(image, kind)
    if source.random() < 0.5:
        return content
    magic = source.choice(
        (b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"RIFF\0\0\0\0WEBP")
    )
    return magic + content[len(magic) :]


def noise(source: Source) -> bytes:
    """Nothing, or random bytes behind the first bytes of a picture."""
    content = source.randbytes(source.choice((0, 1, 2, 7, 30, 1000, 20_000)))
    return source.choice(whole())[: source.choice((0, 4, 12, 33))] + content


def lying_png(source: Source) -> bytes:
    """The header's size is another, its checksum right."""
    content = bytearray(source.choice([file for file in whole() if file[1:4] == b"PNG"]))
    sides = (0, 1, 16, 95, 4096, 4097, 30_000, 2**31 - 1, 2**32 - 1)
    content[16:24] = struct.pack(">II", source.choice(sides), source.choice(sides))
    content[24] = source.choice((1, 2, 4, 8, 16, content[24]))
    content[25] = source.choice((0, 2, 3, 4, 6, content[25]))
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    return bytes(content)


def lying_jpeg(source: Source) -> bytes:
    """The frame's size, precision or number of components is another."""
    content = bytearray(source.choice([file for file in whole() if file.startswith(_SOI)]))
    at = max(content.find(_SOF0), content.find(_SOF2))
    sides = (0, 1, 16, 4096, 4097, 65_535)
    content[at + 5 : at + 9] = struct.pack(">HH", source.choice(sides), source.choice(sides))
    content[at + 4] = source.choice((8, 8, 8, 12, 16))
    content[at + 9] = source.choice((content[at + 9], 0, 1, 2, 255))
    return bytes(content)


def lying_gif_or_webp(source: Source) -> bytes:
    """The canvas or the frame is larger than the other, or than what follows."""
    content = bytearray(source.choice(whole()[10:]))
    at = 6 if content.startswith(b"GIF") else 24
    content[at : at + 6] = bytes(source.choice((0, 1, 15, 16, 255)) for _ in range(6))
    return bytes(content)


@cache
def _packed() -> bytes:
    return zlib.compress(bytes(30_000_000), 9)


def packed_chunk(source: Source) -> bytes:
    """Text, profile or EXIF that unpacks to 30 MB, before the picture."""
    kind = source.choice((b"zTXt", b"iTXt", b"iCCP"))
    middle = b"\1\0\0\0" if kind == b"iTXt" else b"\0"
    return _with_chunks([(kind, b"name\0" + middle + _packed())])


def many_chunks(source: Source) -> bytes:
    """Thousands of small parts, as headers allow."""
    if source.random() < 0.5:
        return _with_chunks([(b"tEXt", b"key\0value")] * source.choice((2000, 12_000)))
    application = _APP1 + struct.pack(">H", 32) + b"Exif\0\0MM\0*" + source.randbytes(20)
    return _SOI + application * source.choice((2000, 12_000)) + whole()[0][2:]


def looping_exif(source: Source) -> bytes:
    """A directory that names itself as the next, or lies about the length of a value."""
    entry = struct.pack(">HHII", source.choice((0x0112, 0x8769, 0x8825)), 3, 2**30, 8)
    tiff = b"MM\0*" + struct.pack(">IH", 8, source.choice((1, 300))) + entry + struct.pack(">I", 8)
    body = b"Exif\0\0" + tiff
    return _SOI + _APP1 + struct.pack(">H", len(body) + 2) + body + whole()[0][2:]


def many_scans(source: Source) -> bytes:
    """A progressive JPEG whose last scan comes again and again."""
    content = whole()[1]
    at = content.rfind(_SOS)
    return content[:at] + content[at:-2] * source.choice((20, 80, 120, 3000)) + content[-2:]


def many_frames(source: Source) -> bytes:
    """An animation of hundreds of frames."""
    content = whole()[14]
    first = content.find(b"\x21\xf9", 13)
    return content[:first] + content[first:-1] * source.choice((50, 400)) + content[-1:]


def _with_chunks(chunks: list[tuple[bytes, bytes]]) -> bytes:
    """A PNG with these chunks behind its header."""
    content = whole()[4]
    parts = [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    ]
    return content[:33] + b"".join(parts) + content[33:]


_KINDS: Mapping[str, Callable[[Source], bytes]] = {
    make.__name__: make
    for make in (
        altered, truncated, zeroed, repeated, spliced, polyglot, other_format, noise, lying_png,
        lying_jpeg, lying_gif_or_webp, packed_chunk, many_chunks, looping_exif, many_scans,
        many_frames,
    )
}  # fmt: skip


def _flat(mode: str, height: int = _LARGEST_PX) -> Image.Image:
    """A picture of the largest size that hardly needs bytes."""
    colour = {"L": 90, "1": 1, "I;16": 30_000, "P": 1, "LA": (90, 30)}.get(mode, (90, 30, 60, 80))
    size = (_LARGEST_PX, height)
    return Image.new(mode, size, colour[:3] if mode == "RGB" else colour)  # type: ignore[index]


@cache
def _large(mode: str, kind: str, height: int = _LARGEST_PX, **options: Any) -> bytes:
    return encoded(_flat(mode, height), kind, **options)


_LARGE: Mapping[str, Callable[[], bytes]] = {
    "large RGB PNG": lambda: _large("RGB", "PNG"),
    "large RGBA PNG": lambda: _large("RGBA", "PNG"),
    "large palette PNG": lambda: _large("P", "PNG", transparency=1),
    "large LA PNG": lambda: _large("LA", "PNG"),
    "large 16-bit PNG": lambda: _large("I;16", "PNG"),
    "large RGB PNG with a transparent colour": lambda: _large("RGB", "PNG", transparency=(1, 2, 3)),
    "large progressive JPEG": lambda: _large("RGB", "JPEG", progressive=True, subsampling=0),
    "large CMYK JPEG": lambda: _large("CMYK", "JPEG", progressive=True),
    "large GIF": lambda: _large("P", "GIF"),
    "large WebP": lambda: _large("RGB", "WEBP", 3072, method=0),
    "large lossless WebP": lambda: _large("RGBA", "WEBP", 3072, lossless=True, method=0),
    "larger WebP": lambda: _large("RGB", "WEBP", method=0),
    "8 MiB of nothing": lambda: _large("L", "PNG") + bytes((8 << 20) - 200_000),
    "too many bytes": lambda: bytes((8 << 20) + 1),
}
