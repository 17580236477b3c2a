#!/bin/sh
# Is an image in a registry what the locks of this folder say? verify-image.sh registry.example.com/group/name@sha256:…
# Its labels, the SBOM attached to it, and the files of its packages (couplet/inspect/image.py). Nothing of it runs: the builder
# mounts it beside a Python that is not its own.
set -eu

here=${0%/*}
case "$1" in
    *@sha256:*) ;;
    *)
        echo "Which image? By its digest, since a tag may move: make verify-image IMAGE=registry.example.com/group/name@sha256:… (the template's docs/supply-chain.md#verify-an-image)" >&2
        exit 64 ;;
esac
"$here/docker-check.sh"
about=$(mktemp -d)
trap 'rm -rf "$about"' EXIT
trap 'exit 130' INT TERM HUP # which dash would end at without the above
format='{"image": {{json .Image}}, "sbom": {{json .SBOM}}}'
if ! docker buildx imagetools inspect --format "$format" "$1" > "$about/image.json" 2> "$about/error"; then
    printf '%s\n' "The registry did not give $1:" "  $(tail -n 1 "$about/error")" \
        "Is it reachable, and are you logged in (docker login)? (The template's docs/supply-chain.md#verify-an-image)" >&2
    exit 69
fi
"$here/python.sh" facts > "$about/facts"
"$here/docker-build.sh" --file .couplet/tasks.Dockerfile --target verified --output "type=local,dest=$about" \
    --build-context "image=docker-image://$1" --build-context "about=$about"
cat "$about/verified.txt"
