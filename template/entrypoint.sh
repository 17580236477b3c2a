#!/bin/sh
# The entry point of both images: a HOME for any user, the environment, then the command itself.
# No `set -u` here: activation scripts do not bear it.
set -e

# A user without an entry in /etc/passwd (docker run --user, OpenShift) has no name and no home.
if ! [ -w "${HOME:-/}" ] || [ "${HOME:-/}" = / ]; then
    HOME=/tmp/home-$(id -u)
    export HOME
    (umask 077; mkdir -p "$HOME") || echo "entrypoint.sh: no HOME: nothing can be written in /tmp" >&2
fi
if [ -z "${USER-}" ]; then
    USER=$(id -un 2> /dev/null) || USER=user$(id -u)
    export USER LOGNAME="$USER"
fi

# A recording of what `. /opt/conda/etc/profile.d/conda.sh && conda activate` does, and where the
# recording is out of date, just that: see docker/activate.sh.
. /opt/activation/activate.sh

exec "$@"
