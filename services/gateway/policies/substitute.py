"""What stands in for a node's answer when it fails: data of the graph file or of a table.

A substitute states some fields of the response and says nothing about the others; a source that
reads one of those is as absent as if there were no substitute.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from fomofeed.gateway.v1 import orchestrator_service_pb2 as pb
from services.gateway.fields import ABSENT, FieldPathError, Setter, compile_setter, field_type
from services.gateway.policies.tables import Rule, Table, TableError, compile_rule
from services.gateway.sources import Path, SourceError, parse_path
from services.gateway.wires import Answers, States, Wire, compile_wires, fill


@dataclass(frozen=True, slots=True)
class CompiledSubstitute:
    """A substitute ready to be used. `states` are the response's fields that it fills."""

    name: str
    confidence_factor: float
    response: type[Message]
    states: tuple[Path, ...]
    wires: tuple[Wire, ...] = ()
    rules: tuple[tuple[Rule, Setter], ...] = ()

    def build(self, answers: Answers, substituted: Collection[str], request: Message) -> Message:
        """Returns the response; `request` is the node's own, as the survivors have filled it."""
        response = self.response()
        fill(response, self.wires, answers, substituted)
        for rule, put in self.rules:
            value = rule(request)
            if value is not ABSENT:
                put(response, value)
        return response

    def is_stated(self, path: Path) -> bool:
        """Whether reading `path` of the response finds something that the substitute means."""
        return any(stated.overlaps(path) for stated in self.states)


def from_values(
    substitute: pb.Substitute,
    response: Descriptor,
    origins: Mapping[str, Descriptor],
    states: States,
) -> CompiledSubstitute:
    """Compiles the `values` of a checked graph; `origins` are the request and nodes it may read."""
    wires = compile_wires(substitute.values, response, origins, states)
    paths = tuple(parse_path(target) for target in substitute.values)
    factor = substitute.confidence_factor
    return CompiledSubstitute(
        substitute.name, factor, GetMessageClass(response), paths, wires=wires
    )


def from_table(
    substitute: pb.Substitute, table: Table, response: Descriptor, request: Descriptor
) -> CompiledSubstitute:
    """Compiles a table; raises `TableError` when it does not fit the node's messages."""
    rules, states = [], []
    for name, entry in table.items():
        try:
            path = parse_path(str(name))
            rule = compile_rule(entry, field_type(response, path), request)
        except (FieldPathError, SourceError, TableError, KeyError, TypeError, ValueError) as error:
            raise TableError(f"table {substitute.name}, field {name}: {error}") from error
        rules.append((rule, compile_setter(response, path)))
        states.append(path)
    factor = substitute.confidence_factor
    return CompiledSubstitute(
        substitute.name, factor, GetMessageClass(response), tuple(states), rules=tuple(rules)
    )
