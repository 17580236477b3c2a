#!/bin/sh
# Makes the lock files, in Docker, and puts all of them in place or none.
#
#   env-update.sh            lock what has changed; nothing else moves
#   PKG="numpy pandas" …     let these move
#   ALL=1 …                  let everything move
#
# Docker exports the new files, as yours, into .locks-new; that folder then gets the name .locks-ready
# in one step, and only what has that name is put in place. Killed before it, nothing has changed;
# killed after it, the next call of make finishes (`env-update.sh finish`).
set -eu

here=${0%/*}
new=.locks-new
ready=.locks-ready

finish() {
    if [ -d "$ready" ]; then
        # A copy of each file beside its target, then the renames, one right after the other.
        for file in "$ready"/*; do
            cp -p "$file" ".${file##*/}.new"
        done
        for file in "$ready"/*; do
            mv -f ".${file##*/}.new" "${file##*/}"
        done
        rm -rf "$ready"
    fi
}

if [ "${1-}" = finish ]; then
    finish
    exit 0
fi

# One at a time: the folder is the lock, and says who holds it.
guard=.locks-busy
if ! mkdir "$guard" 2> /dev/null; then
    holder=$(cat "$guard/pid" 2> /dev/null || :)
    # A killed process that nobody has waited for yet (Z) still takes signals.
    state=$(ps -o stat= -p "${holder:-0}" 2> /dev/null || :)
    if [ -n "$holder" ] && kill -0 "$holder" 2> /dev/null && [ "${state#Z}" = "$state" ]; then
        echo "make env-update is at work here already (process $holder). Wait for it to end." >&2
        exit 75
    fi
    rm -rf "$guard"
    mkdir "$guard"
fi
echo $$ > "$guard/pid"
trap 'rm -rf "$guard" "$new"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

finish
if [ -z "${PKG-}${ALL-}" ] && "$here/lock-state.sh" check . 2> /dev/null; then
    echo "The locks are up to date. (PKG=\"name …\" moves packages, ALL=1 moves everything.)"
    exit 0
fi

inputs=$(cat environment.yml pyproject.toml | cksum)
rm -rf "$new"
"$here/docker-build.sh" --target locks --output "type=local,dest=$new" \
    --build-arg "PKG=${PKG-}" --build-arg "ALL=${ALL-}" --build-arg "REQUEST=$(date +%s)-$$" . || {
    code=$?
    echo >&2
    free=$(df -Pk . | awk 'NR == 2 { print $4 }')
    if [ "${free:-9999}" -lt 1024 ]; then
        echo "The disk is full: $free kB are left where this folder is." >&2
    fi
    echo "The locks could not be made; what was there is as it was." >&2
    exit "$code"
}
for file in pyproject.toml conda-lock.yml poetry.lock; do
    if ! [ -s "$new/$file" ]; then
        echo "Docker exported no $file into $new. Is the disk full? What was there is as it was." >&2
        exit 74
    fi
done
if [ "$inputs" != "$(cat environment.yml pyproject.toml | cksum)" ]; then
    echo "environment.yml or pyproject.toml was edited while the locks were made. Run \`make env-update\` again." >&2
    exit 75
fi
mv "$new" "$ready"
finish
echo "Locked. Commit pyproject.toml, conda-lock.yml, conda-*.lock and poetry.lock."
