#!/bin/sh
# Does an image start? One with a health check has to become healthy within SECONDS_TO_START (60), any other has to run
# to a good end: smoke.sh IMAGE
set -eu

image=$1
case $(docker image inspect --format '{{.Config.Healthcheck}}' "$image" 2> /dev/null || :) in
    '' | '<nil>' | '<no value>') exec docker run --rm "$image" ;;
esac

# The image's own check, asked each second: at its own pace the first answer takes ten.
container=smoke-$(date +%s)-$$
trap 'docker rm --force --volumes "$container" > /dev/null 2>&1 || :' EXIT
# dash ends without the above where a signal ends it
trap 'exit 130' INT
trap 'exit 143' TERM HUP
docker run --detach --name "$container" --health-interval 1s "$image" > /dev/null
for _ in $(seq "${SECONDS_TO_START:-60}"); do
    case $(docker inspect --format '{{.State.Status}} {{.State.Health.Status}}' "$container") in
        'running healthy')
            echo "$image is healthy."
            exit 0 ;;
        running*) sleep 1 ;;
        *) break ;;
    esac
done
docker logs "$container" >&2
echo "$image did not become healthy within ${SECONDS_TO_START:-60} s. Its output is above (the template's docs/apps.md#apps-that-listen-on-a-port)." >&2
exit 1
