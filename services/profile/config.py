from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ProfileConfig:
    """Where profiles are kept. Filled from `FOMOFEED_PROFILE_*`."""

    database: Path = Path(".fomofeed/profile.sqlite")  # created with its folder when missing
    seed_demo_users: bool = True  # puts the simulated creators into a database without any user
    is_synced: bool = True  # every acknowledged event survives a power cut, not only a crash
    reader_count: int = 1  # threads that read, >= 1
    retention_days: int = 0  # events older than this leave the log, >= 1; 0 keeps all

    def __post_init__(self) -> None:
        if self.retention_days < 0:
            raise ValueError(f"retention_days is {self.retention_days}, >= 0")
        if self.reader_count < 1:
            raise ValueError(f"reader_count is {self.reader_count}, >= 1")
