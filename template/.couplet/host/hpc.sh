#!/bin/sh
# Write the runtime image as one file, for clusters without Docker, and the lines to run it:
#   IMAGE=name hpc.sh PROJECT COMMAND [OPTION of docker buildx bake …]
set -eu

project=$1 command=$2
shift 2
# A line each: a line break in a value becomes a blank.
variables=$(docker image inspect --format '{{range .Config.Env}}{{println (join (split . "\n") " ")}}{{end}}' "$IMAGE:latest")
id=$(docker image inspect --format '{{.Id}}' "$IMAGE:latest")
# Docker's own builder has that image; it has the context's name.
BUILDX_BUILDER=$(docker context show)
export BUILDX_BUILDER IMAGE
"${0%/*}/docker-build.sh" bake hpc --set "hpc.args.VARIABLES=$variables" --set "hpc.args.ID=$id" "$@"
tee build/hpc/README.md << END
# $project.sqfs

The image as one file. On the cluster, in the folder that the program works in, with the whole path of the file:

    ch-run --home --set-env --bind="\$PWD:/work" --cd=/work $project.sqfs -- $command
    apptainer exec $project.sqfs $command

In a Slurm job, write \`srun\` in front.
END
