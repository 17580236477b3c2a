# shellcheck shell=sh
# Sourced by activate.sh: a home that can be written in and a name for whoever it is. Docker gives a
# user without an entry in /etc/passwd (--user 12345, OpenShift) neither, and a cron job has neither.
# Built-in commands only: this runs at every docker exec.

if [ -z "${USER-}" ] || [ "${HOME:-/}" = / ] || ! [ -w "$HOME" ]; then
    while read -r _key _uid _rest; do
        if [ "$_key" = Uid: ]; then break; fi
    done < /proc/self/status
    # Where nothing fits, all of them are empty at the end.
    while IFS=: read -r _name _rest _id _rest _rest _home _rest; do
        if [ "$_id" = "$_uid" ]; then break; fi
    done < /etc/passwd
    if [ "${HOME:-/}" = / ] || ! [ -w "$HOME" ]; then
        _asked=${HOME:-/}
        HOME=${_home:-/}
        if [ "$HOME" = / ] || ! [ -w "$HOME" ]; then
            HOME=/tmp/home-$_uid
            # shellcheck disable=SC3067  # -O, its owner is me: in dash, bash and busybox
            if ! [ -O "$HOME" ] && ! (umask 077 && mkdir "$HOME") 2> /dev/null; then
                echo "No HOME for user $_uid: nothing can be written in /tmp. Give it a tmpfs: docker run --tmpfs /tmp" >&2
            fi
        fi
        if [ "$_asked" != / ] && [ "$_asked" != "$_home" ]; then
            echo "User $_uid cannot write in HOME=$_asked: HOME is $HOME instead." >&2
        fi
    fi
    USER=${USER:-${_name:-user$_uid}}
    LOGNAME=${LOGNAME:-$USER}
    export HOME USER LOGNAME
    unset _key _uid _rest _name _id _home _asked
fi
