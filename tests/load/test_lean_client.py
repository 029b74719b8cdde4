"""The client of the overload bench against a real gRPC server: it sees what gRPC's client sees."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from typing import Any

import grpc
import pytest

from bench.rivals.lean import LeanClient
from cluster.load.arrivals import constant
from cluster.load.outcomes import Outcomes

METHOD = "/tests.Echo/Say"
TIMEOUT_S = 0.5
LATE_S = 0.5  # more than the server and this process are busy with other things

Behaviour = Callable[[bytes, Any], Awaitable[bytes]]


async def echo(request: bytes, context: Any) -> bytes:
    return request


@asynccontextmanager
async def serving(behave: Behaviour, **options: int) -> AsyncIterator[str]:
    settings = [(f"grpc.{name}", value) for name, value in options.items()]
    server = grpc.aio.server(options=settings)
    handler: Any = grpc.unary_unary_rpc_method_handler(behave)  # type: ignore[arg-type]
    service = grpc.method_handlers_generic_handler("tests.Echo", {"Say": handler})
    server.add_generic_rpc_handlers((service,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


async def measured(
    address: str, requests: tuple[bytes, ...], calls: int, timeout_s: float = TIMEOUT_S
) -> Outcomes:
    """Makes so many calls in a tenth of a second."""

    def run() -> Outcomes:
        with LeanClient.open(address, METHOD, requests) as client:
            return client.measure(constant(10 * calls, 0.1), timeout_s)[0]

    return await asyncio.to_thread(run)


async def test_each_call_brings_its_request_and_its_deadline() -> None:
    seen: list[tuple[bytes, float]] = []

    async def note(request: bytes, context: Any) -> bytes:
        seen.append((request, context.time_remaining()))
        return request

    async with serving(note) as address:
        outcomes = await measured(address, (b"one", b"two"), 20, timeout_s=9)
    assert outcomes.counts() == {"OK": 20}
    assert sorted(request for request, _ in seen) == [b"one"] * 10 + [b"two"] * 10
    assert all(9 - 2 * LATE_S < left <= 9.001 for _, left in seen)
    assert (outcomes.sent >= outcomes.intended).all()
    assert (outcomes.ended > outcomes.sent).all()


async def test_a_status_that_is_not_ok_is_told() -> None:
    async def refuse(request: bytes, context: Any) -> bytes:
        if request == b"much":
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too much")
        return request

    async with serving(refuse) as address:
        outcomes = await measured(address, (b"little", b"much"), 20, timeout_s=9)
    assert outcomes.counts() == {"OK": 10, "RESOURCE_EXHAUSTED": 10}


async def test_a_call_that_reaches_its_deadline_is_cancelled_at_the_server() -> None:
    cancelled: list[bytes] = []

    async def hang(request: bytes, context: Any) -> bytes:
        if request == b"hang":
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.append(request)
                raise
        return request

    async with serving(hang) as address:
        outcomes = await measured(address, (b"answer", b"hang"), 20)
        assert outcomes.counts() == {"OK": 10, "DEADLINE_EXCEEDED": 10}
        late = outcomes.latency[~outcomes.is_ok]
        assert (late >= TIMEOUT_S).all()
        assert (late < TIMEOUT_S + LATE_S).all()
        while len(cancelled) < 10:  # noqa: ASYNC110 # ends by the limit of every test
            await asyncio.sleep(0)


async def test_no_more_bytes_are_sent_than_the_server_takes() -> None:
    async with serving(echo) as address:
        outcomes = await measured(address, (bytes(16_000),), 300, timeout_s=30)
    assert outcomes.counts() == {"OK": 300}


async def test_calls_wait_while_the_server_takes_no_more_of_them() -> None:
    async with serving(echo, max_concurrent_streams=2) as address:
        outcomes = await measured(address, (b"any",), 300, timeout_s=30)
    # Not all: for a moment the server still counts a stream whose last frame it has sent.
    assert outcomes.counts()["OK"] > 200
    assert set(outcomes.counts()) <= {"OK", "UNAVAILABLE"}


async def test_callers_who_wait_for_their_answers_get_a_rate() -> None:
    def run(address: str) -> float:
        with LeanClient.open(address, METHOD, (b"again",)) as client:
            return client.rate(callers=4, seconds=0.2, warm_up_s=0.0)

    answered = 0

    async def count(request: bytes, context: Any) -> bytes:
        nonlocal answered
        answered += 1
        return request

    async with serving(count) as address:
        rate = await asyncio.to_thread(run, address)
    assert 0 < rate * 0.2 <= answered


async def test_a_server_that_has_gone_is_an_error() -> None:
    with ExitStack() as stack:
        async with serving(echo) as address:
            client = stack.enter_context(LeanClient.open(address, METHOD, (b"any",)))
        with pytest.raises(ConnectionError):
            await asyncio.to_thread(client.measure, constant(100, 0.1), TIMEOUT_S)
