"""Checks or draws a graph file: `python -m services.gateway.graph_command`, `fomofeed graph`.

    graph check FILE    prints every mistake as FILE:LINE: what; remedy
    graph draw FILE     prints a picture with deadlines and substitutes on it

Nothing is started and nobody is called.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from services.gateway.check import TABLES, load
from services.gateway.contracts import ContractError, add_descriptor_set
from services.gateway.descriptors import compiled_in
from services.gateway.drawing.mermaid import to_mermaid
from services.gateway.drawing.picture import picture_of
from services.gateway.drawing.svg import to_svg
from services.gateway.graph import GraphError, GraphFile

_FORMATS = {"svg": to_svg, "mermaid": to_mermaid}


def main(arguments: Sequence[str]) -> int:
    """Runs one command; the exit code is 0, 1 for mistakes in the file, 2 in the command line."""
    given = _parser().parse_args(arguments)
    try:
        file = _load(given)
    except (GraphError, ContractError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    if given.command == "check":
        graph = file.graph
        print(f"{given.file}: {graph.name} is sound, {len(graph.nodes)} nodes")
    else:
        text = _FORMATS[given.format](picture_of(file.graph))
        if given.out is None:
            print(text, end="")
        else:
            given.out.write_text(text, encoding="utf-8")
    return 0


def _load(given: argparse.Namespace) -> GraphFile:
    pool = compiled_in()
    if given.descriptors is not None:
        add_descriptor_set(pool, given.descriptors)
    return load(given.file, pool, given.tables)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fomofeed graph", description="Checks or draws a graph file."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    check = commands.add_parser("check", help="every mistake of a graph file, with its line")
    draw = commands.add_parser("draw", help="a picture with deadlines and substitutes on it")
    for command in (check, draw):
        command.add_argument("file", type=Path, metavar="FILE")
        command.add_argument("--tables", type=Path, default=TABLES, metavar="DIR")
        command.add_argument(
            "--descriptors",
            type=Path,
            metavar="SET",
            help="contracts beyond those compiled in: protoc --include_imports -o SET",
        )
    draw.add_argument("--format", choices=sorted(_FORMATS), default="svg")
    draw.add_argument("--out", type=Path, metavar="FILE")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
