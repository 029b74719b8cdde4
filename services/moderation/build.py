import sys
from pathlib import Path

from serving.models import build

if __name__ == "__main__":
    sys.exit(build.main(Path(__file__).parent))
