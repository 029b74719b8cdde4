import os
from pathlib import Path

import pytest

from serving.engines.cpus import available_cpus, check_plan

CORES = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("cpu_max", "cpus"),
    [("50000 100000", 0.5), ("max 100000", CORES), ("9900000 100000", CORES), ("?", CORES)],
)
def test_cpus_are_those_of_the_quota_and_the_cores(
    tmp_path: Path, cpu_max: str, cpus: float
) -> None:
    (tmp_path / "cpu.max").write_text(cpu_max)
    assert available_cpus(tmp_path) == cpus


@pytest.mark.parametrize(("quota", "cpus"), [("25000", 0.25), ("-1", CORES)])
def test_the_older_cgroup_is_read_as_well(tmp_path: Path, quota: str, cpus: float) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(f"{quota}\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert available_cpus(tmp_path) == cpus


def test_without_a_cgroup_the_cores_count(tmp_path: Path) -> None:
    assert available_cpus(tmp_path) == CORES


def test_more_threads_than_cpus_are_warned_of() -> None:
    assert check_plan(1, 1) == ""
    assert "more threads than CPUs" in check_plan(64, 64)
