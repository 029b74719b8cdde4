"""Which rules of the protocol do we and MLServer keep? Writes docs/bench/conformance.md.

`python bench/conformance.py` runs what `fomofeed conformance` runs against `fomofeed serve` and,
where `python bench/rival_servers.py --install` has made its environment, against MLServer with the
same ONNX models: one of several inputs of different datatypes, one of 16-bit floats, one of free
sizes. A rule is kept when it passes with every model that it applies to.
"""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import grpc
import onnx
from onnx import TensorProto, helper

from bench.rivals.peers import MLSERVER, OURS, home, our_command, rival_command
from bench.rivals.processes import Command, running
from serving.oip.conformance.examine import examine
from serving.oip.conformance.rule import Level, Result, Verdict
from serving.oip.conformance.target import discover

REPORT = Path("docs/bench/conformance.md")
_NOTE = """\
The Open Inference Protocol v2 as its two texts state it. MUST is stated there, SHOULD is implied or
common. What a request must be binds the client; that a server refuses a wrong one is implied, so
the refusals (13b to 15c, 22) are SHOULD. MLServer leaves them to the runtime of a model: the one
here, a session of ONNX Runtime, checks what that checks, and what it finds reaches the caller as
INTERNAL, which a client cannot tell from a server at fault.
"""
Inputs = tuple[tuple[str, int, list[int | str]], ...]
MODELS: dict[str, Inputs] = {
    "kinds": (
        ("numbers", TensorProto.FLOAT, ["rows", 3]),
        ("small", TensorProto.INT8, ["rows", 3]),
        ("texts", TensorProto.STRING, ["rows", 2]),
    ),
    "halves": (("half", TensorProto.FLOAT16, ["rows", 4]), ("pixels", TensorProto.UINT8, ["rows"])),
    "tokens": (("ids", TensorProto.INT64, ["rows", "length"]),),
}
Results = dict[str, list[Result]]  # of each rule by its number, one a model


def write_copies(folder: Path, name: str, inputs: Inputs) -> Path:
    """Writes a model that gives each input back as `<input>_out`."""
    graph = helper.make_graph(
        [helper.make_node("Identity", [n], [f"{n}_out"]) for n, _, _ in inputs],
        name,
        [helper.make_tensor_value_info(*given) for given in inputs],
        [helper.make_tensor_value_info(f"{n}_out", kind, shape) for n, kind, shape in inputs],
    )
    path = folder / name / "1" / "model.onnx"
    path.parent.mkdir(parents=True)
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    return path


async def results_of(address: str, model: str) -> list[Result]:
    """Examines one model of a server."""
    async with grpc.aio.insecure_channel(address) as channel:
        target = await discover(channel, model)
        return [result async for result in examine(target)]


def add(results: Results, command: Command, model: str) -> None:
    """Starts a server, examines a model and adds what is found."""
    with running(command, model) as server:
        for result in asyncio.run(results_of(server.address, model)):
            results.setdefault(result.rule.number, []).append(result)


def examine_all(rivals: Sequence[str]) -> dict[str, Results]:
    """Examines every server with every model."""
    found: dict[str, Results] = {name: {} for name in (OURS, *rivals)}
    with tempfile.TemporaryDirectory() as folder:
        files = {name: write_copies(Path(folder), name, MODELS[name]) for name in MODELS}
        for model, file in files.items():
            add(found[OURS], our_command(Path(folder)), model)
            for rival in rivals:
                add(found[rival], rival_command(rival, file, model, ()), model)
    return found


def worst(results: Sequence[Result]) -> Result:
    """Returns the failure if there is one, else a pass if there is one."""
    order = [Verdict.FAIL, Verdict.PASS, Verdict.SKIP]
    return min(results, key=lambda result: order.index(result.verdict))


def report(found: dict[str, Results]) -> list[str]:
    """Returns the table, the sums and the reasons."""
    names = list(found)
    lines = [f"| rule | level | it says | {' | '.join(names)} |", "| --- " * (3 + len(names)) + "|"]
    reasons: list[str] = []
    for number, ours in found[OURS].items():
        rule = ours[0].rule
        verdicts = {name: worst(found[name][number]) for name in names}
        cells = " | ".join(verdict.verdict.value for verdict in verdicts.values())
        lines.append(f"| {number} | {rule.level.value} | {rule.title} | {cells} |")
        reasons += [
            f"- {number}, {name}: {_one_line(verdict.reason)}"
            for name, verdict in verdicts.items()
            if verdict.verdict is Verdict.FAIL
        ]
    sums = [f"{name}: {_sums(found[name])}" for name in names]
    return [*lines, "", *(f"{line}." for line in sums), "", "## Why", "", *reasons, ""]


def _sums(results: Results) -> str:
    verdicts = [worst(each) for each in results.values()]
    return ", ".join(
        f"{sum(v.rule.level is level and v.verdict is verdict for v in verdicts)} "
        f"{level.value} {verdict.value.lower()}"
        for level in Level
        for verdict in Verdict
    )


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 200 else f"{line[:200]} …"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=REPORT)
    options = parser.parse_args()
    rivals = [MLSERVER] if home(MLSERVER).is_dir() else []
    if not rivals:
        print("without MLServer: python bench/rival_servers.py --install", file=sys.stderr)
    lines = ["# Conformance", "", _NOTE, *report(examine_all(rivals))]
    print("\n".join(lines))
    if rivals:
        options.out.write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
