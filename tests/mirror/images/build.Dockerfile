# Where CPython is built, and what conda's udunits2 is taken from.  Its own files never reach a stand-in.
FROM debian:bookworm-slim
RUN apt-get update -qq \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
      build-essential dpkg-dev patchelf pkg-config \
      libbz2-dev libffi-dev liblzma-dev libncurses-dev libreadline-dev libsqlite3-dev libssl-dev uuid-dev zlib1g-dev \
      ca-certificates udunits-bin \
 && rm -rf /var/lib/apt/lists/*
