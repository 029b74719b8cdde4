import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from prometheus_client import REGISTRY

from services.clip.cache import ContentCache
from serving import request
from serving.errors import DeadlineError
from serving.request import CallFacts

Compute = Callable[[], Coroutine[Any, Any, bytes]]


class Work:
    """Counts how often it is begun; ends when it is told to."""

    def __init__(self, value: bytes = b"analysis") -> None:
        self.value = value
        self.begun = self.cancelled = 0
        self.has_begun = asyncio.Event()
        self.may_end = asyncio.Event()
        self.may_end.set()

    async def __call__(self) -> bytes:
        self.begun += 1
        self.has_begun.set()
        try:
            await self.may_end.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return self.value


def cache(max_bytes: int = 1 << 20) -> ContentCache[bytes]:
    return ContentCache(max_bytes, len)


async def asked(held: ContentCache[bytes], work: Compute, **named: Any) -> tuple[bytes, bool]:
    """What one call gets, and whether its ledger says that nothing was computed."""
    facts = CallFacts(tenant=named.pop("tenant", "default"))
    model, image = named.get("model", b"model 1"), named.get("image", b"image")

    async def call() -> bytes:
        request.enter(facts)
        return await held.get(model, image, work)

    return await asyncio.create_task(call()), facts.ledger.cached


async def test_second_call_is_answered_from_memory_and_says_so() -> None:
    held, work = cache(), Work()
    assert await asked(held, work) == (b"analysis", False)
    assert await asked(held, work) == (b"analysis", True)
    assert work.begun == 1


@pytest.mark.parametrize("other", [{"model": b"model 2"}, {"image": b"other"}, {"tenant": "b"}])
async def test_another_model_image_or_tenant_is_computed_anew(other: dict[str, Any]) -> None:
    held, old, new = cache(), Work(), Work(b"new")
    await asked(held, old)
    assert await asked(held, new, **other) == (b"new", False)


async def test_calls_at_the_same_time_share_one_computation() -> None:
    held, work = cache(), Work()
    work.may_end.clear()
    calls = [asyncio.create_task(asked(held, work)) for _ in range(5)]
    await work.has_begun.wait()
    work.may_end.set()
    answers = await asyncio.gather(*calls)
    assert work.begun == 1
    assert sorted(cached for _, cached in answers) == [False, True, True, True, True]


async def test_who_leaves_does_not_end_it_for_the_others_and_the_last_one_does() -> None:
    held, work = cache(), Work()
    work.may_end.clear()
    first, second = (asyncio.create_task(asked(held, work)) for _ in range(2))
    await work.has_begun.wait()
    first.cancel()
    await asyncio.wait([first])
    assert not work.cancelled
    work.may_end.set()
    assert (await second)[0] == b"analysis"

    work.may_end.clear()
    work.has_begun.clear()
    alone = asyncio.create_task(asked(held, work, image=b"third"))
    await work.has_begun.wait()
    alone.cancel()
    await asyncio.wait([alone])
    assert work.cancelled == 1


async def test_error_is_not_remembered_and_followers_compute_their_own() -> None:
    held, calls = cache(), 0

    async def failing_once() -> bytes:
        nonlocal calls
        calls += 1
        await asyncio.sleep(0)
        if calls == 1:
            raise DeadlineError.expired()
        return b"analysis"

    first, second = await asyncio.gather(
        asked(held, failing_once), asked(held, failing_once), return_exceptions=True
    )
    assert isinstance(first, DeadlineError)
    assert second == (b"analysis", False)


async def test_memory_is_bounded_and_the_least_used_leaves_first() -> None:
    held, work = cache(3500), Work(b"x" * 1000)
    for image in (b"a", b"b", b"a", b"c"):
        await asked(held, work, image=image)
        assert held.size_bytes <= 3500
    assert REGISTRY.get_sample_value("fomofeed_clip_cache_bytes") == held.size_bytes
    assert (await asked(held, work, image=b"a"))[1]
    assert not (await asked(held, work, image=b"b"))[1]
    await asked(held, Work(b"x" * 5000), image=b"huge")
    assert held.size_bytes <= 3500


async def test_zero_bytes_switch_it_off() -> None:
    held, work = cache(0), Work()
    for _ in range(2):
        assert await asked(held, work) == (b"analysis", False)
    assert work.begun == 2
