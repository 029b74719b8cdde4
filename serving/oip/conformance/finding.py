"""How a check tells that a rule is broken, or that it cannot be judged here."""


class BrokenError(Exception):
    """The rule is broken; the text says how."""


class NotApplicableError(Exception):
    """The rule cannot be checked with this server or model; the text says why."""


def require(holds: object, otherwise: str) -> None:
    """Raises `BrokenError(otherwise)` unless `holds`."""
    if not holds:
        raise BrokenError(otherwise)
