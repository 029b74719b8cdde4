import sys
from pathlib import Path

from services.clip import blazeface, centernet, lite0
from serving.models import build

if __name__ == "__main__":
    converters = {
        "blazeface": blazeface.convert,
        "centernet": centernet.convert,
        "efficientnet-lite0": lite0.convert,
    }
    sys.exit(build.main(Path(__file__).parent, converters))
