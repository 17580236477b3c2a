#!/bin/sh
# Makes the lock files, in Docker, and puts them in place.
#
#   env-update.sh            lock what has changed; nothing else changes version
#   PKG="numpy pandas" …     let these change version
#   ALL=1 …                  let everything change version
#
# Nothing is touched until Docker has exported all of them; then each is renamed into its place, whole. A kill among the
# renames leaves a mixture, which is never silent: each lock's stamp names the content of the others, so that `make env-check`
# and every build refuse it, and the next call makes it good. A file that has changed meanwhile is yours, and stays.
set -eu

here=${0%/*}
if [ -z "${PKG-}${ALL-}" ] && "$here/python.sh" check 2> /dev/null; then
    echo "(PKG=\"name …\" lets packages change version, ALL=1 all of them.)"
    exit 0
fi

# Checksum and name of all that a lock is made of or consists of.
marks() {
    for file in environment.yml pyproject.toml poetry.lock conda*.lock conda-lock.yml; do
        if [ -f "$file" ]; then echo "$(cksum < "$file") $file"; fi
    done
}
before=$(marks)
new=.couplet/.new-locks-$$
trap 'rm -rf "$new"' EXIT
# dash ends without the above where a signal ends it
trap 'exit 130' INT
trap 'exit 143' TERM HUP
"$here/docker-build.sh" --file .couplet/tasks.Dockerfile --target locks --output "type=local,dest=$new" \
    --build-arg "PKG=${PKG-}" --build-arg "ALL=${ALL-}" --build-arg "REQUEST=$(date +%s)-$$" || {
    code=$?
    [ "$(df -Pk . | awk 'NR == 2 { print $4 }')" -ge 1024 ] || echo "The disk is full: make room where this folder is." >&2
    printf '\n%s\n' "The locks could not be made; what was there is as it was." >&2
    exit "$code"
}
# written last, so that with it all of them are there
if ! [ -f "$new/.delete" ]; then
    echo "Docker did not export all of the lock files. Is the disk full? What was there is as it was." >&2
    exit 74
fi
if [ "$before" != "$(marks)" ]; then
    echo "While the locks were made, one of these has changed: environment.yml, pyproject.toml, a lock. What was there is as it was." \
        "Run \`make env-update\` again." >&2
    exit 75
fi
while read -r file; do rm -f "$file"; done < "$new/.delete"
for file in "$new"/*; do mv -f "$file" "${file##*/}"; done
echo "Locked. Commit pyproject.toml and the lock files."
