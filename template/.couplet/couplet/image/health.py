#!/usr/bin/env python
"""Is the app of this container healthy? `health PORT PATH` asks it; exit code 0 if so, 1 with a line that says why not.

$PORT, which moves the app, moves this too. A proxy that the container is told of is for the world outside:
http.client, unlike urllib and curl, asks none.
"""

import http.client
import os
import sys

SECONDS = 3.0


def main() -> str | None:
    """Return what is wrong, or None."""
    port, path = sys.argv[1:]
    connection = http.client.HTTPConnection("127.0.0.1", int(os.environ.get("PORT") or port), timeout=SECONDS)
    try:
        connection.request("GET", path)
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return f"{path} does not answer: {error!r}"
    return None if status == http.client.OK else f"{path} answers {status}"


if __name__ == "__main__":
    sys.exit(main())
