# shellcheck shell=sh
# This image has the environment and not conda. `conda activate` works all the same, for scripts
# that source this file out of habit; the rest of conda is in the dev image.
conda() {
    case "${1-}" in
        activate)
            case "${2-$ENV_PREFIX}" in
                "$ENV_PREFIX" | "${ENV_PREFIX##*/}")
                    unset ACTIVATED_PREFIX
                    . /opt/activation/activate.sh ;;
                *)
                    echo "conda activate $2: this image holds one environment, ${ENV_PREFIX##*/} ($ENV_PREFIX)." >&2
                    return 1 ;;
            esac ;;
        *)
            echo "conda ${1-}: this image holds the environment and not conda. Use the dev image: make shell" >&2
            return 1 ;;
    esac
}
