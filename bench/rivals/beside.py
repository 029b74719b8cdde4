"""What is measured while a client sends its load to a null server: the cores that it leaves."""

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from cluster.load.arrivals import constant
from cluster.load.fleet import LEAD_S, Fleet

TIMEOUT_S = 10.0
Result = TypeVar("Result")


def beside_load(fleet: Fleet, rate: float, seconds: float, run: Callable[[], Result]) -> Result:
    """Returns what `run` does, which takes up to `seconds`, while `fleet` makes `rate` calls/s."""
    load = constant(rate, seconds)
    sending = threading.Thread(target=fleet.measure, args=(load, TIMEOUT_S))
    sending.start()
    time.sleep(LEAD_S)
    found = run()
    sending.join()
    return found
