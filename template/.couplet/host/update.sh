#!/bin/sh
# `copier update` by a Copier of a pinned version in a container, as you: couplet/update.py.
#
#   update.sh update [OPTION …]    to the newest version of the template; options as for `copier update`
#   update.sh check                is there a newer one?
#   update.sh report               what an update that is not committed yet leaves to be seen to, if anything
#
# The container gets this repository and, where the template is a folder of this machine, that folder to read, each at its own
# path; of your settings certificates, netrc and proxies, where docker-build.sh looks for them.
set -eu

here=${0%/*}
top=$PWD # the project may be a part of a repository: .git is here or above
until [ -e "$top/.git" ]; do
    if [ "$top" = / ]; then
        echo "This is not a git repository, and Copier compares with what was committed." \
            "Run: git init && git add --all && git commit --message Start (the template's docs/upgrading.md#before)" >&2
        exit 1
    fi
    top=$(dirname "$top")
done
# without labels: a pyproject.toml with conflicts has nothing to say of them
image=$(FACTS=no "$here/docker-build.sh" --quiet --file .couplet/tasks.Dockerfile --target copier)
user=$("$here/docker-user.sh")
# Only the container has a reader of YAML. It names the template's folder, if it is one of this machine's.
folder=$(docker run --rm --network none --user "$user" --volume "$top:$top:ro" --workdir "$PWD" "$image" folder)

set -- "$image" "$@"
if [ -n "$folder" ]; then
    if ! [ -d "$folder" ]; then
        echo "The template was at $folder (_src_path in .copier-answers.yml), and there is no such folder." \
            "Write its new address there, and commit that (the template's docs/upgrading.md#before)." >&2
        exit 1
    fi
    set -- --volume "$folder:$folder:ro" "$@"
fi
# A worktree's and a submodule's .git is a file: git's data is elsewhere.
if [ -f "$top/.git" ]; then
    data=$(cd "$(git rev-parse --git-common-dir)" && pwd)
    set -- --volume "$data:$data" "$@"
fi
ca=${SSL_CERT_FILE:-${REQUESTS_CA_BUNDLE-}}
[ ! -f "$ca" ] || set -- --volume "$ca:/tmp/ca.pem:ro" --env GIT_SSL_CAINFO=/tmp/ca.pem "$@"
netrc=${NETRC:-${HOME-}/.netrc}
[ ! -f "$netrc" ] || set -- --volume "$netrc:/tmp/.netrc:ro" "$@"
for name in HTTP_PROXY HTTPS_PROXY NO_PROXY http_proxy https_proxy no_proxy; do set -- --env "$name" "$@"; done
[ ! -t 0 ] || [ ! -t 1 ] || set -- --tty "$@"
# exec, since the update may replace this very file: the shell must not read on.
exec docker run --rm --interactive --user "$user" --volume "$top:$top" --workdir "$PWD" "$@"
