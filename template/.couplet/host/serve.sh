#!/bin/sh
# Serve an app on http://127.0.0.1:$PORT, for this machine alone, until Ctrl-C.
#   PORT=8000 serve.sh IMAGE [COMMAND …]
set -eu

image=$1
shift
# JUPYTER_TOKEN: handed on where it is set.
OPTIONS="--env PORT=$PORT --env JUPYTER_TOKEN ${OPTIONS-}"
export OPTIONS

echo "Serving on http://127.0.0.1:$PORT (Ctrl-C stops it)."
OPTIONS="--publish 127.0.0.1:$PORT:$PORT $OPTIONS"
code=0
"${0%/*}/docker-run.sh" "$image" "$@" || code=$?
if [ "$code" -eq 125 ]; then
    echo "Docker could not start it. If port $PORT is taken, add another to what you typed: PORT=$((PORT + 1))" >&2
fi
exit "$code"
