"""Settings of the text service."""

from dataclasses import dataclass
from pathlib import Path

TEMPLATES = Path(__file__).parent / "templates.yaml"


@dataclass(frozen=True, slots=True)
class TextConfig:
    """Where the words come from."""

    templates: Path = TEMPLATES  # a template file, as the one beside this module
