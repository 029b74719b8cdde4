"""Large blocks go back to the system when they are freed, and few heaps keep spare memory.

glibc raises the size from which it maps a block of its own, up to 32 MiB, whenever such a block is
freed; smaller ones then stay in the heaps of the threads that used them, of which it makes up to
eight a core. A server that decodes a few large images so kept 100 MB more for ever after.
"""

import ctypes
import sys

LARGE_BYTES = 4 * 1024 * 1024  # a photograph of the size that models look at is smaller, as float32
SPARE_BYTES = 2 * LARGE_BYTES  # kept at the end of each heap: glibc's own ratio
HEAP_COUNT = 4  # threads share them; with 16, 27 to 68 MB stayed after 10,000 pictures
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # mallopt(3)


def return_large_blocks(spare_bytes: int = SPARE_BYTES) -> bool:
    """Fixes glibc's threshold at `LARGE_BYTES`; returns whether this C library knows it.

    A threshold that is set stops glibc from moving the other, too: its first value of 128 KiB gave
    every array of a picture back at once, and made a picture a quarter dearer. To be called before
    there are threads: heaps that exist stay.
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    return bool(
        mallopt
        and mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES)
        and mallopt(_M_TRIM_THRESHOLD, spare_bytes)
        and mallopt(_M_ARENA_MAX, HEAP_COUNT)
    )
