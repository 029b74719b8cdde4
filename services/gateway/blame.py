"""Whose fault an INVALID_ARGUMENT of a node is: the caller's, or that of another node.

The caller is told only of what he sent, and in his own words: a field of the node's request that
is fed by his request is named as he knows it. A field fed by another node's answer is that node's
mistake, and counts as a failure like any other.
"""

import grpc

from services.gateway.outcome import Outcome
from services.gateway.plan import NodePlan
from services.gateway.sources import REQUEST
from serving.errors import InvalidRequestError, Violation


def caller_error(node: NodePlan, outcome: Outcome) -> InvalidRequestError | None:
    """Returns the error that the caller must see, None when the node's failure is not his."""
    if outcome.code is not grpc.StatusCode.INVALID_ARGUMENT:
        return None
    found = (_in_caller_words(node, violation) for violation in outcome.violations)
    violations = [violation for violation in found if violation is not None]
    return CallerFaultError(node.name, violations) if violations else None


class CallerFaultError(InvalidRequestError):
    """A node found fault with what the caller sent; its words, his fields."""

    def __init__(self, node: str, violations: list[Violation]) -> None:
        super().__init__(*violations)
        self.node = node


def _in_caller_words(node: NodePlan, violation: Violation) -> Violation | None:
    top = violation.field.partition(".")[0].partition("[")[0]
    for wire in node.wires:
        if wire.target.names[0] == top and wire.source and wire.source.origin == REQUEST:
            return Violation(str(wire.source.path), violation.value, violation.limit)
    return None
