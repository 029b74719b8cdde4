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
    "graph": ("services.gateway.graph_command", "check or draw a graph file"),
}
# Commands about one model, `fomofeed train timing …`: the program of the model runs the command.
MODEL_COMMANDS = {
    "train": "learn from posts of your own: train timing|ranker --events FILE",
    "evaluate": "measure a model on posts of your own: evaluate timing|ranker --events FILE",
}
MODELS = ("timing", "ranker")


def become(arguments: Sequence[str]) -> None:
    """Replaces this process when `arguments` name such a program; else returns."""
    command = program(arguments)
    if command:
        if arguments[0] in MODEL_COMMANDS:  # small matrices: more threads only wait for each other
            os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        os.execv(sys.executable, [sys.executable, "-m", *command])


def program(arguments: Sequence[str]) -> list[str]:
    """Returns module and arguments of the program that `arguments` name; empty if none."""
    match list(arguments):
        case [name, *rest] if name in PROGRAMS:
            return [PROGRAMS[name][0], *rest]
        case [name, model, *rest] if name in MODEL_COMMANDS and model in MODELS:
            return [f"services.{model}.own", name, *rest]
        case ["models", "build", "clip", *rest]:
            return ["services.clip.vit.build", *rest]
    return []
