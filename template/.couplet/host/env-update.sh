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
    echo "(To change versions: make env-update PKG=\"name …\", or ALL=1 for all packages.)"
    exit 0
fi

# Checksum and name of all that a lock is made of or consists of.
marks() { cksum environment.yml environment.dev.yml pyproject.toml poetry.lock conda*.lock conda-lock.yml 2> /dev/null || :; }
# What went wrong, what else is to be said, and the exit code.
fail() {
    echo "$1; no file was replaced.$2" >&2
    exit "$3"
}
before=$(marks)
new=.couplet/.new-locks-$$
trap 'rm -rf "$new"' EXIT
trap 'exit 130' INT TERM HUP # which dash would end at without the above
"$here/docker-build.sh" --file .couplet/tasks.Dockerfile --target locks --output "type=local,dest=$new" \
    --build-arg "PKG=${PKG-}" --build-arg "ALL=${ALL-}" --build-arg "REQUEST=$(date +%s)-$$" || fail "The locks could not be made" "" "$?"
# written last, so that with it all of them are there
[ -f "$new/.delete" ] || fail "Docker did not export all of the lock files (is the disk full?)" \
    " (The template's docs/guide.md#when-something-stops-in-the-middle)" 74
[ "$before" = "$(marks)" ] || fail "While the locks were made, one of these has changed: environment.yml, pyproject.toml, a lock" \
    " Run \`make env-update\` again (the template's docs/guide.md#when-something-stops-in-the-middle)." 75
while read -r file; do rm -f "$file"; done < "$new/.delete"
for file in "$new"/*; do mv -f "$file" "${file##*/}"; done
cat "$new/.changes"
echo "Locked. Commit pyproject.toml and the lock files."
