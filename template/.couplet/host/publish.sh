#!/bin/sh
# Push an image to a registry that `docker login` knows: TO=registry/name TAGS="1.2 latest" publish.sh IMAGE
# TO and TAGS come from the environment, never through a shell's or make's hands: CI passes names of branches.
set -eu

if [ -z "${TO-}" ] || [ -z "${TAGS-}" ]; then
    echo "Where to? make publish TO=registry.example.com/group/name TAGS=\"1.2 latest\"" >&2
    exit 64
fi
# a repository's name is in small letters
to=$(printf '%s' "$TO" | tr '[:upper:]' '[:lower:]')
set -f
for tag in $TAGS; do
    # what a tag must not hold (a branch's slash) becomes a dash; it begins with no dot or dash
    tag=$(printf '%s' "$tag" | tr -c 'A-Za-z0-9_.-' '-' | sed 's/^[.-]*//' | cut -c 1-128)
    docker tag "$1" "$to:${tag:-latest}"
    docker push --quiet "$to:${tag:-latest}"
done
