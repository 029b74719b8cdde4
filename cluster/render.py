"""Draws an answer as a person wants to read it: what to do first, then who said so.

Whatever came from a server or a user is drawn as plain text, never as markup.
"""

from collections.abc import Iterable

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from cluster.analyze import Answer, Post
from cluster.timeline import node_table
from fomofeed.clip.v1 import clip_service_pb2 as clip_pb
from fomofeed.gateway.v1 import orchestrator_service_pb2 as pb
from fomofeed.moderation.v1 import moderation_service_pb2 as moderation_pb
from fomofeed.timing.v1 import timing_service_pb2 as timing_pb

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
BAR_CELLS = 20
_MISSING = Text("not known", style="dim")

# What each reason of a degradation means; the words of any other are the reason itself.
_REASONS = {
    "UNAVAILABLE": "could not be reached",
    "DEADLINE_EXCEEDED": "did not answer in time",
    "RESOURCE_EXHAUSTED": "was too busy",
    "INTERNAL": "failed",
    "INVALID_OUTPUT": "gave an answer that makes no sense",
    "BREAKER_OPEN": "failed several times before and is left alone for a while",
    "SKIPPED_UNDER_LOAD": "was skipped under load",
    "NOT_FOUND": "does not know this",
    "UNIMPLEMENTED": "has no model for this",
}


def draw(console: Console, answer: Answer, post: Post) -> None:
    """Prints the whole answer."""
    response = answer.response
    whole = "degraded answer" if response.degraded else "whole answer"
    title = f"{post.photo.name}, user {post.user_id}: {whole} in {answer.took_s * 1000:.0f} ms"
    console.print()
    console.print(Text(title, style="bold yellow" if response.degraded else "bold green"))
    console.print()
    console.print(_facts(response))
    if response.degradations:
        console.print(_degradations(response))
    console.print(node_table(response))


def _facts(response: pb.OrchestrateResponse) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("Quality", _quality(response))
    table.add_row("Tags", _tags(response.tags))
    table.add_row("Best time", _best_time(response))
    table.add_row("Engagement", _engagement(response))
    table.add_row("Reach", _reach(response))
    table.add_row("Caption", _text(response.suggested_caption))
    table.add_row("Notification", _text(response.notification))
    if response.HasField("moderation"):
        table.add_row("Moderation", _moderation(response.moderation))
    table.add_row("Confidence", _confidence(response))
    return table


def bar(share: float, cells: int = BAR_CELLS) -> str:
    """A bar that is filled by `share`, 0 … 1, to an eighth of a cell."""
    eighths = round(min(max(share, 0.0), 1.0) * cells * 8)
    full, rest = divmod(eighths, 8)
    return ("█" * full + (" ▏▎▍▌▋▊▉"[rest] if rest else "")).ljust(cells, "·")


def hour_of_week(hour: int) -> str:
    """`Tuesday 19:00` for 43."""
    return f"{DAYS[hour // 24]} {hour % 24:02d}:00"


def _quality(response: pb.OrchestrateResponse) -> RenderableType:
    if not response.HasField("quality_score"):
        return _MISSING
    score = response.quality_score
    return Text.assemble((bar(score / 10), "cyan"), f"  {score:.1f} of 10")


def _engagement(response: pb.OrchestrateResponse) -> RenderableType:
    if not response.HasField("engagement_score"):
        return _MISSING
    score = response.engagement_score
    return Text.assemble((bar(score / 100), "cyan"), f"  {score:.0f} of 100")


def _confidence(response: pb.OrchestrateResponse) -> RenderableType:
    if not response.HasField("confidence"):
        return _MISSING
    return Text.assemble((bar(response.confidence), "cyan"), f"  {response.confidence:.2f}")


def _tags(tags: Iterable[clip_pb.Tag]) -> RenderableType:
    lines = [Text.assemble(f"{tag.label}  ", (_origin(tag), "dim")) for tag in tags]
    return Text("\n").join(lines) if lines else Text("none known well enough", style="dim")


def _origin(tag: clip_pb.Tag) -> str:
    """Who says so, and how sure; an author is not asked for a probability."""
    sure = f"{tag.probability:.2f} " if tag.probability else ""
    return f"{sure}from {tag.source or 'an unnamed source'}"


_EVIDENCE = {
    timing_pb.EVIDENCE_POPULATION: "from the population's hours",
    timing_pb.EVIDENCE_SHRUNK: "from the author's history and the population's",
    timing_pb.EVIDENCE_OWN_HISTORY: "from the author's own history",
}


def _best_time(response: pb.OrchestrateResponse) -> RenderableType:
    if not response.HasField("optimal_hour_of_week"):
        return _MISSING
    when = f"{hour_of_week(response.optimal_hour_of_week)}, the author's local time"
    basis = _EVIDENCE.get(response.optimal_time_evidence, "")
    if response.HasField("optimal_time_probability"):
        sure = f"{response.optimal_time_probability:.0%} likely within an hour of the best"
        basis = f"{sure}, {basis}" if basis else sure
    return Text(f"{when}\n{basis}" if basis else when)


def _reach(response: pb.OrchestrateResponse) -> RenderableType:
    if not response.HasField("expected_reach"):
        return _MISSING
    text = Text(f"about {response.expected_reach:,.0f} accounts")
    if response.HasField("expected_reach_interval"):
        interval = response.expected_reach_interval
        text.append(f"; 8 times of 10 between {interval.p10:,.0f} and {interval.p90:,.0f}", "dim")
    return text


def _moderation(moderation: pb.ModerationSummary) -> RenderableType:
    decision = moderation_pb.Decision.Name(moderation.decision).removeprefix("DECISION_").lower()
    text = Text(decision)
    if moderation.HasField("risk"):
        text.append(f", risk {moderation.risk:.2f}")
    for reason in moderation.reasons:
        text.append(f"\n{reason}")
    if moderation.not_assessed:
        text.append(f"\nnot looked at: {', '.join(moderation.not_assessed)}", "dim")
    return text


def _text(value: str) -> RenderableType:
    return Text(value) if value else _MISSING


def _degradations(response: pb.OrchestrateResponse) -> RenderableType:
    lines = [Text("\nWhat was missing", style="bold yellow")]
    errors = {node.node: node.error for node in response.nodes}
    for lost in response.degradations:
        why = _REASONS.get(lost.reason, lost.reason)
        line = Text(f"  {lost.node} {why} ({errors.get(lost.node) or lost.reason}): ")
        if lost.substitute:
            line.append(f"{lost.substitute} stands in, confidence × {lost.confidence_factor:g}")
        else:
            line.append("its part of the answer is absent")
        lines.append(line)
    return Group(*lines)
