#!/bin/sh
# Runs the package: `couplet.sh VERB [OPTION …]`. By default with the base image's Python, which sees the pinned tools
# (/opt/tools) and nothing of what the base image has installed beside it: -S leaves its site-packages out. PYTHON names
# another Python, with its own packages, for what needs those.
here=${0%/*}
for base in /opt/miniforge/bin/python /opt/conda/bin/python /usr/local/bin/python3; do
    if [ -z "${PYTHON-}" ] && [ -x "$base" ]; then
        PYTHONPATH=$here:/opt/tools exec "$base" -B -S -s -m couplet "$@"
    fi
done
PYTHONPATH=$here:/opt/tools exec "$PYTHON" -B -s -m couplet "$@"
