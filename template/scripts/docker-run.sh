#!/bin/sh
# `docker run` as you, with the project folder as /work: what is written there is yours.
#   OPTIONS="--publish …" docker-run.sh IMAGE COMMAND …
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
# shellcheck disable=SC2086  # OPTIONS, group and terminal are lists of words
exec docker run --rm --interactive $terminal ${OPTIONS-} --user "$(id -u):$(id -g)" $group \
    --volume "$PWD:/work" --workdir /work "$image" "$@"
