"""Elements of BYTES tensors: framed one after the other in the raw form, objects in arrays.

The framing is Triton's: 4 bytes little-endian length, then as many bytes. In arrays an element of
a request is `bytes`; what an engine answers may be `str` too, which travels as UTF-8.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LENGTH_BYTES = 4


class CutOffError(ValueError):
    """The framing promises more bytes than there are; `args[0]` is where."""


def split(framed: bytes) -> list[bytes]:
    """Returns the elements of a raw entry. Raises `CutOffError` at the one that is not whole."""
    elements, at, end = [], 0, len(framed)
    while at < end:
        start = at + _LENGTH_BYTES
        stop = start + int.from_bytes(framed[at:start], "little")
        if start > end or stop > end:
            raise CutOffError(at)
        elements.append(framed[start:stop])
        at = stop
    return elements


def join(elements: Iterable[bytes]) -> bytes:
    """Returns the raw entry that `split` takes apart."""
    parts: list[bytes] = []
    for element in elements:
        parts += (len(element).to_bytes(_LENGTH_BYTES, "little"), element)
    return b"".join(parts)


def to_array(elements: Sequence[bytes], shape: Sequence[int]) -> NDArray[Any]:
    """Returns an array of objects; there are as many elements as `shape` has."""
    array = np.empty(len(elements), np.object_)
    array[:] = elements
    return array.reshape(shape)


def from_array(array: NDArray[Any]) -> list[bytes]:
    """Returns the elements of an array of `bytes`, `str` or anything that has a text."""
    return [
        element if isinstance(element, bytes) else str(element).encode()
        for element in array.ravel().tolist()
    ]
