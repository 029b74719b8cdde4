"""Files of own posts as rows of text cells: CSV, or Parquet where the extra `parquet` is installed.

Which of the two a file is, its first bytes say. Cells of Parquet are turned into the text that CSV
would hold, after their types were checked; null is an empty cell. Rows are read as they are asked
for, so a file may be larger than the memory.
"""

import csv
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Cells = Mapping[str, str]

_PARQUET_MAGIC = b"PAR1"
_BATCH_ROWS = 20_000  # of Parquet, in memory at a time


class EventsError(Exception):
    """The file is not what training needs; the text names file, line, column, value and limit."""


@dataclass(frozen=True, slots=True)
class Sheet:
    """An open file: its columns, and its rows, each with what a person would find it by."""

    columns: Sequence[str]
    rows: Iterator[tuple[str, Cells]]


@contextmanager
def open_sheet(path: Path, known: Mapping[str, Collection[str]]) -> Iterator[Sheet]:
    """Opens a file; `known` has the columns that are read, with the kinds of value they may hold.

    Raises `EventsError`, also while the rows are read; kinds matter where a file has types.
    """
    try:
        with path.open("rb") as file:
            is_parquet = file.read(len(_PARQUET_MAGIC)) == _PARQUET_MAGIC
        with (_parquet if is_parquet else _csv)(path, known) as sheet:
            yield sheet
    except OSError as error:
        raise EventsError(f"cannot read {path}: {error.strerror}") from None


@contextmanager
def _csv(path: Path, known: Mapping[str, Collection[str]]) -> Iterator[Sheet]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            columns = [name.strip() for name in next(reader, [])]
            for name in known:
                if columns.count(name) > 1:
                    raise EventsError(f"{path.name} has {columns.count(name)} columns {name}")
            yield Sheet(columns, _csv_rows(path.name, reader, columns))
    except UnicodeDecodeError:
        raise EventsError(f"{path.name} is neither UTF-8 text (CSV) nor Parquet") from None
    except csv.Error as error:
        raise EventsError(f"{path.name} line {reader.line_num}: {error}") from None


def _csv_rows(name: str, reader: Any, columns: Sequence[str]) -> Iterator[tuple[str, Cells]]:
    for row in reader:
        place = f"line {reader.line_num}"
        if not row:
            continue
        if len(row) != len(columns):
            wrong = f"{len(row)} cells, {len(columns)} as the header"
            raise EventsError(f"{name} {place}: {wrong}")
        yield place, dict(zip(columns, row, strict=True))


@contextmanager
def _parquet(path: Path, known: Mapping[str, Collection[str]]) -> Iterator[Sheet]:
    try:
        import pyarrow  # noqa: PLC0415  # an extra
        from pyarrow import parquet  # noqa: PLC0415
    except ImportError:
        advice = "install the extra parquet (pyarrow), or write it as CSV"
        raise EventsError(f"{path.name} is Parquet: {advice}") from None
    try:
        with parquet.ParquetFile(path) as file:
            schema = file.schema_arrow
            columns = [name for name in schema.names if name in known]
            for name in columns:
                _check_kind(path.name, name, _kind(schema.field(name).type), known[name])
            yield Sheet(columns, _parquet_rows(file, columns))
    except (pyarrow.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise EventsError(f"{path.name} is damaged, or no Parquet: {reason}") from None


def _check_kind(file: str, column: str, found: str, allowed: Collection[str]) -> None:
    if found not in (*allowed, "nothing"):
        raise EventsError(f"{file}: {column} is {found}, expected {' or '.join(allowed)}")


def _kind(dtype: Any) -> str:
    """Returns what a column holds, in the words of `known`, or its Arrow type."""
    from pyarrow import types  # noqa: PLC0415  # an extra

    if types.is_dictionary(dtype):
        return _kind(dtype.value_type)
    if types.is_timestamp(dtype):
        return "time" if dtype.tz else "time without a zone"
    kinds = {
        "nothing": types.is_null,
        "truth": types.is_boolean,
        "whole number": types.is_integer,
        "number": lambda t: types.is_floating(t) or types.is_decimal(t),
        "text": lambda t: types.is_string(t) or types.is_large_string(t) or str(t) == "string_view",
    }
    return next((kind for kind, is_kind in kinds.items() if is_kind(dtype)), str(dtype))


def _parquet_rows(file: Any, columns: Sequence[str]) -> Iterator[tuple[str, Cells]]:
    number = 0
    for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=list(columns)):
        texts = [_texts(column) for column in batch.columns]
        for row in zip(*texts, strict=True):
            number += 1
            yield f"row {number}", dict(zip(batch.schema.names, row, strict=True))


def _texts(column: Any) -> list[str]:
    import pyarrow  # noqa: PLC0415  # an extra

    if pyarrow.types.is_timestamp(column.type):
        column = column.cast(pyarrow.timestamp("us", tz="UTC"), safe=False)
    return [text or "" for text in column.cast(pyarrow.string()).to_pylist()]
