#!/bin/bash -p
# Stands first on PATH under the name of every program of the environment, of the shells, and of
# poetry and conda: `docker exec container python` runs it, which activates and becomes the program itself.
# bash, since dash drops variables whose names are no identifiers (a.b=1); -p, so that it reads no BASH_ENV.
: "${ENV_PREFIX:=@ENV_PREFIX@}"
export ENV_PREFIX
. /opt/activation/activate.sh
name=${0##*/}
for folder in "$ENV_PREFIX/bin" /opt/poetry/bin /opt/conda/bin /bin; do
    if [ -x "$folder/$name" ]; then
        exec "$folder/$name" "$@"
    fi
done
echo "$name: not in the environment any more ($ENV_PREFIX/bin)" >&2
exit 127
