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
# Group 0 owns the environment and the home folder of the dev image.
# shellcheck disable=SC2086  # OPTIONS and terminal are lists of words
exec docker run --rm --interactive $terminal ${OPTIONS-} --user "$(id -u):$(id -g)" --group-add 0 \
    --volume "$PWD:/work" --workdir /work "$image" "$@"
