"""The edge: what a request must be, and how an execution is told to the caller."""

import math
import re
from collections.abc import Iterator

from fomofeed.gateway.v1 import orchestrator_service_pb2 as pb
from services.gateway.executor import Execution
from services.gateway.metrics import DEGRADATIONS
from services.gateway.plan import Plan, Selection
from serving.errors import InvalidRequestError, Violation

MAX_MEDIA_BYTES = 8 * 1024 * 1024
MAX_CAPTION_CHARS = 2200  # as on the big feeds
MAX_TAGS = 64
MAX_TAG_CHARS = 100
MAX_LOCALE_CHARS = 35  # the longest tag that RFC 5646 wants implementations to hold
CONTENT_TYPES = ("", "post", "moment")

_LOCALE = re.compile(r"[A-Za-z0-9]+([-_][A-Za-z0-9]+)*\Z")


def check_request(request: pb.OrchestrateRequest, selection: Selection) -> None:
    """Raises `InvalidRequestError` with everything that is wrong with `request` itself."""
    violations = [*_wrong_scalars(request), *_wrong_tags(request)]
    if not request.media and "media" in selection.reads_of_request:
        violations.append(Violation("media", "empty", "an encoded image of 1 B to 8 MiB"))
    if violations:
        raise InvalidRequestError(*violations)


def _wrong_scalars(request: pb.OrchestrateRequest) -> Iterator[Violation]:
    if request.user_id < 1:
        yield Violation("user_id", str(request.user_id), "at least 1")
    if len(request.media) > MAX_MEDIA_BYTES:
        yield Violation("media", f"{len(request.media) / 2**20:.1f} MiB", "at most 8 MiB")
    if len(request.caption) > MAX_CAPTION_CHARS:
        shown = f"{len(request.caption)} characters"
        yield Violation("caption", shown, f"at most {MAX_CAPTION_CHARS} characters")
    if request.content_type not in CONTENT_TYPES:
        yield Violation("content_type", repr(request.content_type), 'one of "post", "moment"')
    if len(request.locale) > MAX_LOCALE_CHARS or (
        request.locale and not _LOCALE.match(request.locale)
    ):
        yield Violation("locale", repr(request.locale), 'a BCP 47 tag such as "pt-BR"')


def _wrong_tags(request: pb.OrchestrateRequest) -> Iterator[Violation]:
    if len(request.tags) > MAX_TAGS:
        yield Violation("tags", f"{len(request.tags)} tags", f"at most {MAX_TAGS}")
        return
    for index, tag in enumerate(request.tags):
        if not 1 <= len(tag.strip()) <= MAX_TAG_CHARS:
            limit = f"1 to {MAX_TAG_CHARS} characters"
            yield Violation(f"tags[{index}]", f"{len(tag.strip())} characters", limit)


def to_response(
    plan: Plan, selection: Selection, execution: Execution, deadline: float, explain: bool
) -> pb.OrchestrateResponse:
    """Completes the response of an execution with the account of how it came to be."""
    response = execution.response
    assert isinstance(response, pb.OrchestrateResponse)  # the servicer runs no other graphs
    runs = execution.runs.values()
    response.nodes.extend(run.report for run in runs)
    lost = [run.degradation for run in runs if run.degradation is not None]
    response.degradations.extend(lost)
    response.degraded = bool(lost)
    for one in lost:
        DEGRADATIONS.labels(one.node, one.reason, one.substitute).inc()
    if plan.confidence is not None:
        factor = math.prod(one.confidence_factor for one in lost)
        plan.confidence.lower(response, factor)
    if explain:
        response.explanation.CopyFrom(_explanation(plan, selection, execution, deadline))
    return response


def _explanation(
    plan: Plan, selection: Selection, execution: Execution, deadline: float
) -> pb.Explanation:
    return pb.Explanation(
        time_left_us=_us(deadline - execution.began),
        reserve_us=_us(execution.reserve_s),
        critical_path=_critical_path(plan, execution),
        nodes=[
            pb.PlannedNode(
                node=name,
                after=plan.nodes[name].reads,
                expected_us=_us(plan.nodes[name].expected_s),
                expected_after_us=_us(selection.after_s[name]),
                started_us=_us(run.started - execution.began),
                budget_us=_us(run.budget_s),
                elapsed_us=_us(run.ended - run.started),
            )
            for name, run in execution.runs.items()
        ],
    )


def _critical_path(plan: Plan, execution: Execution) -> list[str]:
    """The nodes that the end waited for: from the last one back over each one's last input."""
    runs = execution.runs

    def ended(name: str) -> float:
        return runs[name].ended

    path: list[str] = []
    last = max(runs, key=ended, default=None)
    while last is not None:
        path.insert(0, last)
        last = max(plan.nodes[last].reads, key=ended, default=None)
    return path


def _us(seconds: float) -> int:
    return round(seconds * 1e6) if math.isfinite(seconds) else 0
