"""Models that are loaded, unloaded and exchanged while they serve."""

import asyncio
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import REGISTRY

from serving.errors import ModelLoadError, NotFoundError, NotReadyError
from serving.models.repository import Repository
from tests.serving.models.linear_repository import (
    Observer,
    configure,
    index_of,
    put,
    scale_of,
)
from tests.serving.tiny_models import write_linear


async def test_loading_brings_up_the_new_version_and_drops_the_old(tmp_path: Path) -> None:
    put(tmp_path, "1", 1.0)
    async with Repository(tmp_path) as repository:
        put(tmp_path, "2", 2.0)
        assert await scale_of(repository) == 1
        await repository.load("linear")
        assert await scale_of(repository) == 2
        with pytest.raises(NotFoundError):
            repository.find("linear", "1")


async def test_loading_again_keeps_what_has_not_changed(tmp_path: Path) -> None:
    path = put(tmp_path, "1")
    async with Repository(tmp_path) as repository:
        before = repository.find("linear")
        await repository.load("linear")
        assert repository.find("linear") is before
        configure(tmp_path, "instances: 2")
        await repository.load("linear")
        after = repository.find("linear")
        assert after is not before
        write_linear(path, scale=5.0)
        await repository.load("linear")
        assert await scale_of(repository) == 5


async def test_a_model_that_comes_later_is_loaded_by_name(tmp_path: Path) -> None:
    observer = Observer()
    async with Repository(tmp_path, observer) as repository:
        with pytest.raises(NotFoundError, match="no model linear"):
            await repository.load("linear")
        put(tmp_path, "1")
        assert await index_of(repository) == {("linear", ""): ("UNAVAILABLE", "not loaded")}
        await repository.load("linear")
        assert await scale_of(repository) == 1
        assert observer.serves == {"": True, "linear": True}


@pytest.mark.parametrize("name", ["../linear", "linear/1", ".", "", "linear\0"])
async def test_a_name_is_never_a_path(tmp_path: Path, name: str) -> None:
    put(tmp_path, "1")
    async with Repository(tmp_path) as repository:
        for call in (repository.load, repository.unload):
            with pytest.raises(NotFoundError):
                await call(name)


async def test_a_failed_load_leaves_the_old_one_serving_and_says_why(tmp_path: Path) -> None:
    path = put(tmp_path, "1", 1.0)
    observer = Observer()
    async with Repository(tmp_path, observer) as repository:
        path.write_bytes(b"broken")
        with pytest.raises(ModelLoadError, match="model linear does not load: 1: "):
            await repository.load("linear")
        assert await scale_of(repository) == 1
        state, reason = (await index_of(repository))["linear", "1"]
        assert (state, bool(reason)) == ("READY", True)
        assert repository.is_ready()
        assert observer.serves == {"": True, "linear": True}
        put(tmp_path, "1", 7.0)
        await repository.load("linear")
        assert await scale_of(repository) == 7
        assert await index_of(repository) == {("linear", "1"): ("READY", "")}


async def test_a_new_version_that_fails_leaves_the_old_version_serving(tmp_path: Path) -> None:
    put(tmp_path, "1", 1.0)
    async with Repository(tmp_path) as repository:
        put(tmp_path, "2").write_bytes(b"broken")
        with pytest.raises(ModelLoadError):
            await repository.load("linear")
        assert await scale_of(repository) == 1
        index = await index_of(repository)
        assert index["linear", "1"][0] == "READY"
        assert index["linear", "2"][0] == "UNAVAILABLE"


async def test_a_broken_options_file_leaves_the_model_serving(tmp_path: Path) -> None:
    put(tmp_path, "1")
    async with Repository(tmp_path) as repository:
        configure(tmp_path, "instance: 2")
        with pytest.raises(ModelLoadError, match="unknown key instance"):
            await repository.load("linear")
        assert await scale_of(repository) == 1
        ((state, reason),) = (await index_of(repository)).values()
        assert state == "READY"
        assert "unknown key instance" in reason


