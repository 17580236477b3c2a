#!/bin/sh
# Is there a Docker engine that can build this project? Says what is missing and how to get it.
set -eu

fail() {
    printf '%s\n' "$@" >&2
    exit 69
}
command -v docker > /dev/null 2>&1 \
    || fail "There is no docker command here. Docker Engine 23 or newer is needed: https://docs.docker.com/get-docker/"
version=$(docker version --format '{{.Server.Version}}' 2>&1) || fail "No Docker engine answers${DOCKER_HOST:+ at $DOCKER_HOST}:" \
    "  $(printf '%s' "$version" | tail -n 1)" "Start Docker (or set DOCKER_HOST, or \`docker context use\`), then try again."
# (a development build has another form)
case "$version" in
    [0-9].* | 1[0-9].* | 2[0-2].*)
        fail "The Docker engine is $version; 23.0 or newer is needed (BuildKit with heredocs and mounts). Please update it." ;;
esac
docker buildx version > /dev/null 2>&1 \
    || fail "Docker has no buildx here. Install the package docker-buildx-plugin (or docker-buildx)."
