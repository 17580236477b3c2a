#!/bin/sh
# The options of `docker run` that pass the GPUs into a container: none where Docker could not do it.
#
#   gpus.sh            asks the engine, and where it runs on this machine, the machine
#   gpus.sh decide     decides on what `docker info --format json` printed, read from standard input
#   GPUS=none gpus.sh  decides so, whatever there is; GPUS=all, GPUS=1 and GPUS=device=0,1 pass those
set -eu

decide() {
    info=$(cat)
    case "$info" in
        *'"nvidia":{'*) echo '--gpus all' ;; # NVIDIA's runtime
        *'"nvidia.com/gpu='*) echo '--device nvidia.com/gpu=all' ;; # devices that CDI describes
    esac
}

# An engine on this machine finds NVIDIA's hook without a word in `docker info`.
here() {
    [ -z "${DOCKER_HOST-}" ] && command -v nvidia-container-runtime-hook > /dev/null 2>&1 && nvidia-smi -L > /dev/null 2>&1
}

if [ "${1-}" = decide ]; then
    decide
    exit 0
fi
case "${GPUS-}" in
    none) ;;
    '')
        options=$(docker info --format json 2> /dev/null | decide)
        if [ -z "$options" ] && here; then
            options='--gpus all'
        fi
        echo "$options" ;;
    # quoted, since docker reads a list with commas
    *) echo "--gpus \"$GPUS\"" ;;
esac
