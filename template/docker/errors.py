"""How the helpers of the build report what went wrong: one message, no traceback, no password, exit code 1."""

import re
import sys


class BuildError(Exception):
    """Something a person can mend; the message names the file, the key and the command that does."""


def without_password(text):
    """Return the text as it may be printed: addresses without user names, passwords and conda's tokens."""
    return re.sub(r"/t/[^/\s'\"]+", "/t/***", re.sub(r"://[^/@\s]*@", "://***@", text))


def run(main):
    """Call `main()` and turn a BuildError into a message on stderr and exit code 1."""
    try:
        main()
    except BuildError as error:
        print(f"\nERROR: {without_password(str(error))}\n", file=sys.stderr)
        raise SystemExit(1) from None
