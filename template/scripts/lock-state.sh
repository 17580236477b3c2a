#!/bin/sh
# Do environment.yml, pyproject.toml and the lock files belong together? Needs a shell and awk only:
# no network, no container, no Python, so that CI and a pre-commit hook can ask in a moment.
#
#   lock-state.sh check [DIR]    exit 0: they do; 1: says what differs; 2: there are no locks yet
#   lock-state.sh stamp DIR      print the stamp that `check` compares with (the lock is made so)
#
# The stamp stands in the head of each conda-<platform>.lock: one SHA-256 for each file that the locks
# were made of or consist of. Of pyproject.toml only what a lock depends on counts: a new version or
# description of the project makes no lock stale.
set -eu

sha256() {
    if command -v sha256sum > /dev/null 2>&1; then sha256sum; else shasum -a 256; fi | cut -d ' ' -f 1
}

# Without comments, empty lines, trailing blanks and Windows line ends.
plain() {
    awk '{ sub(/\r$/, ""); sub(/[ \t]+$/, "") } /^[ \t]*(#|$)/ { next } { print }' "$1"
}

# The tables and keys of pyproject.toml that decide what is locked.
dependencies() {
    plain "$1" | awk '
        function depth(line,    opened, closed) {
            gsub(/"[^"]*"|\047[^\047]*\047/, "", line)
            sub(/#.*/, "", line)
            opened = gsub(/[[{]/, "", line); closed = gsub(/[]}]/, "", line)
            return opened - closed
        }
        open == 0 && /^[ \t]*\[/ {
            table = $0; gsub(/[][ \t"]/, "", table); sub(/#.*/, "", table)
            whole = table ~ /^(dependency-groups|project\.optional-dependencies)$/ \
                || table ~ /^tool\.poetry\.(dependencies|dev-dependencies|extras|source|group)(\.|$)/
            if (whole) print "[" table "]"
            next
        }
        {
            if (open == 0) {
                key = $0; sub(/[ \t]*=.*/, "", key); gsub(/[ \t"]/, "", key)
                keep = whole || (table == "project" && key ~ /^(dependencies|requires-python|optional-dependencies)$/)
            }
            open += depth($0)
            if (keep) print
        }'
}

body() {
    awk '{ sub(/\r$/, "") } !/^# stamp /' "$1"
}

stamp() {
    echo "# stamp environment.yml $(plain "$1/environment.yml" | sha256)"
    echo "# stamp pyproject.toml $(dependencies "$1/pyproject.toml" | sha256)"
    echo "# stamp conda-lock.yml $(sha256 < "$1/conda-lock.yml")"
    echo "# stamp poetry.lock $(sha256 < "$1/poetry.lock")"
}

check() {
    directory=$1
    set -- "$1"/conda-*.lock
    if [ -d "$directory/.locks-ready" ]; then
        echo "make env-update was interrupted while it put new locks in place. Run \`make env-update\`: it finishes first." >&2
        return 1
    fi
    missing=
    for file in conda-lock.yml poetry.lock; do
        [ -f "$directory/$file" ] || missing="$missing $file"
    done
    [ -f "$1" ] || missing="$missing conda-<platform>.lock"
    if [ -n "$missing" ]; then
        echo "There is no$missing: run \`make env-update\`." >&2
        return 2
    fi
    for file in "$directory/environment.yml" "$directory/pyproject.toml" "$directory/conda-lock.yml" "$directory/poetry.lock" "$@"; do
        if grep -qE '^(<<<<<<<|=======|>>>>>>>)' "$file"; then
            echo "${file##*/} has merge markers. Take one side (git checkout --theirs ${file##*/}), then run \`make env-update\`." >&2
            return 1
        fi
    done
    now=$(stamp "$directory")
    stale=0
    for lock in "$@"; do
        then=$(grep '^# stamp ' "$lock" | tr -d '\r' || :)
        if [ "$(body "$lock" | sha256)" != "$(echo "$then" | awk '$3 == "this-file" { print $4 }')" ]; then
            echo "${lock##*/} was cut short or edited by hand. Run \`make env-update\` to write it anew." >&2
            stale=1
        fi
        for file in environment.yml pyproject.toml conda-lock.yml poetry.lock; do
            if [ "$(echo "$now" | awk -v f="$file" '$3 == f')" != "$(echo "$then" | awk -v f="$file" '$3 == f')" ]; then
                echo "$file has changed since ${lock##*/} was made. Run \`make env-update\`, and commit what it writes." >&2
                stale=1
            fi
        done
    done
    return "$stale"
}

case "${1-}" in
    check) check "${2-.}" ;;
    stamp) stamp "$2" ;;
    *)
        echo "usage: lock-state.sh check [DIR] | stamp DIR" >&2
        exit 64 ;;
esac
