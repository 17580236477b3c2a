#!/bin/sh
# `docker build`, with what this machine needs to reach its package sources: mirrors, certificates and
# credentials go in as build secrets, which leave no trace in the image. Arguments: docker build's.
#
# Looked for, each where its own tool looks:
#   CONDARC or ~/.condarc                                conda: channel_alias, custom_channels, ...
#   PIP_CONFIG_FILE, ~/.config/pip/pip.conf, ~/.pip/pip.conf or /etc/pip.conf
#   POETRY_CONFIG_DIR or ~/.config/pypoetry: auth.toml   Poetry's credentials
#   NETRC or ~/.netrc                                    user names and passwords by host
#   SSL_CERT_FILE or REQUESTS_CA_BUNDLE                  certificates, where you have your own
#   HTTP_PROXY, HTTPS_PROXY, NO_PROXY                    proxies (predefined build arguments)
#   REGISTRY                                             prefix for the base images
set -eu

"${0%/*}/docker-check.sh"

first_file() {
    for file in "$@"; do
        if [ -n "$file" ] && [ -f "$file" ] && [ -r "$file" ]; then
            printf '%s' "$file"
            return
        fi
    done
}

home=${HOME:-/nonexistent}
config=${XDG_CONFIG_HOME:-$home/.config}

condarc=$(first_file "${CONDARC-}" "$home/.condarc")
pip=$(first_file "${PIP_CONFIG_FILE-}" "$config/pip/pip.conf" "$home/.pip/pip.conf" /etc/pip.conf)
auth=$(first_file "${POETRY_CONFIG_DIR:+$POETRY_CONFIG_DIR/auth.toml}" "$config/pypoetry/auth.toml")
netrc=$(first_file "${NETRC-}" "$home/.netrc")
ca=$(first_file "${SSL_CERT_FILE-}" "${REQUESTS_CA_BUNDLE-}")

# CSV, so that a path may hold a comma or a quote.
for pair in "condarc=$condarc" "pip_conf=$pip" "poetry_auth=$auth" "netrc=$netrc" "ca=$ca"; do
    file=${pair#*=}
    if [ -n "$file" ]; then
        file=$(printf '%s' "$file" | sed 's/"/""/g')
        set -- --secret "id=${pair%%=*},\"src=$file\"" "$@"
    fi
done
for name in HTTP_PROXY HTTPS_PROXY NO_PROXY http_proxy https_proxy no_proxy; do
    if [ -n "$(printenv "$name" || :)" ]; then
        set -- --build-arg "$name" "$@"
    fi
done
if [ -n "${REGISTRY-}" ]; then
    set -- --build-arg "REGISTRY=${REGISTRY%/}/" "$@"
fi

# What the image's labels say.
sha256() {
    if ! [ -f "$1" ]; then return; fi
    if command -v sha256sum > /dev/null 2>&1; then sha256sum "$1"; else shasum -a 256 "$1"; fi | cut -d ' ' -f 1
}
version=$(awk -F '"' '/^\[/ { table = $0 } table ~ /^\[project\]/ && /^version *=/ { print $2; exit }' pyproject.toml)
revision=
if commit=$(git rev-parse --verify --quiet HEAD 2> /dev/null); then
    revision=$commit$(git diff-index --quiet HEAD -- . 2> /dev/null || printf '%s' -dirty)
fi

exec docker buildx build --build-arg "VERSION=$version" --build-arg "REVISION=$revision" \
    --build-arg "CONDA_LOCK=$(sha256 conda-lock.yml)" --build-arg "POETRY_LOCK=$(sha256 poetry.lock)" "$@"
