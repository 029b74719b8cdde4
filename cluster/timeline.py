"""Draws who answered: one line for each node, with its place in the request's time."""

from rich.table import Table
from rich.text import Text

from fomofeed.gateway.v1 import orchestrator_service_pb2 as pb

WIDTH = 30  # cells of a timeline
DIGEST_DIGITS = 8

_STYLES = {
    pb.NODE_STATE_SUCCEEDED: "green",
    pb.NODE_STATE_SUBSTITUTED: "yellow",
    pb.NODE_STATE_FAILED: "red",
    pb.NODE_STATE_SKIPPED: "dim",
    pb.NODE_STATE_CANCELLED: "red",
}


def node_table(response: pb.OrchestrateResponse) -> Table:
    """The nodes of one answer, each with a bar of its time, then a lighter one of what was left."""
    table = Table(box=None, title="\nWho answered", title_style="bold", title_justify="left")
    table.add_column("node", no_wrap=True)
    table.add_column("model", overflow="fold")
    table.add_column("state", no_wrap=True)
    for heading in ("took", "of"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("when", no_wrap=True)
    began = {planned.node: planned.started_us for planned in response.explanation.nodes}
    whole_us = max((_end(node, began) for node in response.nodes), default=0)
    for node in response.nodes:
        style = _STYLES.get(node.state, "")
        table.add_row(
            Text(node.node),
            _model(node),
            Text(_state(node), style=style),
            milliseconds(node.elapsed_us),
            milliseconds(max(node.budget_us, 0)),
            Text(timeline(began.get(node.node, 0), node, whole_us), style=style),
        )
    return table


def timeline(began_us: int, node: pb.NodeReport, whole_us: int) -> str:
    """A line of `WIDTH` cells for `whole_us`: the node's time, then what was left of its budget."""
    if whole_us <= 0 or not node.elapsed_us:
        return "·" * WIDTH
    first = min(int(began_us / whole_us * WIDTH), WIDTH - 1)
    last = min(max(round((began_us + node.elapsed_us) / whole_us * WIDTH), first + 1), WIDTH)
    limit = min(max(round((began_us + node.budget_us) / whole_us * WIDTH), last), WIDTH)
    return "·" * first + "█" * (last - first) + "░" * (limit - last) + "·" * (WIDTH - limit)


def milliseconds(microseconds: int) -> str:
    return f"{microseconds / 1000:.1f} ms" if microseconds else "–"


def _end(node: pb.NodeReport, began: dict[str, int]) -> int:
    return began.get(node.node, 0) + node.elapsed_us


def _state(node: pb.NodeReport) -> str:
    state = pb.NodeState.Name(node.state).removeprefix("NODE_STATE_").lower()
    return f"{state}, from the cache" if node.ledger.cached else state


def _model(node: pb.NodeReport) -> Text:
    """Model, version and the first digits of its digest; says so when it is no learned model."""
    model = node.ledger.model
    if not model.model:
        return Text("–", style="dim")
    text = Text(f"{model.model} {model.version}")
    if model.artifact_sha256:
        text.append(f" {model.artifact_sha256[:DIGEST_DIGITS]}", style="dim")
    if model.experimental:
        text.append(" experimental", style="yellow")
    return text