async def test_unloading_ends_a_model_and_loading_brings_it_back(tmp_path: Path) -> None:
    put(tmp_path, "1")
    observer = Observer()
    async with Repository(tmp_path, observer) as repository:
        await repository.unload("linear")
        with pytest.raises(NotReadyError, match="not serving linear"):
            repository.find("linear")
        assert await index_of(repository) == {("linear", ""): ("UNAVAILABLE", "unloaded")}
        assert observer.serves == {"": True, "linear": False}
        await repository.unload("linear")
        await repository.load("linear")
        assert await scale_of(repository) == 1
        assert observer.serves["linear"]


async def test_unloading_waits_for_the_calls_that_were_accepted(tmp_path: Path) -> None:
    put(tmp_path, "1", 3.0)
    observer = Observer()
    async with Repository(tmp_path, observer) as repository:
        with repository.find("linear") as served:
            leaving = asyncio.create_task(repository.unload("linear"))
            await observer.told_of_an_end.wait()
            answer = await served.model.infer({"x": np.ones((1, 3), np.float32)})
            assert answer["y"][0, 0] == 4
            assert not leaving.done()
        await leaving


async def test_a_load_goes_on_when_its_caller_leaves(tmp_path: Path) -> None:
    put(tmp_path, "1", 1.0)
    async with Repository(tmp_path) as repository:
        put(tmp_path, "2", 2.0)
        caller = asyncio.create_task(repository.load("linear"))
        await asyncio.sleep(0)
        caller.cancel()
        await repository.load("linear")
        assert await scale_of(repository) == 2


async def test_no_call_fails_while_a_model_is_reloaded_again_and_again(tmp_path: Path) -> None:
    put(tmp_path, "1", 1.0)
    answered, stop = defaultdict[float, asyncio.Event](asyncio.Event), asyncio.Event()

    async def ask(repository: Repository) -> None:
        while not stop.is_set():
            answered[await scale_of(repository)].set()
            await asyncio.sleep(0)  # a short call runs where it stands, and gives no turn

    async with Repository(tmp_path) as repository, asyncio.TaskGroup() as group:
        for _ in range(8):
            group.create_task(ask(repository))
        for number in range(2, 22):
            await answered[number - 1].wait()
            put(tmp_path, str(number), float(number))
            await repository.load("linear")
            assert await scale_of(repository) == number
        stop.set()
    assert set(answered) <= {float(number) for number in range(1, 22)}


async def test_loads_and_unloads_at_once_end_in_the_last_ones_state(tmp_path: Path) -> None:
    put(tmp_path, "1", 1.0)
    async with Repository(tmp_path) as repository:
        for _ in range(10):
            await asyncio.gather(
                *(repository.load("linear") for _ in range(3)),
                *(repository.unload("linear") for _ in range(3)),
                repository.load("linear"),
            )
            assert await scale_of(repository) == 1


def told(metric: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(metric, labels)


async def test_a_reload_starts_statistics_and_times_anew_and_tells_of_them(tmp_path: Path) -> None:
    put(tmp_path, "1", name="counted")
    ask = {"x": np.ones((1, 3), np.float32)}
    async with Repository(tmp_path) as repository:
        for _ in range(50):
            await repository.find("counted").model.infer(ask)
        old = repository.find("counted")
        put(tmp_path, "2", 5.0, name="counted")
        await repository.load("counted")
        fresh = repository.find("counted")
        assert old.model.statistics.call_count == 50
        assert fresh.model.statistics.call_count == 0
        assert fresh.statistics.success.count == 0
        times = fresh.model.batcher.scheduler.service_time
        assert times.line(((3,),)) is not old.model.batcher.scheduler.service_time.line(((3,),))
        shown = told("fomofeed_service_time_seconds", model="counted", bucket="3", parameter="a")
        assert shown == times.line(((3,),)).a
