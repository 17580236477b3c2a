#!/bin/sh
# `docker build`, with what this machine needs to reach its package sources: mirrors, certificates and credentials go in as
# build secrets, which leave no trace in the image. Arguments: docker build's; or `bake` and targets of .couplet/bake.hcl.
#
# Looked for, each where its own tool looks:
#   CONDARC or ~/.condarc                                conda: channel_alias, custom_channels, ...
#   PIP_CONFIG_FILE, ~/.config/pip/pip.conf, ~/.pip/pip.conf or /etc/pip.conf
#   POETRY_CONFIG_DIR or ~/.config/pypoetry: auth.toml   Poetry's credentials
#   On macOS both are in ~/Library/Application Support, pip's perhaps in /Library/Application Support.
#   NETRC or ~/.netrc                                    user names and passwords by host
#   SSL_CERT_FILE or REQUESTS_CA_BUNDLE                  certificates, where you have your own
#   HTTP_PROXY, HTTPS_PROXY, NO_PROXY                    proxies (predefined build arguments; a secret, with a password)
#   REGISTRY                                             prefix for the base images
# and CACHE, a reference in a registry: layers are taken from there, and with CACHE_WRITE=yes left there, those of dev under
# the same reference with -dev. Writing needs a builder that can: docker buildx create --use --driver-opt default-load=true
set -eu

