# Offers what python:<x.y>-slim-bookworm offers: CPython and pip in /usr/local, and the libraries from Debian.
FROM debian:bookworm-slim
ENV PATH=/usr/local/bin:$PATH LANG=C.UTF-8
RUN apt-get update -qq \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
      ca-certificates netbase tzdata \
      libbz2-1.0 libffi8 liblzma5 libncursesw6 libreadline8 libsqlite3-0 libssl3 libuuid1 zlib1g \
 && rm -rf /var/lib/apt/lists/*
COPY python /usr/local
RUN --mount=type=bind,source=pip,target=/pip \
    python3 "$(echo /pip/pip-*.whl)/pip" install -q --no-index --no-cache-dir --root-user-action=ignore /pip/pip-*.whl \
 && find /usr/local -name __pycache__ -prune -exec rm -rf {} +
CMD ["python3"]
