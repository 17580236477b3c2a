# shellcheck shell=sh
# Sourced before a step that downloads. Takes the build secrets that `make` found on the user's
# machine and tells conda, pip, uv and Poetry about them, by environment variables only: nothing
# reaches a layer. With or without secrets, a silent server is waited for longer, nobody is asked for a password, and a
# step that fails says so where Docker's disk is all but full (a trap on EXIT: one of your own replaces it).
#
#   condarc      a .condarc: channel_alias, custom_channels, proxy_servers, credentials
#   pip_conf     a pip.conf: index-url, extra-index-url
#   poetry_auth  Poetry's auth.toml
#   netrc        user names and passwords by host
#   ca           a bundle of certificates that replaces the public one
#   proxies      HTTP_PROXY and its like, a line each, where they hold a password

# A disk that is full is not always called so: pip takes it for a broken connection.
failed() {
    code=$?
    left=$(df -Pk / | awk 'NR == 2 { print int($4 / 1024) }')
    if [ "$code" -ne 0 ] && [ "${left:-9999}" -lt 1000 ]; then
        echo "Docker's disk has $left MB left. If that is why this failed: \`make docker-prune\` makes room on it." >&2
    fi
}
trap failed EXIT

secrets=/run/secrets

# Where a password is missing or wrong, say so: there is nobody to be asked for it.
export PIP_NO_INPUT=1

if [ -s "$secrets/proxies" ]; then
    while read -r line; do
        export "${line?}"
    done < "$secrets/proxies"
    unset line
fi

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

# A mirror that fetches a package when it is first asked for says nothing meanwhile: pip waits 15 seconds for a word, uv 30.
wait=120
if [ -s "$secrets/pip_conf" ]; then
    export PIP_CONFIG_FILE="$secrets/pip_conf"
    # uv does not read pip.conf, and Poetry needs a plugin to use another index for what it locks.
    pip_setting() {
        awk -v key="$1" '
            { sub(/\r$/, "") }
            /^[[:space:]]*[#;]/ { next }
            $0 ~ "^[[:space:]]*" key "[[:space:]]*[=:]" { sub(/^[^=:]*[=:][[:space:]]*/, ""); value = $0; on = 1; next }
            # a list goes on in indented lines
            on && /^[[:space:]]+[^[:space:]]/ && !/^[[:space:]]*[a-z-]+[[:space:]]*=/ { sub(/^[[:space:]]+/, ""); value = value " " $0; next }
            { on = 0 }
            END { sub(/^ +/, "", value); print value }' "$secrets/pip_conf"
    }
    timeout=$(pip_setting timeout)
    wait=${timeout:-$wait} wait=${wait%%.*}
    index=$(pip_setting index-url)
    extra=$(pip_setting extra-index-url)
    if [ -n "$index" ]; then
        export UV_DEFAULT_INDEX="$index" POETRY_PYPI_MIRROR_URL="$index"
    fi
    if [ -n "$extra" ]; then
        # pip asks all of them and takes the file that has the right hash. uv asks these before its default and, by itself, stops at
        # the first that has any version of a package: so the main index comes first, and the others for versions that it lacks.
        for python in /opt/miniforge/bin/python /opt/conda/bin/python python3; do
            if [ -z "$index" ]; then
                index=$("$python" -IBc 'from pip._internal.models.index import PyPI; print(PyPI.simple_url)' 2> /dev/null) || :
            fi
        done
        export UV_INDEX="${index:+$index }$extra" UV_INDEX_STRATEGY=unsafe-first-match
    fi
    unset timeout index extra python
fi
export PIP_DEFAULT_TIMEOUT="$wait" UV_HTTP_TIMEOUT="$wait" POETRY_REQUESTS_TIMEOUT="$wait"
unset secrets wait
