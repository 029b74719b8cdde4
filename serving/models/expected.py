"""The shapes that a model is expected to meet: what it is warmed up, compiled and captured for."""

from collections.abc import Sequence

from serving.engines.engine import TensorSpec
from serving.models.options import ModelOptions
from serving.models.warm_up import Shapes, guessed_shapes

CAPTURED_ROWS = (1, 2, 4, 8, 16, 32)  # on a GPU, unless model.yaml says otherwise


def expected_shapes(inputs: Sequence[TensorSpec], options: ModelOptions) -> tuple[Shapes, ...]:
    """The warm-up's shapes, or guessed ones, at each length that sequences are padded to."""
    named = (guessed_shapes(inputs),) if options.warm_up is None else options.warm_up
    if options.padding is None:
        return tuple(named)
    padded = options.padding.inputs
    return tuple(
        {
            name: (shape[0], length, *shape[2:]) if name in padded else shape
            for name, shape in shapes.items()
        }
        for shapes in named[:1]
        for length in options.padding.lengths
    )


def allowed_rows(options: ModelOptions, max_rows: int) -> tuple[int, ...]:
    """Numbers of rows that may reach the engine, ascending; empty when any number may."""
    if options.allowed_rows:
        return tuple(sorted({*options.allowed_rows}))
    if options.device == "cuda" and options.engine in ("", "torch", "auto"):
        return tuple(rows for rows in CAPTURED_ROWS if rows <= max_rows)
    return ()


def full_shapes(
    inputs: Sequence[TensorSpec], options: ModelOptions
) -> list[tuple[tuple[int, ...], ...]]:
    """Shapes of all inputs in their order, for each allowed number of rows."""
    limit = options.batching.max_batch_rows if options.batching else CAPTURED_ROWS[-1]
    return [
        tuple(_sized(shapes[spec.name], rows) for spec in inputs)
        for shapes in expected_shapes(inputs, options)
        for rows in allowed_rows(options, limit) or (1,)
    ]


def _sized(shape: tuple[int, ...], rows: int) -> tuple[int, ...]:
    return (rows, *shape[1:]) if shape[:1] == (-1,) else shape
