#!/bin/sh
# Push an image to a registry that `docker login` knows: TO=registry/name TAGS="1.2 latest" publish.sh IMAGE
# TO and TAGS come from the environment, never through a shell's or make's hands: CI passes names of branches.
#
# Where the builder can, it pushes the image itself, with its provenance and the SBOM of the locks as attestations: first to the
# tag `couplet`, and the other tags move once that is known to be IMAGE. report/published.txt names it by its digest.
set -eu

here=${0%/*}
if [ -z "${TO-}" ] || [ -z "${TAGS-}" ]; then
    echo "Where to? make publish TO=registry.example.com/group/name TAGS=\"1.2 latest\" (the template's docs/supply-chain.md#what-is-published)" >&2
    exit 64
fi
# a repository's name is in small letters
to=$(printf '%s' "$TO" | tr '[:upper:]' '[:lower:]')
image=$1
shift
set -f
for tag in $TAGS; do
    # what a tag must not hold (a branch's slash) becomes a dash; it begins with no dot or dash
    tag=$(printf '%s' "$tag" | tr -c 'A-Za-z0-9_.-' '-' | sed 's/^[.-]*//' | cut -c 1-128)
    set -- "$@" "$to:${tag:-latest}"
done
mkdir -p report

# push OPTION …: what the builder pushes to the tag `couplet`; its digest is $digest.
push() {
    "$here/docker-build.sh" "$@" --push --tag "$to:couplet" --metadata-file "$said" >&2
    digest=$(sed -n 's/.*"containerimage.digest": "\(sha256:[0-9a-f]*\)".*/\1/p' "$said")
}

if [ "$(docker buildx inspect | awk '$1 == "Driver:" { print $2 }')" = docker ] \
    && ! docker info --format '{{.DriverStatus}}' | grep -q io.containerd.snapshotter; then
    echo "This builder cannot attach an SBOM and provenance: the image is pushed without them. To attach them: docker buildx create --use" \
        "--driver-opt default-load=true (the template's docs/supply-chain.md#what-is-published)" >&2
    for name; do
        docker tag "$image" "$name"
        docker push --quiet "$name"
    done
    digest=$(docker buildx imagetools inspect --format '{{with .Manifest}}{{.Digest}}{{end}}' "$1")
else
    said=$(mktemp)
    trap 'rm -f "$said"' EXIT
    trap 'exit 130' INT TERM HUP # which dash would end at without the above
    push --file .couplet/tasks.Dockerfile --target sbom-generator --provenance=false
    push --target runtime --provenance=mode=max "--sbom=generator=$to@$digest"
    about='{{println .Config.User .Config.WorkingDir .Config.Entrypoint .Config.Cmd .Config.Env .Config.Labels}}'
    built=$(docker image inspect --format "{{println .RootFS.Layers}}$about" "$image")
    about="{{with .Image}}{{println .RootFS.DiffIDs}}$about{{end}}"
    if [ "$built" != "$(docker buildx imagetools inspect --format "$about" "$to@$digest")" ]; then
        echo "The image that the builder pushed differs from $image here: no tag was moved. Build and test again, then publish (the template's docs/supply-chain.md#what-is-published)." >&2
        exit 1
    fi
    for name; do
        set -- "$@" --tag "$name"
        shift
    done
    docker buildx imagetools create "$@" "$to@$digest"
fi
echo "$to@$digest" | tee report/published.txt
