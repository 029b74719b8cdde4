from dataclasses import dataclass
from pathlib import Path

POSTGRES_SCHEMES = ("postgresql://", "postgres://")


@dataclass(frozen=True, slots=True)
class ProfileConfig:
    """Where profiles are kept. Filled from `FOMOFEED_PROFILE_*`."""

    # The path of an SQLite file, created with its folder when missing, or a postgresql:// URL.
    database: str = ".fomofeed/profile.sqlite"
    seed_demo_users: bool = True  # puts the simulated creators into a database without any user
    is_synced: bool = True  # every acknowledged event survives a power cut, not only a crash
    reader_count: int = 1  # threads that read, >= 1; SQLite only
    connection_count: int = 8  # to the database, at most, >= 1; PostgreSQL only
    max_statement_s: float = 30.0  # for callers without a deadline, > 0; PostgreSQL only
    retention_days: int = 0  # events older than this leave the log, >= 1; 0 keeps all

    def __post_init__(self) -> None:
        if self.retention_days < 0:
            raise ValueError(f"retention_days is {self.retention_days}, >= 0")
        if self.reader_count < 1 or self.connection_count < 1:
            counts = f"{self.reader_count} and {self.connection_count}"
            raise ValueError(f"reader_count and connection_count are {counts}, >= 1")
        if not self.max_statement_s > 0:
            raise ValueError(f"max_statement_s is {self.max_statement_s}, > 0")
        if "://" in self.database and not self.is_postgres:
            scheme = self.database.partition("://")[0]  # never the rest: it may hold a password
            raise ValueError(f"database is {scheme}://…, a path or postgresql://…")

    @property
    def is_postgres(self) -> bool:
        return self.database.startswith(POSTGRES_SCHEMES)

    @property
    def path(self) -> Path:
        """Where the SQLite file is."""
        return Path(self.database)
