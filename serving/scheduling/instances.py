"""What a batcher asks of the instances that run its batches."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

Item = TypeVar("Item")
Item_contra = TypeVar("Item_contra", contravariant=True)
Answer = TypeVar("Answer")
Answer_co = TypeVar("Answer_co", covariant=True)
Infer = Callable[[list[Item]], Awaitable[Sequence[Answer]]]  # runs a batch


class Shortcut(Protocol[Item_contra, Answer_co]):
    """Runs requests on the event loop that are done sooner than handed over to an instance."""

    def is_shorter(self, item: Item_contra) -> bool:
        """Whether `infer` takes less time than the way to an instance and back."""
        ...

    def infer(self, item: Item_contra) -> Answer_co:
        """Answers one request; only called while an instance is idle, in its place."""
        ...


class BatchTooLargeError(Exception):
    """Raised by an `infer` whose device has no memory for the batch; smaller ones may fit."""
