"""What a process of `serving.processes` runs: one piece of work after the other.

`python -m serving.beside SOCKET MEMORY` reads calls that need no argument from one descriptor, with
their arrays in the memory of the other, and writes what they yield, return or raise, until its
server hangs up. It imports what the work needs and nothing else.

A message is its length in 4 bytes and that much of what `serving.arena` makes.
"""

import os
import pickle
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Generator
from contextlib import suppress
from typing import Any

from serving.arena import Arena
from serving.memory import return_large_blocks

PART, RESULT, ERROR = range(3)  # what an answer is, beside its value
LENGTH_BYTES = 4
SPARE_BYTES = 16 * 1024 * 1024  # of freed memory; with 8 MiB a photograph cost 1,300 page faults


def framed(message: bytes) -> bytes:
    """Returns a message with its length before it."""
    return len(message).to_bytes(LENGTH_BYTES, "big") + message


class Beside:
    """Both ends of the way to the server."""

    def __init__(self, connection: socket.socket, arena: Arena) -> None:
        self._connection, self._arena = connection, arena
        self._reader = connection.makefile("rb")

    def serve(self) -> None:
        """Works until the server hangs up."""
        while length := self._reader.read(LENGTH_BYTES):
            message = self._reader.read(int.from_bytes(length, "big"))
            self._arena.answers.clear()
            self._answer(self._arena.work.load(message, keep=False))

    def _answer(self, work: Callable[[], Any]) -> None:
        try:
            value = work()
            if isinstance(value, Generator):
                value = self._follow(value)
            self._send(RESULT, value)
        except ConnectionError:
            raise  # nobody listens any more
        except Exception as error:  # the boundary: raised again where it is waited for
            error.add_note(traceback.format_exc())
            self._send(ERROR, _portable(error))

    def _follow(self, steps: Generator[Any, None, Any]) -> Any:
        while True:
            try:
                part = next(steps)
            except StopIteration as end:
                return end.value
            self._send(PART, part)
            if not self._arena.is_wanted:
                steps.close()
                return None

    def _send(self, kind: int, value: Any) -> None:
        self._connection.sendall(framed(self._arena.answers.dump((kind, value))))


def _portable(error: Exception) -> Exception:
    """Some errors cannot be pickled, and some pickles not be read again."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError("".join(traceback.format_exception(error)))
    return error


def main() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a whole control group may get it: drain first
    return_large_blocks(SPARE_BYTES)
    connection, memory = socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2])
    arena = Arena(memory)
    os.close(memory)
    with suppress(ConnectionError):
        Beside(connection, arena).serve()


if __name__ == "__main__":
    main()
