"""What stands between gRPC and every servicer: facts in, errors and ledger out, metrics.

It wraps each method's handler once and keeps it, so that a call costs one dictionary look-up
here: gRPC is given wrapped handlers instead of an interceptor, which it would run anew for each
call. Health, in the Open Inference Protocol's words too, passes as it is: it must answer in every
phase and under any load, as reflection and channelz do (`answer_always`).
"""

import asyncio
import logging
import math
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any

import grpc

from serving import request, telemetry
from serving.errors import (
    EngineError,
    QueueFullError,
    ServingError,
    to_status,
)
from serving.rpc.channels import STATUS_DETAILS_KEY
from serving.rpc.infrastructure import read_here
from serving.rpc.load_report import LoadReport
from serving.rpc.reading import Read, all_read, reader

log = logging.getLogger(__name__)

_INFERENCE = "/inference.GRPCInferenceService/"
_HEALTH = tuple(_INFERENCE + method for method in ("ServerLive", "ServerReady", "ModelReady"))
_OK = grpc.StatusCode.OK
_RETRY_S = 0.05
_MOMENT_S, _REFUSING_S = 0.1, 1.0

Context = grpc.aio.ServicerContext[Any, Any]
Handler = Any  # grpc.RpcMethodHandler: generic in its stubs, not at run time
Refusal = Callable[[], ServingError | None]
Write = Callable[[Any], bytes]


class MountedCalls(grpc.GenericRpcHandler):
    """The handlers of all mounted servicers; gives each call its facts, each failure its status.

    gRPC itself takes no handlers after the start; this one does. `refuse` is asked before every
    call: an error while the server is loading or draining. More than `max_in_flight` calls at once
    are refused with `RESOURCE_EXHAUSTED`. Answers carry `load`, what it says of all calls with one
    request and one answer.
    """

    def __init__(self, refuse: Refusal, replica: str, max_in_flight: int, load: LoadReport) -> None:
        self._refuse = refuse
        self._load = load
        self._replica = replica
        self._max_in_flight = max_in_flight
        self._in_flight = 0
        self._last_call = -math.inf  # of the loop's clock
        self._idle: asyncio.Event | None = None  # once somebody waits for it
        self._mounted: list[grpc.GenericRpcHandler] = []
        self._wrapped: dict[str, Handler] = {}
        telemetry.RPC_IN_FLIGHT.set_function(lambda: self._in_flight)

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        self._mounted.extend(handlers)

    def add_registered_method_handlers(self, service: str, handlers: dict[str, Any]) -> None:
        """Called by generated code with the handlers it has just added; a second way to them."""

    def answer_always(self, handlers: Mapping[str, Handler]) -> None:
        """Adds handlers by "/package.Service/Method" that answer past admission and metrics."""
        self._wrapped.update(handlers)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Handler | None:
        """Returns the wrapped handler of the method; one that refuses while not ready."""
        method = handler_call_details.method
        wrapped = self._wrapped.get(method)
        if wrapped is not None:
            return wrapped
        handler = next(filter(None, (m.service(handler_call_details) for m in self._mounted)), None)
        if handler and method in _HEALTH:
            return self._wrapped.setdefault(method, read_here(handler))
        if handler is None:  # unknown, or not mounted yet because the model still loads
            return self._refusing_handler() if self._refuse() else None
        return self._wrapped.setdefault(method, self._wrap(method, handler))

    def _refusing_handler(self) -> Handler:
        async def refuse(_: bytes, context: Context) -> None:
            if error := self._refuse():
                await self._fail(context, error, time.perf_counter())

        return grpc.unary_unary_rpc_method_handler(refuse)

    def _wrap(self, method: str, handler: Handler) -> Handler:
        call = _Call(self, method)
        read = reader(handler.request_deserializer or bytes)
        write = handler.response_serializer or bytes
        behavior: Any  # the stubs type handlers for sync servers only
        if handler.response_streaming:
            behavior = handler.stream_stream or handler.unary_stream
            read_all = all_read(read) if handler.request_streaming else read
            make = (
                grpc.stream_stream_rpc_method_handler
                if handler.request_streaming
                else grpc.unary_stream_rpc_method_handler
            )
            return make(call.streaming(behavior, read_all), None, write)
        behavior = handler.stream_unary or handler.unary_unary
        read_all = all_read(read) if handler.request_streaming else read
        make = (
            grpc.stream_unary_rpc_method_handler
            if handler.request_streaming
            else grpc.unary_unary_rpc_method_handler
        )
        load = _untold() if handler.request_streaming else self._load
        return make(call.unary(behavior, read_all, write, load), None, None)

    def begin(self, context: Context) -> request.CallFacts:
        """Admits a call and makes its facts current, or raises why not."""
        now = self._last_call = asyncio.get_running_loop().time()
        if error := self._refuse():
            raise error
        if self._in_flight >= self._max_in_flight:
            raise QueueFullError("server", f"{self._max_in_flight} calls in flight", _RETRY_S)
        metadata = dict(context.invocation_metadata() or ())
        facts = request.facts_from_metadata(metadata, context.time_remaining(), now)
        request.enter(facts)
        telemetry.TENANTS.count(facts.tenant)
        self._in_flight += 1
        return facts

    def end(self) -> None:
        """Ends a call that `begin` has admitted."""
        self._in_flight -= 1
        if self._idle and not self._in_flight:
            self._idle.set()

    async def drained(self) -> None:
        """Returns when no call is being answered, and what was in the air has been refused.

        A server that stops while calls arrive cancels them, and its last answers on their way, so
        it goes on refusing until a moment passes without a call: at most a second, and no time at
        all if it was idle.
        """
        if self._in_flight:
            self._idle = asyncio.Event()
            await self._idle.wait()
        if asyncio.get_running_loop().time() - self._last_call < _MOMENT_S:
            await self.quiet(_REFUSING_S)

    async def quiet(self, most_s: float) -> None:
        """Returns when a moment has passed in which no call arrived; after `most_s` at the latest.

        Asks whether one arrived, not how long ago: while the loop stalls calls wait to be heard. A
        moment that took twice its time was such a stall, and tells nothing.
        """
        loop = asyncio.get_running_loop()
        now, is_quiet = loop.time(), False
        end = now + most_s
        while not is_quiet and now < end:
            began, last_call = now, self._last_call
            await asyncio.sleep(min(_MOMENT_S, end - now))
            now = loop.time()
            is_quiet = self._last_call == last_call and now - began < 2 * _MOMENT_S

    async def _fail(self, context: Context, error: ServingError, start: float) -> None:
        """Refuses a call that was not admitted."""
        trailers = self.failure_entries(error, request.LedgerBuilder(), start)
        await context.abort(error.code, str(error), trailers)

    def failure_entries(
        self, error: ServingError, ledger: request.LedgerBuilder, start: float
    ) -> tuple[tuple[str, Any], ...]:
        """Returns the trailers of a call that failed: why, what to do about it, and the ledger."""
        details = (STATUS_DETAILS_KEY, to_status(error).SerializeToString())
        return (details, *error.trailers(), self.ledger_entry(ledger, start))

    def ledger_entry(self, ledger: request.LedgerBuilder, start: float) -> tuple[str, bytes]:
        """Returns the trailer that tells where the time of a call went since `start`."""
        return request.LEDGER_KEY, ledger.to_proto(self._replica, start).SerializeToString()


