# shellcheck shell=sh
# Sourced by activate.sh: a home that can be written in and a name for whoever it is. Docker gives a
# user without an entry in /etc/passwd (--user 12345, OpenShift) neither, and a cron job has neither.
# Built-in commands only where the user is one of the image's two: this runs at every docker exec.

if [ -z "${USER-}" ] || [ "${HOME:-/}" = / ] || ! [ -w "$HOME" ]; then
    while read -r _key _uid _rest; do
        if [ "$_key" = Uid: ]; then break; fi
    done < /proc/self/status
    case "$_uid" in
        0) _name=root _home=/root ;;
        1000) _name=app _home=/home/app ;;
        *) _name=$(id -un 2> /dev/null) || _name=user$_uid
            _home=/ ;;
    esac
    if [ "${HOME:-/}" = / ] || ! [ -w "$HOME" ]; then
        HOME=$_home
        if [ "$HOME" = / ] || ! [ -w "$HOME" ]; then
            HOME=/tmp/home-$_uid
            # shellcheck disable=SC3067  # -O, its owner is me: in dash, bash and busybox
            if ! [ -O "$HOME" ] && ! (umask 077 && mkdir "$HOME") 2> /dev/null; then
                echo "No HOME for user $_uid: nothing can be written in /tmp. Give it a tmpfs: docker run --tmpfs /tmp" >&2
            fi
        fi
    fi
    USER=${USER:-$_name}
    LOGNAME=${LOGNAME:-$USER}
    export HOME USER LOGNAME
    unset _key _uid _rest _name _home
fi
