# shellcheck shell=sh
# This image has the environment and not conda. `conda activate` works all the same, for scripts
# that source this file out of habit; the rest of conda is in the dev image.
conda() {
    case "${1-}" in
        activate)
            case "${2-$ENV_PREFIX}" in
                "$ENV_PREFIX" | "${ENV_PREFIX##*/}")
                    # Not activate.sh, which comes here when the recording is stale. Without a conda,
                    # nothing can be more up to date than the recording.
                    . /opt/activation/static.sh
                    export ACTIVATED_PREFIX="$ENV_PREFIX" ;;
                *)
                    echo "conda activate $2: this image has one environment, ${ENV_PREFIX##*/} ($ENV_PREFIX)." >&2
                    return 1 ;;
            esac ;;
        *)
            echo "conda ${1-}: this image holds the environment and not conda. Use the dev image: make shell" >&2
            return 1 ;;
    esac
}
