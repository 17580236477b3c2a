#!/bin/bash
# Build CPython from Debian's source package, with the libraries it needs beside it, into /out.
# Usage: build-cpython.sh 3.13 trixie      (in the image couplet-mirror/build)
set -eu -o pipefail
minor=$1 suite=$2
# a prefix that nothing else contains, so that it can be replaced in text files
prefix=/couplet-python

archive=$(sed -n 's/^deb \(\[[^]]*\] \)\?\([^ ]*\) bookworm main.*/\2/p' /etc/apt/sources.list | head -n 1)
echo "deb-src $archive $suite main" > /etc/apt/sources.list.d/source.list
apt-get update -qq
mkdir -p /tmp/source && cd /tmp/source
apt-get source -qq --download-only "python$minor"
# the upstream source alone: Debian's patches would change where packages go (dist-packages)
mkdir python && tar -xf "python${minor}"_*.orig.tar.?z -C python --strip-components=1
cd python
# what the options of a newer Python leave out, and an older one installs and cannot compile; -f: a newer one has no lib2to3
rm -rf Lib/test Lib/lib2to3/tests

./configure --quiet --prefix=$prefix --with-ensurepip=no --without-static-libpython --disable-test-modules \
  OPT="-DNDEBUG -fwrapv -O2 -Wall"
make -s -j3 2> /tmp/make.log || { tail -n 40 /tmp/make.log; exit 1; }
make -s install DESTDIR=/tmp/stage 2>> /tmp/make.log || { tail -n 40 /tmp/make.log; exit 1; }

cd /tmp/stage$prefix
# the parts that a slim or a conda Python leaves out, or that need a screen
rm -rf "lib/python$minor/"{test,idlelib,turtledemo} bin/idle* bin/2to3* share
find . -name 'libpython*.a' -delete
find . -name __pycache__ -prune -exec rm -rf {} +
ln -sf "python$minor" bin/python

# debian:bookworm-slim has none of these, so they travel with the interpreter
modules=(lib/python"$minor"/lib-dynload/*.so)
ldd "${modules[@]}" "bin/python$minor" | awk '$2 == "=>" && $3 ~ /^\// {print $3}' | sort -u \
  | grep -Ev '/(libc|libm|libpthread|libdl|librt|libcrypt|ld-linux[^/]*)\.so' | while read -r library; do
  cp -L "$library" lib/
done
strip --strip-unneeded "bin/python$minor" "${modules[@]}" lib/*.so*
# shellcheck disable=SC2016  # the loader reads $ORIGIN, not the shell
for module in "${modules[@]}"; do patchelf --set-rpath '$ORIGIN/../..' "$module"; done
# shellcheck disable=SC2016
for library in lib/*.so*; do chmod 644 "$library"; patchelf --set-rpath '$ORIGIN' "$library"; done

LD_LIBRARY_PATH='' "bin/python$minor" -c 'import ssl, sqlite3, ctypes, bz2, lzma, readline, curses, uuid, zlib, pyexpat, decimal'
"bin/python$minor" -c 'import platform; print(platform.python_version())' > version
# compiled as conda-forge ships it; by hash, since a package's file times are not those of this build
find . -name __pycache__ -prune -exec rm -rf {} +
# -f: compileall has by then left files of the other kind of the modules that it imports itself
"bin/python$minor" -m compileall -q -f -j 2 -s "$PWD" -p $prefix --invalidation-mode unchecked-hash lib
cp -a . /out/
