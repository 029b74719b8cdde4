"""The command line of `fomofeed`, as argparse sees it."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from cluster.analyze import DEFAULT_TIMEOUT_S
from cluster.forget import DEFAULT_TIMEOUT_S as FORGET_TIMEOUT_S
from cluster.load.arguments import HELP as LOAD_HELP
from cluster.load.arguments import add_arguments as add_load
from cluster.places import home
from cluster.programs import MODEL_COMMANDS, MODELS, PROGRAMS


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Reads the command line; prints help or what is wrong with it, and exits, as people expect."""
    parser = argparse.ArgumentParser(
        prog="fomofeed", description="Runs and asks a graph of models."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_up(commands.add_parser("up", help="start all servers and stay until Ctrl-C"))
    commands.add_parser("down", help="stop what `up --detach` started")
    _add_status(commands.add_parser("status", help="show each server's health and load"))
    _add_post(commands.add_parser("analyze", help="ask about a photo"), photo_nargs=None)
    demo = commands.add_parser("demo", help="start, ask about a photo, stop")
    _add_post(demo, photo_nargs="?")
    _add_models(commands.add_parser("models", help="fill, list, verify, reload the models"))
    _add_port_base(commands.add_parser("doctor", help="say what is missing"))
    _add_timing(commands.add_parser("timing", help="draw a user's week of posting hours"))
    _add_forget(commands.add_parser("forget", help="delete a user from every store"))
    load = commands.add_parser("load", help=LOAD_HELP)
    add_load(load)
    _add_port_base(load)
    for name, (_, text) in PROGRAMS.items():  # listed here; they read their own arguments
        commands.add_parser(name, help=text)
    for name, text in MODEL_COMMANDS.items():  # likewise, once a model is named
        commands.add_parser(name, help=text).add_argument("model", choices=MODELS)
    return parser.parse_args(arguments)


def _add_up(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--detach", action="store_true", help="return once all servers serve")
    _add_port_base(parser)
    parser.add_argument("--report-to", type=int, help=argparse.SUPPRESS)  # the starter's pipe


def _add_timing(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=("plot",), help="ask the servers and draw 168 hours")
    parser.add_argument("--user", type=int, default=12, help="whose week (default 12)")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="also write it as a picture")
    parser.add_argument(
        "--timeout", type=float, default=DEFAULT_TIMEOUT_S, metavar="S", help="seconds a call"
    )
    _add_port_base(parser)


def _add_forget(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--user", type=int, required=True, help="who is to be forgotten")
    parser.add_argument(
        "--timeout", type=float, default=FORGET_TIMEOUT_S, metavar="S", help="seconds a server"
    )
    _add_port_base(parser)


def _add_status(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="for machines")
    _add_port_base(parser)


def _add_port_base(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--port-base",
        type=int,
        default=_environment_port_base(),
        metavar="P",
        help="gateway on P, the others after it (FOMOFEED_PORT_BASE; default 50050)",
    )


def _environment_port_base() -> int | None:
    text = os.environ.get("FOMOFEED_PORT_BASE", "")
    return int(text) if text.isdecimal() else None


def _add_post(parser: argparse.ArgumentParser, photo_nargs: str | None) -> None:
    parser.add_argument("photo", type=Path, nargs=photo_nargs, metavar="PHOTO")
    parser.add_argument("--user", type=int, default=12, help="the author (default 12)")
    parser.add_argument("--caption", default="", help="the author's draft")
    parser.add_argument("--tags", default="", help="the author's tags: a,b,c")
    parser.add_argument("--type", default="post", choices=("post", "moment"), help="default post")
    parser.add_argument("--locale", default="", help="language of the texts, such as pt-BR")
    parser.add_argument("--video", action="store_true", help="the photo is a video's poster frame")
    parser.add_argument(
        "--moderate",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="also ask whether it may be shown (default yes)",
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=DEFAULT_TIMEOUT_S,
        metavar="S",
        help=f"seconds for the whole answer (default {DEFAULT_TIMEOUT_S:g})",
    )
    parser.add_argument("--json", action="store_true", help="print the answer as proto JSON")
    parser.add_argument("--address", metavar="HOST:PORT", help="a gateway elsewhere")
    _add_port_base(parser)


def _add_models(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "models build clip --weights DIR exports CLIP weights of your own"
    parser.add_argument("what", choices=("pull", "list", "verify", "reload"))
    parser.add_argument("--repository", type=Path, default=home() / "models", metavar="DIR")
    _add_port_base(parser)