class _Call:
    """How one method is called: shared by all calls of it."""

    def __init__(self, owner: MountedCalls, method: str) -> None:
        self._owner = owner
        self._name = method.lstrip("/")
        self._duration = telemetry.RPC_DURATION.labels(self._name)
        self._handled = {
            code: telemetry.RPC_HANDLED.labels(self._name, code.name) for code in grpc.StatusCode
        }
        self._succeeded = self._handled[_OK]

    def unary(
        self,
        behavior: Callable[[Any, Context], Awaitable[Any]],
        read: Read,
        write: Write,
        load: LoadReport,
    ) -> Any:
        async def call(message: Any, context: Context) -> Any:
            owner, start, failed = self._owner, time.perf_counter(), 0.0
            code, facts, is_over = grpc.StatusCode.CANCELLED, None, False
            load.begin(start)
            try:
                try:
                    facts = owner.begin(context)
                    message = read(message)
                    ledger = facts.ledger
                    ledger.preprocess_s += time.perf_counter() - start
                    answer = await behavior(message, context)
                    answered = time.perf_counter()
                    content = write(answer)
                    now = time.perf_counter()
                    ledger.postprocess_s += now - answered
                    code = context.code() or _OK
                    is_over, told = True, load.end(now, code, now - start, ledger.queue_s)
                    context.set_trailing_metadata((owner.ledger_entry(ledger, start), *told))
                    return content
                except Exception as error:
                    failure = self._shown(error)
                    code = failure.code
                del message  # gRPC keeps the abort, which keeps this frame, until a collection
                ledger = facts.ledger if facts else request.LedgerBuilder()
                trailers = owner.failure_entries(failure, ledger, start)
                failed = time.perf_counter()
                if not is_over:
                    is_over, told = True, load.end(failed, code, failed - start, ledger.queue_s)
                await context.abort(code, str(failure), (*trailers, *told))
            finally:
                if not is_over:
                    load.end(time.perf_counter(), grpc.StatusCode.CANCELLED, 0.0, 0.0)
                self._end(start, failed, code, facts is not None)

        return call

    def streaming(self, behavior: Callable[[Any, Context], AsyncIterator[Any]], read: Read) -> Any:
        async def call(message: Any, context: Context) -> AsyncIterator[Any]:
            owner, start, failed = self._owner, time.perf_counter(), 0.0
            code, facts = grpc.StatusCode.CANCELLED, None
            try:
                try:
                    facts = owner.begin(context)
                    async for answer in behavior(read(message), context):
                        yield answer
                    context.set_trailing_metadata((owner.ledger_entry(facts.ledger, start),))
                    code = _OK
                    return
                except Exception as error:
                    failure = self._shown(error)
                    code = failure.code
                del message
                ledger = facts.ledger if facts else request.LedgerBuilder()
                trailers = owner.failure_entries(failure, ledger, start)
                failed = time.perf_counter()
                await context.abort(code, str(failure), trailers)
            finally:
                self._end(start, failed, code, facts is not None)

        return call

    def _shown(self, error: Exception) -> ServingError:
        """Returns what the caller may see of `error`; logs everything that is not meant for him."""
        if isinstance(error, grpc.aio.AbortError):
            raise error
        if isinstance(error, ServingError):
            return _without_frames(error)
        incident = uuid.uuid4().hex[:12]
        log.error("%s failed, incident %s", self._name, incident, exc_info=error)
        return EngineError("internal error", incident)

    def _end(self, start: float, failed: float, code: grpc.StatusCode, admitted: bool) -> None:
        """Counts a call, as answered now, or when it failed: sending what is sent not included."""
        if admitted:
            self._owner.end()
        self._duration.observe((failed or time.perf_counter()) - start)
        (self._succeeded if code is _OK else self._handled[code]).inc()  # Python hashes its name


def _untold() -> LoadReport:
    """For calls that take as long as their caller does: their time says nothing of the server."""
    return LoadReport(after_s=math.inf, over_s=1.0)


def _without_frames(error: ServingError) -> ServingError:
    """The error without its history, whose frames hold the request."""
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)
