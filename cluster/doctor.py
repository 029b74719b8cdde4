"""`fomofeed doctor`: looks at all that a cluster needs; says what is missing and how to mend it."""

import os
import shutil
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from cluster.models import buildable_services, known_manifests
from cluster.ports import HOST, SERVICES, PortPlan
from cluster.procfs import command_line, holder_of
from serving.models.artifacts import ArtifactError, open_artifact


class Verdict(StrEnum):
    GOOD = "good"
    NOTE = "note"  # works, but a person should know
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    subject: str
    verdict: Verdict
    text: str


def examine(ports: PortPlan, repository: Path) -> Iterator[Finding]:
    """Looks at one thing after the other."""
    yield _python()
    yield _environment()
    yield _stubs()
    yield _onnxruntime()
    yield from _models(repository)
    yield from _ports(ports)
    yield _grpcurl()
    yield _cpus()


def _python() -> Finding:
    return Finding("python", Verdict.GOOD, ".".join(map(str, sys.version_info[:3])))


def _environment() -> Finding:
    if sys.prefix == sys.base_prefix:
        return Finding("environment", Verdict.NOTE, "no virtual environment: `make demo` makes one")
    return Finding("environment", Verdict.GOOD, sys.prefix)


def _stubs() -> Finding:
    if find_spec("fomofeed") is None:
        return Finding("stubs", Verdict.BAD, "gen/ is missing: `make protos` generates it")
    return Finding("stubs", Verdict.GOOD, "generated")


def _onnxruntime() -> Finding:
    installed = {name: _version(name) for name in ("onnxruntime", "onnxruntime-gpu")}
    here = [f"{name} {found}" for name, found in installed.items() if found]
    if len(here) == 2:
        text = f"{' and '.join(here)} overwrite each other: uninstall both, then install one"
        return Finding("onnxruntime", Verdict.BAD, text)
    if not here:
        return Finding("onnxruntime", Verdict.BAD, "missing: install the 'cpu' or the 'gpu' extra")
    return Finding("onnxruntime", Verdict.GOOD, here[0])


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return ""


def _models(repository: Path) -> Iterator[Finding]:
    manifests = known_manifests()
    if not manifests and not buildable_services():
        yield Finding("models", Verdict.NOTE, "no manifests here: an installed wheel brings none")
    for manifest in manifests:
        subject = f"model {manifest.name}"
        try:
            open_artifact(repository, manifest.name, manifest.version)
            yield Finding(subject, Verdict.GOOD, f"{manifest.version} verified")
        except ArtifactError as error:
            verdict = Verdict.NOTE if manifest.optional else Verdict.BAD
            yield Finding(subject, verdict, f"{error}: `fomofeed models pull`")


def _ports(ports: PortPlan) -> Iterator[Finding]:
    """A taken port is only a note: it may well be our own server that has it."""
    for service in SERVICES:
        taken = [
            port for port in (ports.port(service), ports.metrics_port(service)) if _answers(port)
        ]
        for port in taken:
            pid = holder_of(port)
            who = f"process {pid}: {command_line(pid)}" if pid else "somebody else's process"
            yield Finding(f"port {port}", Verdict.NOTE, f"{service.name}'s, held by {who}")
        if not taken:
            yield Finding(f"port {ports.port(service)}", Verdict.GOOD, f"{service.name}'s, free")


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


def _grpcurl() -> Finding:
    beside = Path(sys.executable).parent / "grpcurl"
    found = str(beside) if beside.exists() else shutil.which("grpcurl")
    if not found:
        text = "missing: `make test` installs it into .venv/; needed only to look at servers"
        return Finding("grpcurl", Verdict.NOTE, text)
    return Finding("grpcurl", Verdict.GOOD, found)


def _cpus() -> Finding:
    quota = cgroup_cpus(Path("/sys/fs/cgroup/cpu.max"))
    seen = len(os.sched_getaffinity(0))
    usable = min(quota or seen, seen)
    text = f"{usable:g} usable ({seen} seen, cgroup allows {f'{quota:g}' if quota else 'all'})"
    if usable < 2:
        return Finding("cpus", Verdict.NOTE, f"{text}: seven servers will share one")
    return Finding("cpus", Verdict.GOOD, text)


def cgroup_cpus(path: Path) -> float | None:
    """CPUs that a cgroup v2 file `cpu.max` allows, `quota period` in µs; none for no limit."""
    if not path.exists():
        return None
    quota, period = path.read_text().split()
    return None if quota == "max" else int(quota) / int(period)
