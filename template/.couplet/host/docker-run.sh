#!/bin/sh
# `docker run` as you, with the project folder as /work: what is written there is yours.
#   OPTIONS="--publish …" JOIN="--network …" docker-run.sh IMAGE COMMAND …
# MOUNT=no runs what the image holds instead, as the image's own user: for CI, whose engine may not see this folder.
set -eu

image=$1
shift
terminal=
if [ -t 0 ] && [ -t 1 ]; then
    terminal=--tty
fi
# In the dev image group 0 may write in the environment, so that `poetry add` works; in the other nobody should.
group=
case "$image" in
    *:dev) group="--group-add 0" ;;
esac
if [ "${MOUNT-}" = no ]; then
    # shellcheck disable=SC2086  # OPTIONS and terminal are lists of words
    exec docker run --rm --interactive $terminal ${OPTIONS-} "$image" "$@"
fi
# The GPUs, in a project that uses them and where Docker can pass them in (GPUS=none keeps them out).
gpus=
if [ -x "${0%/*}/gpus.sh" ]; then
    gpus=$("${0%/*}/gpus.sh")
fi
# shellcheck disable=SC2086  # OPTIONS, JOIN, gpus, group and terminal are lists of words
exec docker run --rm --interactive $terminal ${OPTIONS-} ${JOIN-} $gpus --user "$("${0%/*}/docker-user.sh")" $group \
    --volume "$PWD:/work" --workdir /work "$image" "$@"
