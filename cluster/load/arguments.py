"""The command line of `fomofeed load`; apart, so that other commands need not load NumPy."""

import argparse
from pathlib import Path

OIP_ADDRESS = "127.0.0.1:8001"  # where `fomofeed serve` listens unless told
HELP = "send calls on a schedule and measure what the server makes of it"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command line of `fomofeed load`."""
    parser.add_argument(
        "--address",
        metavar="HOST:PORT",
        help=f"default: the gateway of this cluster; for --oip {OIP_ADDRESS}",
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--photo", type=Path, nargs="+", metavar="FILE", help="ask Orchestrate about these photos"
    )
    what.add_argument(
        "--call", metavar="PACKAGE.SERVICE/METHOD", help="any unary method, by reflection"
    )
    what.add_argument("--oip", metavar="MODEL", help="any Open Inference Protocol server")
    parser.add_argument("--rows", type=int, default=1, metavar="N", help="of an --oip call (1)")
    parser.add_argument(
        "--length",
        type=_lengths,
        default=range(32, 33),
        metavar="N[-M]",
        help="of an --oip input's free sizes; N-M mixes requests of these lengths (32)",
    )
    parser.add_argument(
        "--data", default="{}", metavar="JSON", help="the request of --call; @FILE reads a file"
    )
    parser.add_argument("--same", action="store_true", help="send unchanged photos: caches answer")
    parser.add_argument("--user", type=int, default=12, help="the author of the photos (12)")
    _add_schedule(parser)
    parser.add_argument("--timeout", type=float, default=1.0, metavar="S", help="deadline (1)")
    parser.add_argument("--slo", type=float, metavar="S", help="what is in time (the deadline)")
    parser.add_argument("--processes", type=int, default=1, metavar="N", help="of the client (1)")
    parser.add_argument("--max-lag", type=float, metavar="S", help="of the client (SLO / 10)")
    parser.add_argument(
        "--report-anyway", action="store_true", help="also when the client was the bottleneck"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures")
    parser.add_argument("--plot", type=Path, metavar="FILE.svg", help="draw them")


def _lengths(text: str) -> range:
    """Reads `N` or `N-M`: the lengths from N to M, both included."""
    low, dash, high = text.partition("-")
    lengths = range(int(low), int(high if dash else low) + 1)
    if not lengths or lengths[0] < 0:
        raise argparse.ArgumentTypeError(f"{text} is no range of lengths such as 8-64")
    return lengths


def _add_schedule(parser: argparse.ArgumentParser) -> None:
    rate = parser.add_mutually_exclusive_group()
    rate.add_argument("--rate", type=float, default=10.0, metavar="R", help="calls a second (10)")
    rate.add_argument(
        "--search", type=float, metavar="R", help="find the saturation point, starting at R"
    )
    rate.add_argument(
        "--trace", type=Path, metavar="FILE", help="send at these seconds, one a line"
    )
    parser.add_argument("--arrivals", choices=("poisson", "constant"), default="poisson")
    parser.add_argument("--seed", type=int, default=1, help="of the arrivals (1)")
    parser.add_argument("--seconds", type=float, default=10.0, metavar="S", help="measured (10)")
    parser.add_argument("--warm-up", type=float, default=2.0, metavar="S", help="before it (2)")
    parser.add_argument("--repeat", type=int, default=1, metavar="N", help="show the noise (1)")
