#!/bin/sh
# `docker build`, with what this machine needs to reach its package sources: mirrors, certificates and credentials go in as
# build secrets, which leave no trace in the image. Arguments: docker build's; or `bake` and targets of .couplet/bake.hcl.
# REGISTRY is a prefix of the base images, CACHE and CACHE_WRITE are bake.hcl's. VERBOSE=1 has Docker draw on a terminal.
set -eu

here=${0%/*}
# Of several targets at once the builder takes parts of the cached layers and builds the rest anew (moby/buildkit#4674).
case "${CACHE:+cached }$*" in
    *" -"*) ;;
    "cached bake "*" "*)
        shift
        for target; do "$0" bake "$target"; done
        exit ;;
esac
"$here/docker-check.sh"
bake='' quiet=''
case "${1-}" in
    bake) bake=yes && shift ;;
    --quiet) quiet=yes && shift ;; # prints the image's number alone
esac

# add KIND VALUE [TARGET]: an option of a build, or what a bake calls it, for all targets or one (Dockerfile.saturn is none of bake's).
add() {
    case "$bake$1" in
        yessecret) set -- --set "*.secrets=$2" ;;
        yes*) if [ "${3-}" = saturn ]; then return; else set -- --set "${3:-*}.${1#build-}s.$2"; fi ;;
        label) case "$3 $arguments" in "* "* | *" --target $3 "*) set -- --label "$2" ;; *) return 0 ;; esac ;;
        *) set -- "--$1" "$2" ;;
    esac
    words="$words$1
$2
"
}
words=""
arguments=" $* "

while read -r name file; do
    # CSV, so that a path may hold a comma or a quote
    [ -z "$name" ] || add secret "id=$name,\"src=$(printf '%s' "$file" | sed 's/"/""/g')\""
done << END
$("$here/settings.sh")
END
# A build argument is written into the image's provenance, the predefined ones too: no place for a password.
PROXIES=
for name in HTTP_PROXY HTTPS_PROXY NO_PROXY http_proxy https_proxy no_proxy; do
    value=$(printenv "$name" || :)
    case "$value" in
        '') ;;
        *@*) PROXIES="$PROXIES$name=$value
" ;;
        *) add build-arg "$name=$value" ;;
    esac
done
export PROXIES
[ -z "$PROXIES" ] || add secret id=proxies,env=PROXIES
[ -z "${REGISTRY-}" ] || add build-arg "REGISTRY=${REGISTRY%/}/"

# An update from 0.x ran the scripts of 0.x, which do not say which of the files that they deleted had edits. It is said before an
# image is built, until git's index has the deletion of a file that every project of 0.x had.
case "$bake$arguments" in
    yes* | *" --tag "*) [ -z "$(git ls-files --deleted -- scripts/update.sh 2> /dev/null)" ] || "$here/update.sh" report ;;
esac
# Labels, and the base images of base-images.lock. python.sh asks for an image without them, since it would be asked for them.
if [ "${FACTS-}" != no ]; then
    facts=$("$here/python.sh" facts)
    revision=$(git rev-parse --verify --quiet HEAD 2> /dev/null || :)
    # what differs from the commit, and code that git does not know and the image gets
    if [ -n "$revision" ] && [ -n "$(git status --short --untracked-files=no -- . && git ls-files --others --exclude-standard -- src)" ]; then
        revision=$revision-dirty
    fi
    while read -r kind target word; do add "$kind" "$word" "$target"; done << END
$facts
label * org.opencontainers.image.revision=$revision
END
fi
# a repository's name is in small letters
CACHE=$(printf '%s' "${CACHE-}" | tr '[:upper:]' '[:lower:]')
export CACHE
# In front of what was typed, which then counts.
set -f
IFS='
'
# shellcheck disable=SC2086  # words is a list, a line a word
set -- $words "$@"
unset IFS
set +f

# Shows what comes in: on a terminal one line, in the words of the step that is at work.
follow() {
    case "$show" in
        all) cat ;;
        nothing) cat > /dev/null ;;
        progress)
            while IFS= read -r line; do
                case "$line" in "#"*) text=${line#* } ;; *) continue ;; esac
                case "$text" in
                    "["*) text="${text%%]*}]" ;;
                    [0-9]*.[0-9]*" "?*) text=${text#* } ;;
                    *) continue ;;
                esac
                # cut at the edge, not wrapped
                printf '\r\033[K\033[?7l%s\033[m\033[?7h' "$text"
            done
            printf '\r\033[K' ;;
    esac
}
# Runs docker buildx, and keeps what it says in $log. Its exit code is $code.
buildx() {
    if [ "$show" = docker ]; then
        docker buildx "$@" || code=$?
        return
    fi
    {
        code=$({
            { docker buildx "$@" 2>&1 >&3 3>&- 4>&- || echo "$?" >&4; } | tee "$log" 3>&- 4>&- | follow >&2 3>&- 4>&-
        } 4>&1)
    } 3>&1
    code=${code:-0}
}
# Puts the log into report/, where there is room, as readable as any file of this user's.
keep() { if { mkdir -p report && chmod +r "$log" && mv -f "$log" report/docker.log; } 2> /dev/null; then log=report/docker.log; fi; }
# What the step that failed said, from its last ERROR: on, or its last lines; where no step failed, what Docker said last.
message() {
    [ "$show" != nothing ] || cat "$log"
    keep
    [ "$show" != progress ] || echo "Docker's log: $log (VERBOSE=1 shows it)"
    said=$(awk '
        /^#[0-9]+ [0-9.]+( |$)/ {
            text = substr($0, length($1 $2) + 3)
            said[$1] = (text ~ /^ERROR: / ? "" : said[$1]) text "\n"
        }
        /^#[0-9]+ ERROR: process / { printf "%s", said[$1]; exit }' "$log")
    case "$said" in "ERROR: "*) ;; *) said=$(printf '%s\n' "$said" | tail -n 20) ;; esac
    printf '\n%s\n' "${said:-$(tail -n 1 "$log")}"
    [ -s "$log" ] || echo "Docker's log could not be written into $log. Is the disk full?"
}
# What a failure is that is none of the project's, and the way out.
explain() {
    again="then run the same command again: finished steps are kept, and images and locks are as they were."
    if ! docker info > /dev/null 2>&1; then
        echo "The Docker engine stopped in the middle of this. Start Docker, $again"
    elif tail -n 1 "$log" | grep -qE 'error reading from server|code = Unavailable'; then
        echo "The Docker engine was stopped in the middle of this, and answers again. Wait until it is up, $again"
    elif [ "$code" -eq 137 ]; then
        echo "The docker command was killed in the middle of this, perhaps since memory ran out. Free some, $again"
    # how an export into a full folder ends differs from time to time
    elif case " $* $(df -Pk . | awk 'NR == 2 && $4 < 1024 { print "full" }')" in *" type=local,"*full) ;; *) false ;; esac; then
        echo "The disk is full: make room where this folder is."
    elif grep -qiE 'no space left on device|disk quota exceeded' "$log"; then
        echo "Docker's disk is full (\`docker system df\`). Images and locks are as they were. \`make docker-prune ALL=1\` makes" \
            "room: it deletes this project's images and all unused build cache. Then run the same command again."
    elif [ -f base-images.lock ]; then
        echo "base-images.lock pins the base images by digest. If the registry no longer has one of them, \`make pin-images\` pins" \
            "what the tags mean today."
    fi
}

code=0 show=all
[ -z "$quiet" ] || show=nothing
if [ -t 2 ] && [ "${TERM-}" != dumb ]; then
    # who asks for Docker's own words gets them
    case "${VERBOSE-}${BUILDKIT_PROGRESS-}$arguments" in *--progress* | [!\ ]*) show=docker ;; *) show=progress ;; esac
fi
# Not in report/ yet: where this folder's disk is full, it is the log that says so.
if log=$(mktemp 2> /dev/null) || { mkdir -p report && log=report/docker.log.$$ && touch "$log"; } 2> /dev/null; then
    trap 'rm -f "$log.id"; keep' EXIT
    # what is exported as files has no id
    case "$quiet$arguments" in " "* | *" --output "*) ;; *) set -- --iidfile "$log.id" "$@" ;; esac
else
    # no room for a file: Docker speaks for itself
    show=docker log=/dev/null
    [ -z "$quiet" ] || set -- --quiet "$@"
fi
trap 'exit 130' INT TERM HUP
if [ -n "$bake" ]; then
    buildx bake --file .couplet/bake.hcl "$@"
else
    # Another builder than Docker's own would leave the image in its cache, and say so in a warning only.
    case " $* " in *" --output "* | *" --push "*) ;; *) set -- --load "$@" ;; esac
    buildx build "$@" .
fi
if [ "$code" -ne 0 ]; then
    [ "$show" = docker ] || message >&2
    explain "$@" >&2
elif [ -f "$log.id" ]; then
    cat "$log.id"
fi
exit "$code"
