# shellcheck shell=sh
# Sourced by every door into a container: the entry point, the shims in /usr/local/sbin, bash -c,
# login and interactive shells. POSIX sh, no `set`, no output: it must not change the shell it is in.
#
#   NO_ACTIVATE=1        leaves everything as it is
#   ACTIVATED_PREFIX     set once it is done, in the image itself too, so that it is done once: an
#                        environment that was activated since stays in front

. /opt/activation/user.sh

if [ -z "${NO_ACTIVATE-}" ] && [ "${ACTIVATED_PREFIX-}" != "$ENV_PREFIX" ]; then
    export PATH="/usr/local/sbin:$ENV_PREFIX/bin:${PATH-/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin}"
    export VIRTUAL_ENV="$ENV_PREFIX" ACTIVATED_PREFIX="$ENV_PREFIX"
fi
