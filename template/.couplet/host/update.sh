#!/bin/sh
# `copier update`, by a Copier of a pinned version in a container, as you. Fails when there is a conflict.
#
#   update.sh IMAGE update [OPTION …]    to the newest version of the template; options as for `copier update`
#   update.sh IMAGE check                is there a newer one?
#
# The container gets this repository and, where the template is a folder of this machine, that folder to read, each
# at its own path; of your settings certificates, netrc and proxies, where docker-build.sh looks for them.
set -eu

image=$1
shift
answers=.copier-answers.yml

fail() {
    printf '%s\n' "$@" >&2
    exit 1
}

if ! [ -f "$answers" ]; then
    fail "There is no $answers here, which holds the template's address and your answers." \
        "Bring it back: git checkout HEAD -- $answers"
fi
# YAML quotes an address only where it has to.
template=$(sed -n "s/^_src_path: *//p" "$answers" | sed "s/^['\"]//; s/['\"]\$//")
if [ -z "$template" ]; then
    fail "$answers has no _src_path, so the template's address is not known. Add the line: _src_path: ADDRESS"
fi
case "$template" in
    git@* | ssh:* | git+ssh:*)
        fail "The template's address is $template (_src_path in $answers), and the container has no ssh." \
            "Use a Copier of your own: pipx run copier update --skip-answered" ;;
esac
# The project may be a part of a repository: .git is here or above.
top=$PWD
while ! [ -e "$top/.git" ]; do
    if [ "$top" = / ]; then
        fail "This is no git repository, and Copier compares with what was committed." \
            "Run: git init && git add --all && git commit --message Start"
    fi
    top=$(dirname "$top")
done

"${0%/*}/docker-build.sh" --quiet --target copier --tag "$image:copier" . > /dev/null

set -- "$image:copier" "$@"
case "$template" in
    /* | .*)
        if ! folder=$(cd "$template" 2> /dev/null && pwd); then
            fail "The template was at $template (_src_path in $answers), and there is no such folder." \
                "Write its new address there, and commit that."
        fi
        set -- --volume "$folder:$folder:ro" "$@" ;;
esac
if [ -f "$top/.git" ]; then
    # A worktree or submodule: a file that says where git's data is.
    data=$(cd "$top" && cd "$(sed -n 's/^gitdir: //p' .git)" && pwd)
    if [ -f "$data/commondir" ]; then
        data=$(cd "$data" && cd "$(cat commondir)" && pwd)
    fi
    set -- --volume "$data:$data" "$@"
fi
ca=${SSL_CERT_FILE:-${REQUESTS_CA_BUNDLE-}}
if [ -f "$ca" ]; then
    set -- --volume "$ca:/tmp/ca.pem:ro" --env GIT_SSL_CAINFO=/tmp/ca.pem "$@"
fi
netrc=${NETRC:-${HOME-}/.netrc}
if [ -f "$netrc" ]; then
    set -- --volume "$netrc:/tmp/.netrc:ro" "$@"
fi
for name in HTTP_PROXY HTTPS_PROXY NO_PROXY http_proxy https_proxy no_proxy; do
    if [ -n "$(printenv "$name" || :)" ]; then
        set -- --env "$name" "$@"
    fi
done
if [ -t 0 ] && [ -t 1 ]; then
    set -- --tty "$@"
fi

# exec, since the update may replace this very file: the shell must not read on.
exec docker run --rm --interactive --user "$("${0%/*}/docker-user.sh")" --volume "$top:$top" --workdir "$PWD" "$@"
