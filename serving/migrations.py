"""Versions of a database's tables: a new database walks the same steps as an old one.

A step is SQL text, the version is how many were taken, kept in the table `schema_version`. All
that are missing run in one transaction. Steps are history: they are added to, never changed.
"""

import hashlib
from collections.abc import Sequence

VERSION_TABLE = """
CREATE TABLE schema_version (version INTEGER NOT NULL);
INSERT INTO schema_version VALUES (0);
"""
READ_VERSION = "SELECT version FROM schema_version"


class SchemaError(OSError):
    """The database was written by a newer program. The operator's to mend: nothing starts."""


def missing_steps(database: str, steps: Sequence[str], version: int) -> list[str]:
    """Returns the statements that lead from a version to the last one; `database` is its name.

    Raises `SchemaError` for a version that is not known here.
    """
    if not 0 <= version <= len(steps):
        raise SchemaError(
            f"{database} database has schema {version}, this program knows up to {len(steps)}:"
            " start the newer program that wrote it"
        )
    if version == len(steps):
        return []
    statements = [one for one in "".join(steps[version:]).split(";") if one.strip()]
    return [*statements, f"UPDATE schema_version SET version = {len(steps)}"]


def request_key(request_id: str) -> bytes:
    """Returns what a `request_id` is kept as: it may hold a name, and outlives its user."""
    return hashlib.sha256(request_id.encode()).digest()
