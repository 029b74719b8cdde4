"""The `fomofeed` command: starts the servers, asks them, looks at them."""

import sys

from cluster.errors import CommandError
from cluster.programs import become


def main() -> int:
    """Runs one command; the exit code is 0, 1 for what went wrong, 2 for a wrong command line."""
    become(sys.argv[1:])
    from cluster.arguments import parse  # noqa: PLC0415  # a program of its own need not wait ...
    from cluster.commands import run  # noqa: PLC0415  # ... 0.3 s for these

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
