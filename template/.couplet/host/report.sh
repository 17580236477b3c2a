#!/bin/sh
# What is an image made of? Prints it, and writes report/image.svg and report/image.html.
#   report.sh IMAGE ENV_PREFIX DISTRIBUTION
set -eu

image=$1
mkdir -p report
{
    docker image inspect "$image"
    docker history --no-trunc --human=false --format json "$image"
} | docker run --rm --interactive --network none --user "$("${0%/*}/docker-user.sh")" --group-add 0 --env NO_ACTIVATE=1 \
    --volume "$PWD/docker/report.py:/report.py:ro" --volume "$PWD/report:/report" \
    --entrypoint "$2/bin/python" "$image" -B /report.py --name "$image" --prefix "$2" --project "$3" --out /report
echo
echo "report/image.html shows all of it, report/image.svg is the picture."
