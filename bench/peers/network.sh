# shellcheck shell=sh
# Sourced in the seeds' builds: the certificates and the index of the machine that measures.
if [ -s /run/secrets/ca ]; then
    export SSL_CERT_FILE=/run/secrets/ca REQUESTS_CA_BUNDLE=/run/secrets/ca PIP_CERT=/run/secrets/ca
fi
if [ -s /run/secrets/pip_conf ]; then
    export PIP_CONFIG_FILE=/run/secrets/pip_conf
    POETRY_PYPI_MIRROR_URL=$(sed -n 's/^index-url *= *//p' /run/secrets/pip_conf)
    export POETRY_PYPI_MIRROR_URL
fi
