#!/bin/sh
# `docker run` as you, with the project folder as /work: what is written there is yours.
#   OPTIONS="--publish …" JOIN="--network …" docker-run.sh IMAGE COMMAND …
# PUBLISH=8000:8888 makes the container's port 8888 http://127.0.0.1:8000, for this machine alone, until Ctrl-C.
# The dev image gets this machine's settings (settings.sh) and proxies too, read-only and for this container alone.
# MOUNT=no runs what the image holds instead, as the image's own user: for CI, whose engine may not see this folder.
set -eu

here=${0%/*}
image=$1
shift
options=${OPTIONS-}
[ ! -t 0 ] || [ ! -t 1 ] || options="--tty $options"
if [ "${MOUNT-}" != no ]; then
    # The GPUs, in a project that uses them and where Docker can pass them in (GPUS=none keeps them out).
    [ ! -x "$here/gpus.sh" ] || options="$options $("$here/gpus.sh")"
    options="$options ${JOIN-} --user $("$here/docker-user.sh")"
    # In the dev image group 0 may write in the environment, so that `poetry add` works; in the other nobody should.
    case "$image" in
        *:dev)
            options="$options --group-add 0" found=$("$here/settings.sh")
            for name in HTTP_PROXY HTTPS_PROXY NO_PROXY http_proxy https_proxy no_proxy; do
                [ -z "$(printenv "$name")" ] || options="$options --env $name"
            done
            [ -z "$found" ] || set -- /work/.couplet/couplet.sh network "$@"
            set -- "$image" "$@"
            while read -r name file; do
                [ -z "$name" ] || set -- --mount \
                    "type=bind,\"source=$(printf '%s' "$file" | sed 's/"/""/g')\",target=/run/secrets/$name,readonly" "$@"
            done << END
$found
END
            ;;
        *) set -- "$image" "$@" ;;
    esac
    set -- --volume "$PWD:/work" --workdir /work "$@"
else
    set -- "$image" "$@"
fi
if [ -z "${PUBLISH-}" ]; then
    # shellcheck disable=SC2086  # a list of words
    exec docker run --rm --interactive $options "$@"
fi
port=${PUBLISH%:*} code=0
echo "Serving on http://127.0.0.1:$port (Ctrl-C stops it)."
# JUPYTER_TOKEN: handed on where it is set.
# shellcheck disable=SC2086  # a list of words
docker run --rm --interactive --publish "127.0.0.1:$PUBLISH" --env PORT="${PUBLISH#*:}" --env JUPYTER_TOKEN $options "$@" || code=$?
if [ "$code" -eq 125 ]; then
    echo "Docker could not start it. If port $port is taken, add another to what you typed: PORT=$((port + 1)) (the template's docs/guide.md#make-targets)" >&2
fi
exit "$code"
