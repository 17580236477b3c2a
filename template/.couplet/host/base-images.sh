#!/bin/sh
# The base images by digest: asks the registry what the Dockerfile's tags mean today, and writes base-images.lock, all of it or
# nothing. With that file every build takes exactly those (python.sh facts); without it, what the tags mean that day.
# REGISTRY is the prefix of your own registry, as for builds; the file names none, so that it is the same for everyone.
set -eu

"${0%/*}/docker-check.sh"
new=base-images.lock.$$
trap 'rm -f "$new"' EXIT
trap 'exit 130' INT TERM HUP # which dash would end at without the above
echo "# Written by \`make pin-images\`: the base images of every build. Delete this file to build from the tags again." > "$new"
# NAME=image:tag of each base image
wanted=$(sed -n 's/^ARG \([A-Z_]*_BASE\)=[$]{REGISTRY}\([^@[:space:]]*\)$/\1=\2/p' Dockerfile Dockerfile.* 2> /dev/null | sort -u)
for line in $wanted; do
    image=${REGISTRY:+${REGISTRY%/}/}${line#*=}
    # The digest of the whole, of all platforms. buildx answers a template that begins with .Manifest with all of its table.
    if ! digest=$(docker buildx imagetools inspect --format '{{with .Manifest}}{{.Digest}}{{end}}' "$image" 2>&1); then
        printf '%s\n' "The registry gave no digest for $image:" "  $(printf '%s' "$digest" | tail -n 1)" \
            "Nothing was written. Is it reachable, and are you logged in (docker login)? A registry of your own:" \
            "  REGISTRY=registry.example.com/ make pin-images (the template's docs/supply-chain.md#base-images-by-digest)" >&2
        exit 69
    fi
    echo "$line@$digest" | tee -a "$new"
done
mv -f "$new" base-images.lock
echo "base-images.lock is written: commit it. Builds use these images from now on."
