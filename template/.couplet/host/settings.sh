#!/bin/sh
# Where this machine's conda, pip and Poetry have their settings, and its certificates: a line each, the name of the build secret and
# the file, the first that can be read of the places where the tool itself looks (on macOS other ones too).
set -eu

home=${HOME:-/nonexistent} config=${XDG_CONFIG_HOME:-${HOME:-/nonexistent}/.config} support="Library/Application Support"
first() {
    name=$1
    shift
    for file; do
        if [ -f "$file" ] && [ -r "$file" ]; then
            echo "$name $file"
            return
        fi
    done
}
first condarc "${CONDARC-}" "$home/.condarc"
first pip_conf "${PIP_CONFIG_FILE-}" "$home/$support/pip/pip.conf" "$config/pip/pip.conf" "$home/.pip/pip.conf" \
    "/$support/pip/pip.conf" /etc/pip.conf
first poetry_auth "${POETRY_CONFIG_DIR-}/auth.toml" "$home/$support/pypoetry/auth.toml" "$config/pypoetry/auth.toml"
first netrc "${NETRC-}" "$home/.netrc"
first ca "${SSL_CERT_FILE-}" "${REQUESTS_CA_BUNDLE-}"
