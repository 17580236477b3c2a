#!/bin/sh
# A Dask cluster on this machine: a scheduler and workers from the project's image (compose.yaml).
#   cluster.sh up PROJECT PACKAGE WORKERS    starts it, waits for every worker, compares versions, prints the dashboard's address
#   cluster.sh down PROJECT
# IMAGE names the image; WORKER_MEMORY, WORKER_THREADS and DASHBOARD_PORT are compose.yaml's.
set -eu

"${0%/*}/docker-check.sh"
task=$1
project=$2
compose() {
    docker compose --project-name "$project" --profile cluster "$@"
}
if ! docker compose version > /dev/null 2>&1; then
    echo "Docker has no compose here. Install the package docker-compose-plugin or docker-compose (the template's docs/cluster.md)." >&2
    exit 69
fi

user=$("${0%/*}/docker-user.sh")
HOST_UID=${user%:*}
HOST_GID=${user#*:}
export HOST_UID HOST_GID
case "$task" in
    up)
        if ! compose up --detach --wait --pull never --scale "worker=$4" scheduler worker; then
            compose logs --tail 20 scheduler worker >&2 || :
            echo "The cluster did not start: see above. If port ${DASHBOARD_PORT:-8787} is taken: make cluster DASHBOARD_PORT=8788 (the template's docs/cluster.md)" >&2
            exit 1
        fi
        compose exec -T scheduler python -m "$3.cluster" "$4"
        echo "Dashboard: http://127.0.0.1:${DASHBOARD_PORT:-8787}/status"
        echo "make run, make shell and make lab compute there now. make cluster-stop ends it." ;;
    down)
        compose down --timeout 5 --volumes ;;
    *)
        echo "usage: cluster.sh up PROJECT PACKAGE WORKERS | down PROJECT" >&2
        exit 64 ;;
esac
