"""A budget of extra calls: a share of the calls made, saved up to a limit.

The account begins empty, so that extra calls are never more than the share, from the first call on.
After Finagle's retry budget, without its minimum rate.
"""


class Budget:
    """Grants at most `share` extra calls for each call, of which `most` can be saved up."""

    def __init__(self, share: float, most: float = 10.0) -> None:
        """`share` is in [0, 1], `most` at least 1."""
        self._share = share
        self._most = most
        self._saved = 0.0

    def deposit(self) -> None:
        """Notes one call."""
        if self._saved < self._most:
            self._saved = min(self._most, self._saved + self._share)

    def try_spend(self) -> bool:
        """Takes one extra call out of the account; false when there is not enough in it."""
        if self._saved < 1.0 - 1e-9:  # five times 0.2 is a little less than 1
            return False
        self._saved -= 1.0
        return True
