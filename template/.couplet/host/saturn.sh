#!/bin/sh
# Writes build/postBuild, one script for the form of Saturn Cloud's image builder, with a Python in a container.
#   saturn.sh BASE_IMAGE
set -eu

"${0%/*}/docker-check.sh"
mkdir -p build
trap 'rm -f build/postBuild.new' EXIT
# dash ends without the above where a signal ends it
trap 'exit 130' INT
trap 'exit 143' TERM HUP
docker run --rm --network none --user "$("${0%/*}/docker-user.sh")" --volume "$PWD:/work:ro" --workdir /work \
    --entrypoint .couplet/couplet.sh "${REGISTRY:+${REGISTRY%/}/}$1" saturn-pack > build/postBuild.new
mv build/postBuild.new build/postBuild
echo "Written: build/postBuild. Paste all of it into the field postBuild, and leave the other fields empty."
