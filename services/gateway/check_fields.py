"""Checks of single fields: that a path exists, and that what flows into it has its type."""

from collections.abc import Iterator, Mapping

from google.protobuf.descriptor import Descriptor

from fomofeed.gateway.v1 import orchestrator_service_pb2 as pb
from services.gateway.descriptors import message_of, suggestion
from services.gateway.fields import FieldPathError, FieldType, field_type
from services.gateway.graph import GraphFile, Problem, Where
from services.gateway.sources import (
    Constant,
    FieldSource,
    Path,
    Source,
    SourceError,
    parse_path,
    parse_sources,
)

_NUMBERS = ("int32", "int64", "float", "double")
_CONSTANT_KINDS: Mapping[type, tuple[str, ...]] = {
    bool: ("bool",),
    str: ("string",),
    int: ("int32", "int64"),
    float: ("double", "float"),
}
_RANGES = {"int32": 2**31, "int64": 2**63}


class _FieldError(Exception):
    """What is wrong with one field; becomes a `Problem` where its line is known."""

    def __init__(self, text: str, remedy: str) -> None:
        super().__init__(text)
        self.problem = (text, remedy)


class FieldChecker:
    """Checks the fields of one graph; `origins` are the messages that its sources may read.

    An origin that is known to exist but has no message (its method is unknown) is None: that
    was reported already, and nothing is said about sources that read it.
    """

    def __init__(self, file: GraphFile, origins: Mapping[str, Descriptor | None]) -> None:
        self._file = file
        self._origins = origins

    def mapping(
        self, where: Where, sources: Mapping[str, str], target: Descriptor
    ) -> Iterator[Problem]:
        """Checks every field -> source of a mapping that fills a message of type `target`."""
        for name, text in sources.items():
            line = self._file.line(*where, name)
            try:
                into = _target_type(target, name)
                parsed = _parsed(text)
                if len(parsed) > 1 and "[]" in name:
                    raise _FieldError(f"{len(parsed)} sources for each element", "name one")
                for source in parsed:
                    self._check_flow(source, into, len(parsed) > 1)
            except _FieldError as error:
                text_, remedy = error.problem
                yield Problem(line, f"{'.'.join((*where[1:], name))}: {text_}", remedy)

    def condition(self, node: pb.Node) -> Iterator[Problem]:
        """Checks that `when` is one bool."""
        if not node.when:
            return
        line = self._file.line("nodes", node.name, "when")
        try:
            sources = _parsed(node.when)
            kinds = [self._source_type(source) for source in sources]
            if len(kinds) != 1 or kinds[0] not in (None, "bool"):
                shown = ", ".join(str(kind) for kind in kinds)
                raise _FieldError(f"{node.when} is {shown}, no bool", "name one bool field")
        except _FieldError as error:
            text, remedy = error.problem
            yield Problem(line, f"{node.name}.when: {text}", remedy)

    def expectations(self, node: pb.Node, response: Descriptor) -> Iterator[Problem]:
        """Checks that what is expected of an answer can be true of its fields."""
        for name, expected in node.expect.items():
            line = self._file.line("nodes", node.name, "expect", name)
            try:
                kind = _target_type(response, name)
                if expected.size and not kind.is_repeated:
                    raise _FieldError(f"{name} is not repeated", "remove size")
                is_bounded = expected.HasField("min") or expected.HasField("max")
                if is_bounded and kind.kind not in _NUMBERS:
                    raise _FieldError(f"{name} is a {kind}, no number", "remove min and max")
            except _FieldError as error:
                text, remedy = error.problem
                yield Problem(line, f"{node.name}.expect: {text}", remedy)

    def confidence(self, graph: pb.Graph, response: Descriptor) -> Iterator[Problem]:
        """Checks that `confidence` names a number of the response that `result` fills."""
        if not graph.confidence:
            return
        line = self._file.line("confidence")
        try:
            kind = _target_type(response, graph.confidence)
        except _FieldError as error:
            yield Problem(line, *error.problem)
            return
        if str(kind) != "double" or graph.confidence not in graph.result:
            text = f"confidence: {graph.confidence} is a {kind}"
            yield Problem(line, text, "name a double field that result fills")

    def _check_flow(self, source: Source, into: FieldType, is_one_of_several: bool) -> None:
        if isinstance(source, Constant):
            _check_constant(source, into)
            return
        kind = self._origin_type(source)
        if kind is None:
            return
        fits = kind.kind == into.kind or (kind.kind, into.kind) == ("int32", "int64")
        fits &= kind.is_repeated == into.is_repeated or (is_one_of_several and into.is_repeated)
        if not fits:
            hint = "name a field of the same type"
            if kind.leaf.message_type is not None and into.leaf.message_type is None:
                hint = f"name one of its fields, such as {source}{_example(kind)}"
            raise _FieldError(f"{source} is {kind}, the field is {into}", hint)

    def _source_type(self, source: Source) -> str | None:
        if isinstance(source, Constant):
            return _CONSTANT_KINDS[type(source.value)][0]
        kind = self._origin_type(source)
        return None if kind is None else str(kind)

    def _origin_type(self, source: FieldSource) -> FieldType | None:
        if source.origin not in self._origins:
            remedy = suggestion(source.origin, self._origins)
            raise _FieldError(f"{source} reads unknown node {source.origin!r}", remedy)
        message = self._origins[source.origin]
        return None if message is None else _type_at(message, source.path)


def _parsed(text: str) -> tuple[Source, ...]:
    try:
        return parse_sources(text)
    except SourceError as error:
        raise _FieldError(str(error), "see the grammar of sources") from error


def _target_type(message: Descriptor, name: str) -> FieldType:
    try:
        return _type_at(message, parse_path(name))
    except SourceError as error:
        raise _FieldError(str(error), "name a field") from error


def _type_at(message: Descriptor, path: Path) -> FieldType:
    try:
        return field_type(message, path)
    except FieldPathError as error:
        raise _FieldError(str(error.args[0]), error.remedy) from error


def _check_constant(constant: Constant, into: FieldType) -> None:
    value = constant.value
    if into.kind not in _CONSTANT_KINDS[type(value)]:
        remedy = "write 3.0 for a double" if into.kind == "double" else f"write a {into.kind}"
        raise _FieldError(f"constant {constant} does not fit {into}", remedy)
    limit = _RANGES.get(into.kind)
    if limit is not None and isinstance(value, int) and not -limit <= value < limit:
        raise _FieldError(f"constant {constant} does not fit {into}", "write a smaller number")
    looks_like_path = isinstance(value, str) and value.startswith("request.")
    if looks_like_path:
        raise _FieldError(f"constant {constant} looks like a source", "remove the quotes")


def _example(kind: FieldType) -> str:
    first = message_of(kind.leaf).fields[0].name
    return f"[].{first}" if kind.is_repeated else f".{first}"
