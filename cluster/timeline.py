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
    """The nodes of one answer. Each bar spans its own time, the dots the rest of its budget."""
    table = Table(box=None, title="\nWho answered", title_style="bold", title_justify="left")
    for heading in ("node", "model", "state"):
        table.add_column(heading, overflow="fold")
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
            Text(timeline(began.get(node.node, 0), node.elapsed_us, whole_us), style=style),
        )
    return table


def timeline(began_us: int, elapsed_us: int, whole_us: int, width: int = WIDTH) -> str:
    """A line of `width` cells for `whole_us`, filled from the begin to the end of one node."""
    if whole_us <= 0:
        return "·" * width
    first = min(int(began_us / whole_us * width), width - 1)
    last = min(max(round((began_us + elapsed_us) / whole_us * width), first + 1), width)
    return "·" * first + "█" * (last - first) + "·" * (width - last)


def milliseconds(microseconds: int) -> str:
    return f"{microseconds / 1000:.1f} ms" if microseconds else "–"


def _end(node: pb.NodeReport, began: dict[str, int]) -> int:
    return began.get(node.node, 0) + node.elapsed_us


def _state(node: pb.NodeReport) -> str:
    state = pb.NodeState.Name(node.state).removeprefix("NODE_STATE_").lower()
    cached = ", from the cache" if node.ledger.cached else ""
    error = f": {node.error}" if node.error else ""
    return f"{state}{cached}{error}"


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
