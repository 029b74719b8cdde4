"""Where the command finds the project and keeps its own files."""

import os
from pathlib import Path


def project_root() -> Path:
    """The checkout that holds this file; an installed wheel has none and uses the current folder.

    The servers run here, so their relative defaults (`.fomofeed/models`) mean the same folder
    whoever starts them from wherever.
    """
    checkout = Path(__file__).resolve().parents[1]
    return checkout if (checkout / "pyproject.toml").exists() else Path.cwd()


def home() -> Path:
    """State on disk, never committed: models, packages, photos, the profile store, run files."""
    return project_root() / ".fomofeed"


def run_folder() -> Path:
    """Logs and the state file of the running cluster; `FOMOFEED_RUN_DIR` moves it."""
    return Path(os.environ.get("FOMOFEED_RUN_DIR", home() / "run"))
