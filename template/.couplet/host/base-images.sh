#!/bin/sh
# The base images by digest: base-images.lock holds what the Dockerfile's tags meant when it was written. With that file
# every build takes exactly those; without it, what the tags mean today.
#
#   base-images.sh pin          ask the registry and write base-images.lock, all of it or nothing
#   base-images.sh check        does it fit the Dockerfile? Needs no Docker and no network.
#   base-images.sh build …      docker-build.sh with the digests; that comes here by itself
#
# REGISTRY is the prefix of your own registry, as for builds; the file names none, so that it is the same for everyone.
set -eu

here=${0%/*}
lock=base-images.lock
prefix=${REGISTRY:+${REGISTRY%/}/}

# NAME=image:tag of each base image in the Dockerfiles.
wanted() {
    sed -n 's/^ARG \([A-Z_]*_BASE\)=[$]{REGISTRY}\([^@[:space:]]*\)$/\1=\2/p' Dockerfile Dockerfile.* 2> /dev/null | sort -u
}

# The same of base-images.lock, with @sha256:… behind it.
pinned() {
    sed 's/\r$//' "$lock" | grep -v '^#'
}

pin() {
    "$here/docker-check.sh"
    new=$lock.$$
    trap 'rm -f "$new" "$new.error"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    echo "# Written by \`make pin-images\`: the base images of every build. Delete this file to build from the tags again." > "$new"
    for line in $(wanted); do
        image=$prefix${line#*=}
        # Digest at the beginning of a line is that of the whole, of all platforms
        digest=$(docker buildx imagetools inspect "$image" 2> "$new.error" \
            | sed -n 's/^Digest: *\(sha256:[0-9a-f]\{64\}\)$/\1/p')
        if [ -z "$digest" ]; then
            {
                echo "The registry does not say what $image is:"
                echo "  $(grep . "$new.error" | tail -n 1 || :)"
                echo "Nothing was written. Is it in reach, and does it know you (docker login)? A registry of your own:"
                echo "  REGISTRY=registry.example.com/ make pin-images"
            } >&2
            exit 69
        fi
        echo "$line@$digest" >> "$new"
        echo "$line@$digest"
    done
    mv -f "$new" "$lock"
    echo "$lock has them: commit it. Builds take these from now on."
}

check() {
    [ -f "$lock" ] || return 0
    mend="Run \`make pin-images\`, or delete $lock to build from the tags."
    if pinned | grep -qvxE '[A-Z_]+_BASE=[^@[:space:]]+@sha256:[0-9a-f]{64}'; then
        echo "$lock is damaged: $(pinned | grep -vxE '[A-Z_]+_BASE=[^@[:space:]]+@sha256:[0-9a-f]{64}' | head -n 1)" >&2
        echo "$mend" >&2
        return 1
    fi
    tags=$(pinned | sed 's/@.*//' | sort -u)
    if [ "$tags" != "$(wanted)" ]; then
        for line in $(wanted); do
            if ! printf '%s\n' "$tags" | grep -qxF "$line"; then
                held=$(printf '%s\n' "$tags" | sed -n "s/^${line%%=*}=//p")
                echo "The Dockerfile asks for ${line#*=}, $lock holds ${held:-nothing} for it (${line%%=*})." >&2
            fi
        done
        for line in $tags; do
            if ! wanted | grep -q "^${line%%=*}="; then
                echo "$lock holds ${line#*=} as ${line%%=*}, which the Dockerfile does not have, or has by digest itself." >&2
            fi
        done
        echo "$mend" >&2
        return 1
    fi
}

build() {
    check
    bake=
    if [ "${1-}" = bake ]; then
        bake=bake
        shift
    fi
    # in front, so that a base image that you name yourself counts
    for line in $(pinned); do
        set -- --build-arg "${line%%=*}=$prefix${line#*=}" --build-arg "${line%%=*}_DIGEST=${line#*@}" "$@"
    done
    code=0
    BASE_IMAGES=pinned "$here/docker-build.sh" ${bake:+"$bake"} "$@" || code=$?
    if [ "$code" -ne 0 ]; then
        # Whatever went wrong: has the registry dropped one of them?
        for line in $(pinned); do
            said=$(docker buildx imagetools inspect "$prefix${line#*=}" 2>&1 > /dev/null) || case "$said" in
                *"not found"* | *"manifest unknown"*)
                    {
                        echo "$lock: the registry has no $prefix${line#*=} any more."
                        echo "\`make pin-images\` takes what the tag means today; without $lock, builds follow the tag."
                    } >&2 ;;
            esac
        done
    fi
    return "$code"
}

case "${1-}" in
    pin) pin ;;
    check) check ;;
    build)
        shift
        build "$@" ;;
    *)
        echo "usage: base-images.sh pin | check | build …" >&2
        exit 64 ;;
esac
