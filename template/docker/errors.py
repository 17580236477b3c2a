"""How the helpers of the build report what went wrong: one message, no traceback, exit code 1."""

import sys


class BuildError(Exception):
    """Something a person can mend; the message names the file, the key and the command that does."""


def run(main):
    """Call `main()` and turn a BuildError into a message on stderr and exit code 1."""
    try:
        main()
    except BuildError as error:
        print(f"\nERROR: {error}\n", file=sys.stderr)
        raise SystemExit(1) from None
