from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import grpc
import pytest

from fomofeed.type.v1 import type_pb2
from inference import grpc_service_pb2_grpc as pb_grpc
from serving.models.model import Model
from serving.models.served import FixedModels, Models
from serving.oip.conformance.__main__ import line, run, summary
from serving.oip.conformance.examine import RULES, examine
from serving.oip.conformance.rule import Result, Verdict
from serving.oip.conformance.target import DiscoveryError, discover
from serving.oip.servicer import InferenceServicer
from serving.scheduling.scheduler import BatchingConfig
from tests.serving.oip.broken_servers import BROKEN
from tests.serving.oip.conftest import ServeModels
from tests.serving.oip.requests import Copies, spec

TYPED = (
    spec("a", "FP32", -1, 3),
    spec("b", "INT8", -1, 3),
    spec("c", "BYTES", -1, 2),
    spec("d", "FP32", -1, 3),
)
HALVES = (spec("a", "FP16", -1, 3), spec("b", "BF16", -1))
UNBATCHED = (spec("a", "FP32"), spec("b", "INT64", 2, 2))


def model(*specs: Any, version: str = "1") -> Model:
    ref = type_pb2.ModelRef(model="m", version=version)
    return Model("m", [Copies(*specs)], BatchingConfig(max_batch_rows=4), ref)


async def results_of(channel: grpc.aio.Channel, name: str = "") -> dict[str, Result]:
    target = await discover(channel, name)
    return {result.rule.number: result async for result in examine(target)}


def failures(results: dict[str, Result]) -> set[str]:
    return {number for number, result in results.items() if result.verdict is Verdict.FAIL}


@pytest.mark.parametrize("specs", [TYPED, HALVES, UNBATCHED], ids=["typed", "halves", "unbatched"])
async def test_our_own_server_breaks_no_rule(oip_on: ServeModels, specs: Any) -> None:
    async with model(*specs) as one, model(*specs, version="2") as two:
        served = await oip_on(FixedModels([one, two]))
        results = await results_of(served.channel)
    assert failures(results) == set()
    assert list(results) == [rule.number for rule in RULES]


async def test_with_all_kinds_of_models_every_rule_but_rest_is_checked(
    oip_on: ServeModels,
) -> None:
    passed = set[str]()
    for specs in (TYPED, HALVES):
        async with model(*specs) as one:
            served = await oip_on(FixedModels([one]))
            results = await results_of(served.channel)
            passed |= {n for n, result in results.items() if result.verdict is Verdict.PASS}
    assert {rule.number for rule in RULES} - passed == {"23"}


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.__name__)
async def test_a_broken_server_fails_exactly_the_rules_that_it_breaks(
    serving_on: Any, broken: Callable[[Models], InferenceServicer]
) -> None:
    async with AsyncExitStack() as stack:
        models = [
            await stack.enter_async_context(model(*TYPED, version=version)) for version in "12"
        ]
        servicer = broken(FixedModels(models))
        mounts = [(pb_grpc.add_GRPCInferenceServiceServicer_to_server, servicer)]
        running = await serving_on(mounts, ["inference.GRPCInferenceService", "m"])
        found = failures(await results_of(running.channel, "m"))
    assert found == BROKEN[broken]


async def test_a_server_without_the_service_has_no_model_to_examine(serving_on: Any) -> None:
    running = await serving_on([])
    with pytest.raises(DiscoveryError, match="UNIMPLEMENTED"):
        await discover(running.channel)
    with pytest.raises(DiscoveryError, match="m has no metadata"):
        await discover(running.channel, "m")


async def test_the_exit_code_tells_a_broken_must(
    oip_on: ServeModels, serving_on: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    drops_id, forgives = list(BROKEN)[1], list(BROKEN)[10]
    async with model(*TYPED) as one:
        fixed = FixedModels([one])
        assert await run((await oip_on(fixed)).target, "") == 0
        for broken, code in ((drops_id, 1), (forgives, 0)):
            mounts = [(pb_grpc.add_GRPCInferenceServiceServicer_to_server, broken(fixed))]
            assert await run((await serving_on(mounts)).target, "m") == code
        assert await run((await serving_on([])).target, "") == 2
    printed = capsys.readouterr().out
    assert "FAIL 10a  MUST   the id is returned unchanged: " in printed
    assert "0 MUST fail" in printed


def test_a_line_has_verdict_number_level_title_and_reason() -> None:
    rule = RULES[0]
    assert line(Result(rule, Verdict.PASS)).startswith("pass 1    MUST   the service is")
    assert line(Result(rule, Verdict.SKIP, "why")).endswith(": why")
    assert summary([Result(rule, Verdict.FAIL, "x")]).startswith("0 MUST pass, 0 SHOULD pass, 1 M")
