#!/bin/sh
# Write what Kubernetes gets into build/deploy/, one file for each folder of deploy/, with the image that `make publish` pushed:
#   TO=registry/name TAG=1.2 deploy.sh NAME KUSTOMIZE_IMAGE      (or TAG=sha256:...)
# NAME is what the folders call the image. kustomize comes from its own image, the same one for everyone; the folders are
# copied into its container, since an engine may not see this machine's files. TO and TAG come from the environment, never
# through a shell's or make's hands: CI passes names of branches.
set -eu

"${0%/*}/docker-check.sh"
if [ -z "${TO-}" ] || [ -z "${TAG-}" ]; then
    echo "Which image? make deploy-render TO=registry.example.com/group/name TAG=1.2 (the template's docs/kubernetes.md)" >&2
    exit 64
fi
# as make publish does it: a name in small letters, a tag without what a tag must not hold
to=$(printf '%s' "$TO" | tr '[:upper:]' '[:lower:]')
case "$to" in
    *[!a-z0-9._/:-]*)
        echo "TO=$TO is not the name of an image. Example: TO=registry.example.com/group/name (the template's docs/kubernetes.md)" >&2
        exit 64 ;;
esac
case "$TAG" in
    sha256:*[!0-9a-f]* | sha256:)
        echo "TAG=$TAG is not a digest: sha256: and 64 hexadecimal digits (the template's docs/kubernetes.md)." >&2
        exit 64 ;;
    sha256:*) tag="digest: \"$TAG\"" ;;
    *) tag=$(printf '%s' "$TAG" | tr -c 'A-Za-z0-9_.-' '-' | sed 's/^[.-]*//' | cut -c 1-128)
        tag="newTag: \"${tag:-latest}\"" ;;
esac

kustomize=${REGISTRY:+${REGISTRY%/}/}$2
scratch=$(mktemp -d)
container=
trap 'rm -rf "$scratch"; if [ -n "$container" ]; then docker rm --force "$container" > /dev/null; fi' EXIT
# dash ends without the above where a signal ends it
trap 'exit 130' INT
trap 'exit 143' TERM HUP
# kustomize's image need not run as root
chmod 755 "$scratch"

mkdir -p build/deploy
for folder in deploy/*/; do
    name=$(basename "$folder")
    printf '%s\n' 'apiVersion: kustomize.config.k8s.io/v1beta1' 'kind: Kustomization' "resources: [\"../$name\"]" \
        'images:' "  - name: \"$1\"" "    newName: \"$to\"" "    $tag" > "$scratch/kustomization.yaml"
    container=$(docker create --network none "$kustomize" build /deploy/.rendered)
    docker cp --quiet deploy "$container:/deploy"
    docker cp --quiet "$scratch" "$container:/deploy/.rendered"
    if ! docker start --attach "$container" > "build/deploy/.$name"; then
        rm -f "build/deploy/.$name"
        echo "kustomize could not render deploy/$name: see above (the template's docs/kubernetes.md)." >&2
        exit 1
    fi
    docker rm "$container" > /dev/null
    container=
    mv "build/deploy/.$name" "build/deploy/$name.yaml"
    echo "build/deploy/$name.yaml"
done
echo "Look at them, then: kubectl apply --namespace NAMESPACE -f build/deploy/NAME.yaml"
