#!/bin/sh
# The entry point of both images: a HOME and a name for any user, the environment, then the
# command itself.
# No `set -u` here: activation scripts do not bear it.
set -e

# A recording of what `. /opt/conda/etc/profile.d/conda.sh && conda activate` does, and where the
# recording is out of date, just that: see docker/activate.sh and docker/user.sh.
. /opt/activation/activate.sh

exec "$@"
