"""What can be wrong with an inference request: one function, and one text, for each mistake.

Every text names the model, the tensor, what was expected and what came.
"""

from collections.abc import Iterable, Sequence

from serving.engines.engine import TensorSpec
from serving.errors import InvalidRequestError, Violation
from serving.oip.datatypes import datatype_of

Shape = Sequence[int]


def text(shape: Shape) -> str:
    """Returns a shape as it is written in metadata: `[-1, 3]`."""
    return f"[{', '.join(map(str, shape))}]"


def describe(spec: TensorSpec) -> str:
    """Returns name, datatype and shape of a tensor: `x FP32 [-1, 3]`."""
    return f"{spec.name} {datatype_of(spec.dtype).name} {text(spec.shape)}"


class Mistakes:
    """Makes the errors about requests to one model."""

    def __init__(self, model: str, inputs: Sequence[TensorSpec]) -> None:
        self._model = f"model {model}"
        self._inputs = inputs

    def no_inputs(self) -> InvalidRequestError:
        wanted = ", ".join(map(describe, self._inputs))
        return self._error("inputs", "empty", f"{self._model} takes {wanted}")

    def missing_inputs(self, given: Iterable[str], missing: Iterable[str]) -> InvalidRequestError:
        given = ", ".join(given)
        return self._error("inputs", given, f"{self._model} also needs {', '.join(missing)}")

    def unknown_input(self, name: str) -> InvalidRequestError:
        known = ", ".join(spec.name for spec in self._inputs)
        return self._error(_at("inputs", name), "unknown", f"{self._model} takes {known}")

    def repeated_input(self, name: str) -> InvalidRequestError:
        return self._error(_at("inputs", name), "given twice", f"{self._model} takes it once")

    def unknown_output(self, name: str, known: Iterable[str]) -> InvalidRequestError:
        limit = f"{self._model} gives {', '.join(known)}"
        return self._error(_at("outputs", name), "unknown", limit)

    def repeated_output(self, name: str) -> InvalidRequestError:
        return self._error(_at("outputs", name), "wanted twice", f"{self._model} gives it once")

    def refused_parameter(self, where: str, reason: str) -> InvalidRequestError:
        return self._error(where, "set", f"{self._model} {reason}")

    def datatype(self, name: str, found: str, expected: str) -> InvalidRequestError:
        limit = f"{self._model} takes {expected}"
        return self._error(_at("inputs", name, "datatype"), found or "empty", limit)

    def rank(self, name: str, shape: Shape, expected: Shape) -> InvalidRequestError:
        limit = f"{self._model} takes rank {len(expected)}: {text(expected)}"
        return self._shape(name, f"{text(shape)} of rank {len(shape)}", limit)

    def dimension(self, name: str, shape: Shape, expected: Shape) -> InvalidRequestError:
        return self._shape(name, text(shape), f"{self._model} takes {text(expected)}")

    def negative_dimension(self, name: str, shape: Shape) -> InvalidRequestError:
        return self._shape(name, text(shape), f"{self._model} takes no dimension below 0")

    def too_large(self, name: str, shape: Shape, limit_bytes: int) -> InvalidRequestError:
        return self._shape(name, text(shape), f"{self._model} takes at most {limit_bytes} bytes")

    def rows(self, name: str, rows: int, other: str, expected: int) -> InvalidRequestError:
        limit = f"{self._model} got {expected} rows of {other} beside it"
        return self._shape(name, f"{rows} rows long", limit)

    def raw_count(self, found: int, expected: int) -> InvalidRequestError:
        limit = f"{self._model} was given {expected} inputs, each needs one"
        return self._error("raw_input_contents", f"{found} entries", limit)

    def raw_size(self, index: int, found: int, expected: int, label: str) -> InvalidRequestError:
        limit = f"{self._model} takes {expected} bytes for {label}"
        return self._error(f"raw_input_contents[{index}]", f"{found} bytes", limit)

    def raw_elements(
        self, index: int, found: int, expected: int, label: str
    ) -> InvalidRequestError:
        limit = f"{self._model} takes {expected} elements for {label}"
        return self._error(f"raw_input_contents[{index}]", f"{found} elements", limit)

    def cut_off(self, index: int, at: int, label: str) -> InvalidRequestError:
        limit = f"{self._model} takes a length of 4 bytes and as many bytes per element of {label}"
        return self._error(f"raw_input_contents[{index}]", f"cut off at byte {at}", limit)

    def raw_boolean(self, index: int, label: str) -> InvalidRequestError:
        limit = f"{self._model} takes bytes 0 and 1 for {label}"
        return self._error(f"raw_input_contents[{index}]", "not Boolean", limit)

    def both_forms(self, name: str) -> InvalidRequestError:
        limit = f"{self._model} takes either contents or raw_input_contents"
        return self._contents(name, "", "set beside raw_input_contents", limit)

    def raw_only(self, name: str, datatype: str) -> InvalidRequestError:
        limit = f"{self._model} takes {datatype} as raw_input_contents only"
        return self._contents(name, "", "used", limit)

    def contents_field(
        self, name: str, found: str, datatype: str, expected: str
    ) -> InvalidRequestError:
        limit = f"{self._model} takes {datatype} in {expected}"
        return self._contents(name, "", f"in {found}", limit)

    def contents_count(
        self, name: str, field: str, found: int, expected: int, shape: Shape
    ) -> InvalidRequestError:
        limit = f"{self._model} takes {expected} for shape {text(shape)}"
        return self._contents(name, field, f"{found} elements", limit)

    def out_of_range(
        self, name: str, field: str, value: int, datatype: str, low: int, high: int
    ) -> InvalidRequestError:
        limit = f"{self._model} takes {datatype} from {low} to {high}"
        return self._contents(name, field, f"holding {value}", limit)

    def _shape(self, name: str, value: str, limit: str) -> InvalidRequestError:
        return self._error(_at("inputs", name, "shape"), value, limit)

    def _contents(self, name: str, field: str, value: str, limit: str) -> InvalidRequestError:
        where = f"contents.{field}" if field else "contents"
        return self._error(_at("inputs", name, where), value, limit)

    def _error(self, field: str, value: str, limit: str) -> InvalidRequestError:
        return InvalidRequestError(Violation(field, value, limit))


def _at(group: str, name: str, member: str = "") -> str:
    shown = name if len(name) <= 64 else f"{name[:64]}…"
    return f"{group}[{shown}].{member}" if member else f"{group}[{shown}]"
