#!/bin/sh
# Stands in /usr/local/bin under the name of every program of the environment, and of the shells:
# `docker exec container python` runs it, which activates and becomes the program itself.
: "${ENV_PREFIX:=@ENV_PREFIX@}"
export ENV_PREFIX
. /opt/activation/activate.sh
name=${0##*/}
if [ -x "$ENV_PREFIX/bin/$name" ]; then
    exec "$ENV_PREFIX/bin/$name" "$@"
fi
exec "/bin/$name" "$@"
