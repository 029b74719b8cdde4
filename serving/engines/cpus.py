"""How many CPUs this process may really use: the cgroup's quota, not the machine's cores."""

import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def available_cpus(cgroup: Path = _CGROUP) -> float:
    """Returns CPUs by affinity and quota, e.g. 1.5; at least a small fraction, never 0."""
    cores = float(len(os.sched_getaffinity(0)))
    quota = _quota(cgroup)
    return min(cores, quota) if quota else cores


def check_plan(instances: int, threads: int) -> str:
    """Returns a warning when instances × threads oversubscribe the CPUs, else an empty string."""
    available = available_cpus()
    if instances * threads <= max(1.0, available):
        return ""
    return (
        f"{instances} instances of {threads} threads on {available:g} CPUs: "
        "more threads than CPUs make every call slower"
    )


def _quota(cgroup: Path) -> float | None:
    """The quota in CPUs of cgroup v2, or of v1; None when there is none."""
    try:
        if (cgroup / "cpu.max").exists():
            quota, period = (cgroup / "cpu.max").read_text().split()
        else:
            quota = (cgroup / "cpu" / "cpu.cfs_quota_us").read_text().strip()
            period = (cgroup / "cpu" / "cpu.cfs_period_us").read_text().strip()
        return None if quota in ("max", "-1") else int(quota) / int(period)
    except (OSError, ValueError):
        return None
