# shellcheck shell=sh
# Sourced on every way into a container: the entry point, the shims, bash -c, login and interactive shells.
# POSIX sh, no `set`, no output: it must not change the shell it is in.
#
#   NO_ACTIVATE=1        leaves everything as it is
#   ACTIVATED_PREFIX     set once it is done, so that it is done once: an environment that was activated
#                        since stays in front

. /opt/activation/user.sh

if [ -z "${NO_ACTIVATE-}" ] && [ "${ACTIVATED_PREFIX-}" != "$ENV_PREFIX" ]; then
    # shellcheck disable=SC3013  # -nt: not in POSIX, but in dash, bash and busybox, and it costs nothing
    # The recording is stale once conda has changed the environment, or a script of its activation.
    if [ "$ENV_PREFIX/conda-meta" -nt /opt/activation/stamp ] ||
        [ "$ENV_PREFIX/conda-meta/history" -nt /opt/activation/stamp ] ||
        [ "$ENV_PREFIX/conda-meta/state" -nt /opt/activation/stamp ] ||
        [ "$ENV_PREFIX/etc/conda/activate.d" -nt /opt/activation/stamp ]; then
        . /opt/conda/etc/profile.d/conda.sh
        conda activate "$ENV_PREFIX"
    else
        . /opt/activation/static.sh
    fi
    export ACTIVATED_PREFIX="$ENV_PREFIX"
fi
