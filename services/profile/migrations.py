"""Versions of a database's tables: a new database walks the same steps as an old one.

A step is SQL text, the version is how many were taken, kept in the table `schema_version`. All
that are missing run in one transaction. Steps are history: they are added to, never changed.
"""

import hashlib
from collections.abc import Sequence

# What the last step of each database leads to, and how it is told.
VERSION_TABLE = """
CREATE TABLE schema_version (version INTEGER NOT NULL);
INSERT INTO schema_version VALUES (0);
"""


class SchemaError(OSError):
    """The database was written by a newer program. The operator's to mend: nothing starts."""


def missing_steps(steps: Sequence[str], version: int) -> list[str]:
    """Returns the statements that lead from a version to the last one.

    Raises `SchemaError` for a version that is not known here.
    """
    if not 0 <= version <= len(steps):
        raise SchemaError(
            f"profile database has schema {version}, this program knows up to {len(steps)}:"
            " start the newer program that wrote it"
        )
    statements = "".join(steps[version:]).split(";")
    return [statement for statement in statements if statement.strip()]


def request_key(request_id: str) -> bytes:
    """Returns what a `request_id` is kept as: it may hold a name, and outlives its user."""
    return hashlib.sha256(request_id.encode()).digest()
