"""The one length of a request whose inputs are sequences."""

from collections.abc import Iterable

from serving.engines.engine import Arrays
from serving.errors import InvalidRequestError, Violation

_AXIS = 1  # the first one is the row


def common_length(inputs: Arrays, names: Iterable[str]) -> int:
    """Returns the length of the named inputs; raises `InvalidRequestError` when they differ."""
    found = {name: inputs[name].shape[_AXIS] for name in names}
    (first, length), *rest = found.items()
    for name, other in rest:
        if other != length:
            limit = f"as long as {first}, {length}"
            raise InvalidRequestError(Violation(f"inputs[{name}].shape", str(other), limit))
    return int(length)