here=${0%/*}
# Of several targets at once the builder takes parts of the cached layers and builds the rest anew (moby/buildkit#4674).
if [ -n "${CACHE-}" ] && [ "${1-}" = bake ] && [ "$#" -gt 2 ]; then
    case " $* " in
        *" -"*) ;;
        *)
            shift
            for target in "$@"; do "$0" bake "$target"; done
            exit ;;
    esac
fi
"$here/docker-check.sh"
bake=
if [ "${1-}" = bake ]; then
    bake=yes
    shift
fi

# What each word is called in a build and in a bake, of all its targets.
add() {
    case "$bake$1" in
        yes--secret) set -- --set "*.secrets=$2" ;;
        yes--build-arg) set -- --set "*.args.$2" ;;
        yes--label) set -- --set "$3.labels.$2" ;;
        --label) case "$3 $arguments" in "* "* | *" --target $3 "*) ;; *) return 0 ;; esac ;;
    esac
    words="$words$1
$2
"
}
words=""
arguments=" $* "

home=${HOME:-/nonexistent} config=${XDG_CONFIG_HOME:-${HOME:-/nonexistent}/.config} support="Library/Application Support"
# NAME and the places of a file: the first that can be read becomes the secret of that name.
secret() {
    name=$1
    shift
    for file; do
        if [ -f "$file" ] && [ -r "$file" ]; then
            # CSV, so that a path may hold a comma or a quote
            add --secret "id=$name,\"src=$(printf '%s' "$file" | sed 's/"/""/g')\""
            return
        fi
    done
}
secret condarc "${CONDARC-}" "$home/.condarc"
secret pip_conf "${PIP_CONFIG_FILE-}" "$home/$support/pip/pip.conf" "$config/pip/pip.conf" "$home/.pip/pip.conf" \
    "/$support/pip/pip.conf" /etc/pip.conf
secret poetry_auth "${POETRY_CONFIG_DIR-}/auth.toml" "$home/$support/pypoetry/auth.toml" "$config/pypoetry/auth.toml"
secret netrc "${NETRC-}" "$home/.netrc"
secret ca "${SSL_CERT_FILE-}" "${REQUESTS_CA_BUNDLE-}"
# A build argument is written into the image's provenance, the predefined ones too: no place for a password.
PROXIES=
for name in HTTP_PROXY HTTPS_PROXY NO_PROXY http_proxy https_proxy no_proxy; do
    value=$(printenv "$name" || :)
    case "$value" in
        '') ;;
        *@*) PROXIES="$PROXIES$name=$value
" ;;
        *) add --build-arg "$name=$value" ;;
    esac
done
if [ -n "$PROXIES" ]; then
    export PROXIES
    add --secret id=proxies,env=PROXIES
fi
[ -z "${REGISTRY-}" ] || add --build-arg "REGISTRY=${REGISTRY%/}/"

# An update from 0.x ran the scripts of 0.x, which do not say which of the files that they deleted had edits. It is said before an
# image is built, until git's index has the deletion of a file that every project of 0.x had.
case "$bake$arguments" in
    yes* | *" --tag "*)
        if [ -n "$(git ls-files --deleted -- scripts/update.sh 2> /dev/null)" ] && ! "$here/update.sh" report; then
            echo "This looks once at what an update from 0.x has deleted. Seen to? git add --all, then run the same command again." >&2
            exit 1
        fi ;;
esac
# Labels, and the base images of base-images.lock.
case "$bake$arguments${FACTS-}" in
    *no) ;; # asked for by python.sh, which would be asked for them
    *)
        facts=$("$here/python.sh" facts)
        revision=$(git rev-parse --verify --quiet HEAD 2> /dev/null || :)
        # what differs from the commit, and code that git does not know and the image gets
        if [ -n "$revision" ] && { ! git diff --quiet --no-ext-diff HEAD -- . 2> /dev/null \
            || [ -n "$(git ls-files --others --exclude-standard -- src)" ]; }; then
            revision=$revision-dirty
        fi
        while read -r kind target word; do
            add "--$kind" "$word" "$target"
        done << END
$facts
label * org.opencontainers.image.revision=$revision
END
        ;;
esac

if [ -n "${CACHE-}" ]; then
    # a repository's name is in small letters
    CACHE=$(printf '%s' "$CACHE" | tr '[:upper:]' '[:lower:]')
    export CACHE
    case "$bake $* " in
        yes*) ;; # bake.hcl reads it
        *" --tag "*)
            case " $* " in *" --target dev "*) CACHE=$CACHE-dev ;; esac
            add --cache-from "type=registry,ref=$CACHE"
            # zstd: a new machine unpacks it in a fraction of gzip's time
            [ "${CACHE_WRITE-}" != yes ] \
                || add --cache-to "type=registry,ref=$CACHE,mode=max,compression=zstd,force-compression=true,ignore-error=true" ;;
    esac
fi
# In front of what was typed, which then counts.
typed=$#
while IFS= read -r word; do
    [ -z "$word" ] || set -- "$@" "$word"
done << END
$words
END
while [ "$typed" -gt 0 ]; do
    set -- "$@" "$1"
    shift
    typed=$((typed - 1))
done

# Runs docker buildx; what it says is shown, and kept in $log. Its exit code is $code. On a terminal Docker draws its progress,
# which nothing can listen in on.
buildx() {
    if [ -t 2 ]; then
        docker buildx "$@" || code=$?
        return
    fi
    {
        code=$({
            if docker buildx "$@" 2>&1 >&3 3>&- 4>&-; then echo 0 >&4; else echo "$?" >&4; fi | tee "$log" >&2 3>&- 4>&-
        } 4>&1)
    } 3>&1
}
# What a failure is that is none of the project's, and the way out.
explain() {
    again="then run the same command again: finished steps are kept, and images and locks are as they were."
    if ! root=$(docker info --format '{{.DockerRootDir}}' 2> /dev/null); then
        echo "The Docker engine stopped in the middle of this. Start Docker, $again"
    elif tail -n 1 "$log" | grep -qE 'error reading from server|code = Unavailable'; then
        echo "The Docker engine was stopped in the middle of this, and answers again. Wait until it is up, $again"
    elif [ "$code" -eq 137 ]; then
        echo "The docker command was killed in the middle of this, by somebody or for want of memory. See to that, $again"
    elif grep -qiE 'no space left on device|disk quota exceeded' "$log" \
        || [ "$(df -Pk "$root" 2> /dev/null | awk 'NR == 2 { print $4 }')" -lt 102400 ] 2> /dev/null; then
        # of an export into this folder it may be this folder's disk
        case " $* " in
            *" type=local,"*) [ "$(df -Pk . | awk 'NR == 2 { print $4 }')" -ge 1024 ] || return 0 ;;
        esac
        echo "Docker's disk is full (\`docker system df\`). Images and locks are as they were. \`make docker-prune\` makes room: it deletes" \
            "this project's images and the unused cache. Then run the same command again."
    elif [ -f base-images.lock ]; then
        echo "base-images.lock pins the base images by digest. \`make pin-images\` takes what the tags mean today, where the registry" \
            "has one of them no more."
    fi
}

code=0
# where there is no room for a file, nothing is kept
log=$(mktemp 2> /dev/null) || log=/dev/null
[ "$log" = /dev/null ] || trap 'rm -f "$log"' EXIT
trap 'exit 130' INT
if [ -n "$bake" ]; then
    buildx bake --file .couplet/bake.hcl "$@"
else
    # Another builder than Docker's own would leave the image in its cache, and say so in a warning only.
    case " $* " in *" --output "* | *" --push "*) ;; *) set -- --load "$@" ;; esac
    buildx build "$@" .
fi
if [ "$code" -ne 0 ]; then
    explain "$@" >&2
fi
exit "$code"
