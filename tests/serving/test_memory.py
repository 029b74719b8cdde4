import subprocess
import sys

import pytest

from serving.memory import LARGE_BYTES, return_large_blocks

# Blocks that glibc would put into its heap after the first was freed, under one that stays.
FREED = f"""
import ctypes, sys
from serving.memory import return_large_blocks
def resident():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) * 1024
if sys.argv[1] == "fixed":
    assert return_large_blocks()
del (first := [bytearray(b"x") * (30 << 20)])[:]
before, kept = resident(), []
blocks = [bytearray(b"x") * {2 * LARGE_BYTES} for _ in range(8)]
kept = [bytearray(b"y") * 100_000 for _ in range(8)]
del blocks
print((resident() - before) // {LARGE_BYTES})
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc alone has such a threshold")
def test_large_blocks_are_returned_even_below_smaller_ones_that_stay() -> None:
    assert return_large_blocks()
    kept = {
        how: int(subprocess.check_output([sys.executable, "-c", FREED, how], text=True))
        for how in ("moving", "fixed")
    }
    assert kept["fixed"] <= 1 < kept["moving"]
