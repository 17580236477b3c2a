#!/bin/sh
# Runs the package, `python.sh VERB [OPTION …]`, with this machine's Python where that is 3.11 or newer, else in a container.
# For what needs the standard library alone: check, facts, doctor.
set -eu
here=${0%/*}
for python in python3 python; do
    if "$python" -SsEc 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null; then
        PYTHONPATH="${here%/*}" exec "$python" -BSs -m couplet "$@"
    fi
done
image=$(FACTS=no "$here/docker-build.sh" --quiet --file .couplet/tasks.Dockerfile --target python)
exec docker run --rm --network none --volume "$PWD:/work:ro" "$image" "$@"
