#!/bin/sh
# Is there a Docker engine that can build this project? Says what is missing and how to get it.
set -eu

if ! command -v docker > /dev/null 2>&1; then
    echo "There is no docker command here. Docker Engine 23 or newer is needed: https://docs.docker.com/get-docker/" >&2
    exit 69
fi
if ! version=$(docker version --format '{{.Server.Version}}' 2>&1); then
    echo "No Docker engine answers${DOCKER_HOST:+ at $DOCKER_HOST}:" >&2
    echo "  $(printf '%s' "$version" | tail -n 1)" >&2
    echo "Start Docker (or set DOCKER_HOST, or \`docker context use\`), then try again." >&2
    exit 69
fi
major=${version%%.*}
case "$major" in
    '' | *[!0-9]*) ;; # a development build: let it try
    *)
        if [ "$major" -lt 23 ]; then
            echo "The Docker engine is $version; 23.0 or newer is needed (BuildKit with heredocs and mounts). Please update it." >&2
            exit 69
        fi ;;
esac
if ! docker buildx version > /dev/null 2>&1; then
    echo "Docker has no buildx here. Install the package docker-buildx-plugin (or docker-buildx)." >&2
    exit 69
fi
