"""The `fomofeed` command: starts the servers, asks them, looks at them."""

import sys

from cluster.arguments import parse
from cluster.commands import run
from cluster.errors import CommandError


def main() -> int:
    """Runs one command; the exit code is 0, 1 for what went wrong, 2 for a wrong command line."""
    arguments = parse(sys.argv[1:])
    try:
        return run(arguments)
    except CommandError as error:
        print(f"fomofeed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
