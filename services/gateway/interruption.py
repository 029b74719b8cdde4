"""Ending what a task does without ending the task."""

import asyncio


class Interruption:
    """A cancellation of the running task that the task takes back; another's it does not."""

    __slots__ = ("_has_cancelled", "_is_over", "_others", "_task")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        task = asyncio.current_task(loop)
        assert task is not None
        self._task = task
        self._others = task.cancelling()
        self._has_cancelled = self._is_over = False

    def interrupt(self) -> None:
        """Cancels the task; does nothing once that would come too late."""
        if not self._is_over:
            self._is_over = self._has_cancelled = True
            self._task.cancel()

    def end(self) -> bool:
        """Said by the task when what may be interrupted is over.

        Returns whether it was cancelled by this and by nothing else.
        """
        self._is_over = True
        return self._has_cancelled and self._task.uncancel() <= self._others
