#!/bin/sh
# JupyterLab on http://127.0.0.1:$PORT, for this machine alone, until Ctrl-C:  PORT=8888 lab.sh IMAGE
set -eu

OPTIONS="--publish 127.0.0.1:$PORT:8888 ${OPTIONS-}"
export OPTIONS
code=0
"${0%/*}/docker-run.sh" "$1" jupyter lab --ip=0.0.0.0 --port=8888 --no-browser --allow-root \
    --ServerApp.custom_display_url="http://127.0.0.1:$PORT/lab" || code=$?
if [ "$code" -eq 125 ]; then
    echo "Docker could not start it. If port $PORT is taken: make lab PORT=$((PORT + 1))" >&2
fi
exit "$code"
