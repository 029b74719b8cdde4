"""Chooses an engine by measuring: the fastest of those that are exact enough, on this machine.

The first candidate is the reference. A candidate is chosen only if its answers stay within the
tolerance of the reference's and it is faster than it by more than the noise. The choice is kept
beside the artifact with its figures, keyed by what it depends on: the digest, the processor and
the versions of the candidates.
"""

import json
import logging
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from serving.engines.engine import Arrays, Engine

log = logging.getLogger(__name__)

ROUNDS = 9  # interleaved, so that a slow moment of the machine hits all candidates alike
_MIN_GAIN = 1.05  # below it a difference is noise; the reference stays

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A way to run the model. `version` is that of its library."""

    name: str
    version: str
    load: Callable[[], Engine]


@dataclass(frozen=True, slots=True)
class Measured:
    """What one candidate showed. `error` tells why it could not be measured, else it is empty."""

    name: str
    seconds: float = 0.0  # median of one call on the sample
    difference: float = 0.0  # largest to the reference's answers
    error: str = ""


@dataclass(frozen=True, slots=True)
class Choice:
    """The chosen candidate's name, and the figures of all."""

    name: str
    key: str
    figures: tuple[Measured, ...]


def choose(
    candidates: Sequence[Candidate],
    sample: Arrays,
    tolerance: float,
    key: str,
    clock: Clock = time.perf_counter,
) -> Choice:
    """Measures all candidates on `sample` and returns the choice.

    Raises what the reference raises: without it nothing can be compared.
    """
    reference = candidates[0].load()
    expected = reference.infer(sample)
    engines, figures = {candidates[0].name: reference}, {}
    for candidate in candidates[1:]:
        try:
            engine = candidate.load()
            off = difference(engine.infer(sample), expected)
        except Exception as error:  # the boundary: a candidate that cannot run is not chosen
            figures[candidate.name] = Measured(candidate.name, error=str(error))
            continue
        engines[candidate.name] = engine
        figures[candidate.name] = Measured(candidate.name, difference=off)
    seconds = _medians(engines, sample, clock)
    for name, median in seconds.items():
        figures[name] = Measured(name, median, figures[name].difference if name in figures else 0.0)
    chosen = _best(candidates[0].name, figures, tolerance)
    return Choice(chosen, key, tuple(figures[c.name] for c in candidates))


def remembered(
    file: Path, candidates: Sequence[Candidate], sample: Arrays, tolerance: float, digest: str
) -> Choice:
    """Returns the choice kept in `file`, or measures and keeps it there."""
    key = key_of(candidates, digest, tolerance)
    kept = _read(file)
    if kept is not None and kept.key == key:
        return kept
    choice = choose(candidates, sample, tolerance, key)
    try:
        file.write_text(json.dumps(asdict(choice), indent=1), encoding="utf-8")
    except OSError as error:  # a read-only model volume: measured again at the next start
        log.warning("the choice of an engine is not remembered: %s", error)
    return choice


def key_of(candidates: Sequence[Candidate], digest: str, tolerance: float) -> str:
    """Returns what a choice depends on, as one line."""
    versions = " ".join(f"{c.name}={c.version}" for c in candidates)
    return f"{digest} {platform.machine()} {_processor()} {versions} tolerance={tolerance:g}"


def _best(reference: str, figures: dict[str, Measured], tolerance: float) -> str:
    exact = [f for f in figures.values() if not f.error and f.difference <= tolerance]
    fastest = min(exact, key=lambda figure: figure.seconds)
    is_worth_it = figures[reference].seconds > _MIN_GAIN * fastest.seconds
    return fastest.name if is_worth_it else reference


def _medians(engines: dict[str, Engine], sample: Arrays, clock: Clock) -> dict[str, float]:
    times: dict[str, list[float]] = {name: [] for name in engines}
    for _ in range(ROUNDS):
        for name, engine in engines.items():
            start = clock()
            engine.infer(sample)
            times[name].append(clock() - start)
    return {name: float(np.median(values)) for name, values in times.items()}


def difference(found: Arrays, expected: Arrays) -> float:
    """Returns the largest absolute difference of all outputs; infinite for another shape or NaN."""
    worst = 0.0
    for name, array in expected.items():
        other = found.get(name)
        if other is None or other.shape != array.shape:
            return float("inf")
        largest = float(np.max(np.abs(other.astype(np.float64) - array), initial=0.0))
        worst = max(worst, largest if np.isfinite(largest) else float("inf"))
    return worst


def has_bfloat16() -> bool:
    """Whether the processor computes in bfloat16 by itself."""
    return bool({"avx512_bf16", "amx_bf16"} & _flags())


def _processor() -> str:
    known = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
    flags = _flags()
    return "+".join(flag for flag in known if flag in flags) or "plain"


def _flags() -> set[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return set()
    return next((set(line.split()) for line in lines if line.startswith("flags")), set())


def _read(file: Path) -> Choice | None:
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))
        figures = tuple(Measured(**figure) for figure in kept["figures"])
        return Choice(kept["name"], kept["key"], figures)
    except (OSError, ValueError, TypeError, KeyError):
        return None
