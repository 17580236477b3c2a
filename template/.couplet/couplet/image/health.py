#!/usr/bin/env python
"""Is the app of this container healthy? `health PORT PATH` asks it; exit code 0 if so, 1 with a line that says why not.

$PORT, which moves the app, moves this too; so do a base URL and a certificate of Jupyter's, which says of its servers
where they are, and of Streamlit's. A proxy that the container is told of is for the world outside: http.client, unlike
urllib and curl, asks none.
"""

import http.client
import json
import os
import ssl
import sys
from pathlib import Path

SECONDS = 3.0


def base_url(port: int) -> tuple[str, bool]:
    """Return the base URL of the app at a port, and whether it speaks TLS."""
    folder = os.environ.get("JUPYTER_RUNTIME_DIR") or Path.home() / ".local/share/jupyter/runtime"
    for file in Path(folder).glob("jpserver-*.json"):
        server = json.loads(file.read_text())
        if server["port"] == port:
            return str(server["base_url"]), bool(server["secure"])
    variable = os.environ.get
    return variable("STREAMLIT_SERVER_BASE_URL_PATH", ""), bool(variable("STREAMLIT_SERVER_SSL_CERT_FILE"))


def main() -> str | None:
    """Return what is wrong, or None."""
    port, path = int(os.environ.get("PORT") or sys.argv[1]), sys.argv[2]
    try:
        prefix, secure = base_url(port)
        path = f"/{prefix.strip('/')}{path}" if prefix.strip("/") else path
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)
        if secure:  # by a certificate that is for the app's name outside
            context = ssl._create_unverified_context()
            connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=SECONDS, context=context)
        connection.request("GET", path)
        status = connection.getresponse().status
    except (OSError, ValueError, KeyError, http.client.HTTPException) as error:
        return f"{path} does not answer: {error!r}"
    return None if status == http.client.OK else f"{path} answers {status}"


if __name__ == "__main__":
    sys.exit(main())
