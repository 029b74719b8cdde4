"""`fomofeed conformance HOST:PORT`: prints pass, fail or skip for each rule, and why.

The exit code is 0, 1 when a MUST is broken, 2 when there is nothing to examine.
"""

import argparse
import asyncio
import sys
from collections.abc import Sequence

import grpc

from serving.oip.conformance.examine import examine
from serving.oip.conformance.rule import Level, Result, Verdict
from serving.oip.conformance.target import DiscoveryError, discover

_MAX_MESSAGE_BYTES = 64 * 1024 * 1024


def line(result: Result) -> str:
    """Returns one line of the table."""
    rule = result.rule
    text = f"{result.verdict.value:<5}{rule.number:<5}{rule.level.value:<7}{rule.title}"
    return f"{text}: {result.reason}" if result.reason else text


def summary(results: Sequence[Result]) -> str:
    """Returns the last line: how many passed, failed, were skipped."""
    counts = [
        f"{sum(r.rule.level is level and r.verdict is verdict for r in results)} {level.value} "
        f"{verdict.value.lower()}"
        for verdict in Verdict
        for level in Level
    ]
    return ", ".join(counts)


async def run(target: str, model: str) -> int:
    """Examines a server and prints what is found, rule by rule. Returns the exit code."""
    options = [("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES)]
    async with grpc.aio.insecure_channel(target, options=options) as channel:
        try:
            examined = await discover(channel, model)
        except DiscoveryError as error:
            print(f"fomofeed conformance: {error}", file=sys.stderr)
            return 2
        print(f"{target}, model {examined.model.name}")
        results = []
        async for result in examine(examined):
            results.append(result)
            print(line(result), flush=True)
    print(summary(results))
    return int(any(r.verdict is Verdict.FAIL and r.rule.level is Level.MUST for r in results))


def main(arguments: Sequence[str]) -> int:
    """Reads the command line and runs. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="fomofeed conformance",
        description="Checks a server against the Open Inference Protocol v2, rule by rule.",
    )
    parser.add_argument("target", metavar="HOST:PORT")
    parser.add_argument("--model", default="", help="default: the first that the server lists")
    options = parser.parse_args(arguments)
    return asyncio.run(run(options.target, options.model))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
