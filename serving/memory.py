"""Large blocks go back to the system when they are freed.

glibc raises the size from which it maps a block of its own, up to 32 MiB, whenever such a block is
freed; smaller ones then stay in the heaps of the threads that used them. A server that decodes a
few large images so kept 100 MB more for ever after.
"""

import ctypes
import sys

LARGE_BYTES = 4 * 1024 * 1024  # a decoded photograph of the size that models look at is smaller
_M_MMAP_THRESHOLD = -3  # mallopt(3); setting it stops glibc from moving it


def return_large_blocks() -> bool:
    """Fixes glibc's threshold at `LARGE_BYTES`; returns whether this C library knows it."""
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    return bool(mallopt and mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES))
