# shellcheck shell=sh
# Sourced before a step that downloads. Takes the build secrets that `make` found on the user's
# machine and tells conda, pip, uv and Poetry about them, by environment variables only: nothing
# reaches a layer. Without secrets it changes nothing.
#
#   condarc      a .condarc: channel_alias, custom_channels, proxy_servers, credentials
#   pip_conf     a pip.conf: index-url, extra-index-url
#   poetry_auth  Poetry's auth.toml
#   netrc        user names and passwords by host
#   ca           a bundle of certificates that replaces the public one

secrets=/run/secrets

if [ -s "$secrets/condarc" ]; then
    export CONDARC="$secrets/condarc"
fi

if [ -s "$secrets/netrc" ]; then
    export NETRC="$secrets/netrc"
fi

if [ -s "$secrets/ca" ]; then
    export SSL_CERT_FILE="$secrets/ca"
    export REQUESTS_CA_BUNDLE="$secrets/ca" CURL_CA_BUNDLE="$secrets/ca" PIP_CERT="$secrets/ca"
    export CONDA_SSL_VERIFY="$secrets/ca"
fi

if [ -s "$secrets/pip_conf" ]; then
    export PIP_CONFIG_FILE="$secrets/pip_conf"
    # uv does not read pip.conf, and Poetry needs a plugin to use another index for what it locks.
    pip_setting() {
        awk -v key="$1" '
            { sub(/\r$/, "") }
            /^[[:space:]]*[#;]/ { next }
            $0 ~ "^[[:space:]]*" key "[[:space:]]*[=:]" { sub(/^[^=:]*[=:][[:space:]]*/, ""); value = $0 }
            END { print value }' "$secrets/pip_conf"
    }
    index=$(pip_setting index-url)
    extra=$(pip_setting extra-index-url)
    if [ -n "$index" ]; then
        export UV_DEFAULT_INDEX="$index" POETRY_PYPI_MIRROR_URL="$index"
    fi
    if [ -n "$extra" ]; then
        export UV_INDEX="$extra"
    fi
    unset index extra
fi
unset secrets
