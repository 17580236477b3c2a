#!/bin/sh
# In the image of the stage `copier`, for scripts/update.sh: `check`, or `update` with options for Copier.
# Copier ends with exit code 0 where it left conflicts, and `git commit --all` would take their markers in.
set -eu

task=$1
shift
if [ "$task" = check ]; then
    exec copier check-update "$@"
fi

if [ -t 0 ]; then
    asks=--skip-answered # only what is new
else
    asks=--defaults
fi
if ! copier update "$asks" "$@"; then
    echo "There was no update: the reason stands above." >&2
    exit 1
fi

changed=$(git -c core.quotePath=false status --short -- .)
if [ -z "$changed" ]; then
    echo "Nothing has changed: this is what the template makes of your answers."
    exit 0
fi
printf 'Changed:\n%s\n' "$changed"
conflicts=$(git -c core.quotePath=false diff --name-only --relative --diff-filter=U)
if [ -n "$conflicts" ]; then
    {
        printf '\nConflicts, where you and the template changed the same lines:\n'
        printf '%s\n' "$conflicts" | sed 's/^/  /'
        echo "In each file, look for <<<<<<< and keep what is right, then: git add FILE"
        echo "Or take the whole update back: git reset --hard && git clean --force -d"
    } >&2
    exit 1
fi
