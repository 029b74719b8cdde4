"""The shapes that a model is expected to meet: what it is warmed up, compiled and captured for."""

from collections.abc import Container, Sequence

from serving.engines.engine import TensorSpec
from serving.models.options import ModelOptions
from serving.models.warm_up import Shapes, guessed_shapes

_RAGGED_LENGTHS = (1, 16)  # a short text and a caption: the price of a call, and of an element
CAPTURED_ROWS = (1, 2, 4, 8, 16, 32)  # on a GPU, unless model.yaml says otherwise


def expected_shapes(inputs: Sequence[TensorSpec], options: ModelOptions) -> tuple[Shapes, ...]:
    """The warm-up's shapes, or guessed ones, at each length that sequences are padded to.

    Of a ragged model, whose lengths nobody says, at two.
    """
    named = (guessed_shapes(inputs),) if options.warm_up is None else options.warm_up
    if options.ragged is not None and options.warm_up is None:
        return of_lengths(_RAGGED_LENGTHS, options.ragged.inputs, named)
    if options.padding is None:
        return tuple(named)
    return of_lengths(options.padding.lengths, options.padding.inputs, named)


def of_lengths(
    lengths: Sequence[int], sequences: Container[str], named: Sequence[Shapes]
) -> tuple[Shapes, ...]:
    """The first of the named shapes at each length; `sequences` are the inputs that have one."""
    return tuple(
        {
            name: (shape[0], length, *shape[2:]) if name in sequences else shape
            for name, shape in shapes.items()
        }
        for shapes in named[:1]
        for length in lengths
    )


def allowed_rows(options: ModelOptions, max_rows: int) -> tuple[int, ...]:
    """Numbers of rows that may reach the engine, ascending; empty when any number may."""
    if options.allowed_rows:
        return tuple(sorted({*options.allowed_rows}))
    if options.ragged is not None:  # rows are not what its engine's shapes are of
        return ()
    if options.device == "cuda" and options.engine in ("", "torch", "auto"):
        return tuple(rows for rows in CAPTURED_ROWS if rows <= max_rows)
    return ()


def full_shapes(
    inputs: Sequence[TensorSpec], options: ModelOptions
) -> list[tuple[tuple[int, ...], ...]]:
    """Shapes of all inputs in their order, for each allowed number of rows; none if ragged."""
    if options.ragged is not None:
        return []
    limit = options.batching.max_batch_rows if options.batching else CAPTURED_ROWS[-1]
    return [
        tuple(_sized(shapes[spec.name], rows) for spec in inputs)
        for shapes in expected_shapes(inputs, options)
        for rows in allowed_rows(options, limit) or (1,)
    ]


def _sized(shape: tuple[int, ...], rows: int) -> tuple[int, ...]:
    return (rows, *shape[1:]) if shape[:1] == (-1,) else shape
