"""Sends fuzzed requests to real servers, and collects what no request may meet."""

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc

from tests.fuzz.methods import Method, inference_methods, methods_of, standard_methods

# What a wrong request may meet. UNKNOWN, INTERNAL and UNAVAILABLE would be our fault.
ALLOWED = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
}
CALLERS = 8
HANG_S = 20.0
_ENDLESS_S = 0.05
# What gRPC's own client makes of a refusal that comes while it writes the rest of its stream.
_WROTE_TO_AN_ANSWERED_CALL = "Internal error from Core"


@dataclass(slots=True)
class Report:
    """What came of it. `findings` name method, seed and status of what no request may meet."""

    codes: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)


async def fuzz(
    target: str, services: Sequence[str], count: int, seed: int, *, harmless: bool
) -> Report:
    """Sends `count` requests to one server, over all of its methods in turns.

    Of those methods that every server has alike, one request for each of five others.
    """
    report = Report()
    async with grpc.aio.insecure_channel(target) as channel:  # no pings: a crowd starves them
        await channel.channel_ready()
        own = [m for service in services for m in methods_of(service, harmless=harmless)]
        own += await inference_methods(channel)
        standard = standard_methods()
        numbers = iter(range(count))

        async def caller() -> None:
            for number in numbers:
                at, is_standard = divmod(number, 6)
                methods = standard if is_standard == 0 else own
                method = methods[(at if is_standard == 0 else number) % len(methods)]
                await _send(channel, method, seed * 10_000_000 + number, report)

        await asyncio.gather(*(caller() for _ in range(CALLERS)))
    return report


async def _send(channel: grpc.aio.Channel, method: Method, seed: int, report: Report) -> None:
    content, is_message = method.make(random.Random(seed))
    code, details = await _call(channel, method, content)
    report.codes[code.name] += 1
    is_in_time = not (method.is_endless and code is grpc.StatusCode.DEADLINE_EXCEEDED)
    is_refused = code is grpc.StatusCode.INVALID_ARGUMENT
    if code not in ALLOWED or (not is_message and is_in_time and not is_refused):
        report.findings.append(f"{method.path} seed {seed}: {code.name} {details[:200]}")


async def _call(
    channel: grpc.aio.Channel, method: Method, content: bytes
) -> tuple[grpc.StatusCode, str]:
    kinds = {
        (False, False): channel.unary_unary,
        (False, True): channel.unary_stream,
        (True, False): channel.stream_unary,
        (True, True): channel.stream_stream,
    }
    kind: Any = kinds[method.is_client_stream, method.is_server_stream]
    request: Any = iter([content, content]) if method.is_client_stream else content
    try:
        async with asyncio.timeout(HANG_S):
            timeout = _ENDLESS_S if method.is_endless else HANG_S / 2
            call = kind(method.path)(request, timeout=timeout)
            if method.is_server_stream:
                async for _ in call:
                    pass
            else:
                await call
    except grpc.aio.AioRpcError as error:
        if method.is_client_stream and error.details() == _WROTE_TO_AN_ANSWERED_CALL:
            return grpc.StatusCode.INVALID_ARGUMENT, ""
        return error.code(), error.details() or ""
    except TimeoutError:
        return grpc.StatusCode.UNKNOWN, f"no end within {HANG_S} s"
    return grpc.StatusCode.OK, ""
