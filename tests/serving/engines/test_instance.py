import asyncio
import threading
from typing import Any

import pytest

from serving.engines.engine import Engine
from serving.engines.instance import Instance, Job
from serving.errors import EngineError

LONG_S = 5.0  # far longer than anything here takes


class Nothing:
    """An engine that is never called."""

    inputs = outputs = ()

    def infer(self, inputs: Any) -> Any:
        raise AssertionError


async def test_functions_run_one_after_the_other_on_one_thread() -> None:
    instance, seen = Instance(Nothing(), "one"), list[tuple[int, str]]()

    def note(number: int) -> int:
        seen.append((number, threading.current_thread().name))
        return number

    answers = await asyncio.gather(*(instance.run(lambda _, n=n: note(n)) for n in range(5)))
    await instance.close()
    assert answers == list(range(5))
    assert seen == [(number, "one") for number in range(5)]


async def test_the_following_job_begins_while_nobody_can_hear_of_the_first() -> None:
    instance, loop = Instance(Nothing(), "one"), asyncio.get_running_loop()
    begun = threading.Event()

    def second(_: Engine) -> str:
        begun.set()
        return "second"

    following = Job(second, loop.create_future())
    first = Job(lambda _: "first", loop.create_future(), lambda: following)
    instance.begin(first)
    assert begun.wait(LONG_S)  # and the event loop waits here
    assert not first.result.done()
    assert [await first.result, await following.result] == ["first", "second"]
    await instance.close()


async def test_nothing_follows_a_job_that_fails() -> None:
    instance, loop = Instance(Nothing(), "one"), asyncio.get_running_loop()

    def fail(_: Engine) -> str:
        raise EngineError("first")

    asked = list[int]()
    first = Job(fail, loop.create_future(), lambda: asked.append(1))  # type: ignore[func-returns-value]
    instance.begin(first)
    with pytest.raises(EngineError, match="first"):
        await first.result
    assert await instance.run(lambda _: "goes on") == "goes on"
    assert not asked
    await instance.close()
