"""Publishes the ranker that is committed here: `python -m services.ranker.build`."""

import sys
from pathlib import Path

from serving.models.build import main

if __name__ == "__main__":
    sys.exit(main(Path(__file__).parent))
