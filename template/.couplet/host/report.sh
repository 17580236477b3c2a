#!/bin/sh
# What is an image made of? Prints it, and writes report/image.svg and report/image.html.
#   report.sh IMAGE ENV_PREFIX DISTRIBUTION
set -eu

mkdir -p report
{
    docker image inspect "$1"
    docker history --no-trunc --human=false --format json "$1"
} | docker run --rm --interactive --network none --user "$("${0%/*}/docker-user.sh")" --group-add 0 --env NO_ACTIVATE=1 \
    --env PYTHON="$2/bin/python" --volume "$PWD/.couplet:/couplet:ro" --volume "$PWD/report:/report" \
    --entrypoint /couplet/couplet.sh "$1" report --name "$1" --prefix "$2" --project "$3" --out /report
echo
echo "report/image.html shows all of it, report/image.svg is the picture."
