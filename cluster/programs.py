"""Commands that are programs of their own: the process becomes them.

Signals then reach the program itself, its memory is all that is used, and it starts without
waiting for what the other commands import.
"""

import os
import sys
from collections.abc import Sequence

# What `python -m` runs for a command; each reads its own arguments.
PROGRAMS = {
    "serve": ("serving.oip", "serve the models of a folder"),
    "conformance": ("serving.oip.conformance", "check a server against the protocol"),
}


def become(arguments: Sequence[str]) -> None:
    """Replaces this process when `arguments` name such a program; else returns."""
    if not arguments or arguments[0] not in PROGRAMS:
        return
    module, _ = PROGRAMS[arguments[0]]
    os.execv(sys.executable, [sys.executable, "-m", module, *arguments[1:]])
