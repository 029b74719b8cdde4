"""Models that a service makes anew while it serves, as the inference protocol sees them."""

import asyncio
from pathlib import Path

import pytest

from fomofeed.type.v1 import type_pb2
from serving.engines.onnx import OnnxEngine
from serving.errors import ModelLoadError, NotFoundError, NotImplementedHereError
from serving.models.artifacts import ArtifactError
from serving.models.model import Model
from serving.models.renewable import Renewable, RenewableModels
from serving.models.served import IndexEntry, Served, State
from serving.scheduling.scheduler import BatchingConfig
from tests.serving.tiny_models import write_linear

ROOT = Path("/srv/models")


class Prior:
    """A model without tensors: each renewal is the next version; it fails when it is told to."""

    def __init__(self) -> None:
        self.version, self.fails = 1, False
        self.may_end = asyncio.Event()
        self.may_end.set()

    def ref(self) -> type_pb2.ModelRef:
        return type_pb2.ModelRef(model="prior", version=str(self.version))

    async def renew(self) -> None:
        await self.may_end.wait()
        if self.fails:
            raise ArtifactError(f"{ROOT}/prior/2/prior.npz is missing")
        self.version += 1

    def renewable(self) -> Renewable:
        return Renewable(self.ref, self.renew)


async def test_a_model_without_tensors_is_listed_and_cannot_be_asked() -> None:
    async with RenewableModels([Prior().renewable()], ROOT) as models:
        (line,) = await models.index()
        assert (line.name, line.version, line.state) == ("prior", "1", State.UNAVAILABLE)
        assert "no tensors" in line.reason
        assert not models.serving()
        with pytest.raises(NotFoundError):
            models.find("prior")


async def test_a_model_with_tensors_is_found_by_what_serves_now(tmp_path: Path) -> None:
    engine = OnnxEngine(write_linear(tmp_path / "linear.onnx"))
    async with Model("linear", [engine], BatchingConfig()) as model:
        ref = type_pb2.ModelRef(model="linear", version="3")
        served = Served("linear", "3", model)
        renewable = Renewable(lambda: ref, Prior().renew, lambda: served)
        async with RenewableModels([renewable], ROOT) as models:
            assert models.find("linear") is models.find("linear", "3") is served
            assert await models.index() == [IndexEntry("linear", "3", State.READY)]
            with pytest.raises(NotFoundError):
                models.find("linear", "2")


async def test_a_failed_load_says_why_without_the_folder_and_changes_nothing() -> None:
    prior = Prior()
    prior.fails = True
    async with RenewableModels([prior.renewable()], ROOT) as models:
        with pytest.raises(ModelLoadError) as caught:
            await models.load("prior")
        assert str(caught.value) == "model prior does not load: prior/2/prior.npz is missing"
        assert prior.version == 1
        prior.fails = False
        await models.load("prior")
        assert prior.version == 2


@pytest.mark.parametrize("fails", [False, True])
async def test_a_load_ends_before_the_service_though_its_caller_has_left(fails: bool) -> None:
    prior = Prior()
    prior.may_end.clear()
    prior.fails = fails
    async with RenewableModels([prior.renewable()], ROOT) as models:
        asking = asyncio.create_task(models.load("prior"))
        await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        prior.may_end.set()
    assert prior.version == (1 if fails else 2)


async def test_what_the_service_does_not_have_is_not_found_and_nothing_is_unloaded() -> None:
    async with RenewableModels([Prior().renewable()], ROOT) as models:
        with pytest.raises(NotFoundError):
            await models.load("other")
        with pytest.raises(NotImplementedHereError):
            await models.unload("prior")
