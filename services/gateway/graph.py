"""The graph file as data: YAML in, the `Graph` message out, with the line of each element.

Reads the YAML as a tree of marked nodes instead of Python values, because errors name lines, a
node that stands twice must be seen, and quotes tell a constant text from a source. What the
elements mean is checked in `check`; here only the shape of the file is.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any

import yaml
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from fomofeed.gateway.v1 import orchestrator_service_pb2 as pb
from services.gateway.descriptors import descriptor_of, is_map, message_of

GRAPHS = FilePath(__file__).parent / "graphs"

Where = tuple[str, ...]  # ("nodes", "timing", "fields", "quality_score")


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in a graph file, and what to do about it."""

    line: int
    text: str
    remedy: str


class GraphError(ValueError):
    """A graph file has mistakes; the message has one line for each, `file:line: text; remedy`."""

    def __init__(self, file: FilePath, problems: list[Problem]) -> None:
        self.problems = sorted(problems, key=lambda problem: problem.line)
        lines = [f"{file.name}:{p.line}: {p.text}; {p.remedy}" for p in self.problems]
        super().__init__("\n".join(lines))


@dataclass(frozen=True, slots=True)
class GraphFile:
    """A parsed file. Its `graph` may still be nonsense: `check.problems` says."""

    path: FilePath
    graph: pb.Graph
    lines: dict[Where, int]
    problems: list[Problem] = field(default_factory=list)

    def line(self, *where: str) -> int:
        """The line of an element, or of the closest one around it that the file has."""
        while where and where not in self.lines:
            where = where[:-1]
        return self.lines.get(where, 1)


def read(path: FilePath) -> GraphFile:
    """Reads a graph file; raises `GraphError` when it is no YAML mapping."""
    try:
        root = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        problem = Problem(line, f"no YAML: {error.problem}", "check indentation and quotes")
        raise GraphError(path, [problem]) from error
    file = GraphFile(path, pb.Graph(), {(): 1})
    if not isinstance(root, yaml.MappingNode):
        raise GraphError(path, [Problem(1, "the file is no mapping", "begin with name: NAME")])
    _Reader(file).fill(file.graph, root, ())
    return file


class _Reader:
    """Fills messages from YAML mappings by the names of their fields."""

    def __init__(self, file: GraphFile) -> None:
        self._file = file

    def fill(self, message: Message, mapping: yaml.Node, where: Where) -> None:
        """Sets the fields of `message`; a key that is no field of it is a problem."""
        known = descriptor_of(message).fields_by_name
        for key, line, value in self._pairs(mapping, where):
            here = (*where, key)
            if key in known:
                self._set(message, known[key], value, here)
            else:
                options = ", ".join(name for name in known if name != "name" or not where)
                self._problem(line, f"unknown key {key!r}", f"known here: {options}")

    def _set(
        self, message: Message, target: FieldDescriptor, value: yaml.Node, where: Where
    ) -> None:
        if target.is_repeated and not is_map(target):
            self._fill_nodes(getattr(message, target.name), value, where)
        elif is_map(target):
            self._fill_map(getattr(message, target.name), target, value, where)
        elif target.message_type is not None:
            self.fill(getattr(message, target.name), value, where)
        else:
            self._set_scalar(message, target, value, where)

    def _fill_nodes(self, nodes: Any, mapping: yaml.Node, where: Where) -> None:
        for name, _, value in self._pairs(mapping, where):
            self.fill(nodes.add(name=name), value, (*where, name))

    def _fill_map(
        self, entries: Any, target: FieldDescriptor, mapping: yaml.Node, where: Where
    ) -> None:
        value_type = message_of(target).fields_by_name["value"].message_type
        for key, _, value in self._pairs(mapping, where):
            if value_type is not None:
                self.fill(entries[key], value, (*where, key))
            else:
                entries[key] = self._source(value)

    def _set_scalar(
        self, message: Message, target: FieldDescriptor, value: yaml.Node, where: Where
    ) -> None:
        if target.name == "when" or not isinstance(value, yaml.ScalarNode):
            plain: object = self._source(value)
        else:
            plain = yaml.SafeLoader("").construct_object(value)
        try:
            setattr(message, target.name, plain)
        except (TypeError, ValueError):
            kind = _KINDS.get(target.type, "value")
            self._problem(self._file.lines[where], f"{where[-1]} is {plain!r}", f"write a {kind}")

    def _source(self, value: yaml.Node) -> str:
        """Writes a YAML value in the grammar of sources; quotes make a text a constant."""
        if isinstance(value, yaml.SequenceNode):
            return ", ".join(self._source(item) for item in value.value)
        if not isinstance(value, yaml.ScalarNode):
            self._problem(value.start_mark.line + 1, "a mapping is no source", "write a source")
            return '""'
        text = str(value.value)
        is_quoted = value.style in ("'", '"') and not text.startswith('"')
        return json.dumps(text, ensure_ascii=False) if is_quoted else text

    def _pairs(self, mapping: yaml.Node, where: Where) -> Iterator[tuple[str, int, yaml.Node]]:
        """Yields key, line and value of a mapping, and remembers the lines."""
        if not isinstance(mapping, yaml.MappingNode):
            line = mapping.start_mark.line + 1
            self._problem(line, f"{where[-1]} is no mapping", "indent its keys below it")
            return
        for key_node, value in mapping.value:
            key, line = str(key_node.value), key_node.start_mark.line + 1
            if (*where, key) in self._file.lines:
                kind = "node" if where == ("nodes",) else "key"
                first = self._file.lines[(*where, key)]
                self._problem(
                    line, f"duplicate {kind} {key!r}, first on line {first}", "rename one"
                )
                continue
            self._file.lines[(*where, key)] = line
            yield key, line, value

    def _problem(self, line: int, text: str, remedy: str) -> None:
        self._file.problems.append(Problem(line, text, remedy))


_KINDS = {
    FieldDescriptor.TYPE_BOOL: "true or false",
    FieldDescriptor.TYPE_INT32: "whole number",
    FieldDescriptor.TYPE_INT64: "whole number",
    FieldDescriptor.TYPE_DOUBLE: "number",
    FieldDescriptor.TYPE_STRING: "text",
}
