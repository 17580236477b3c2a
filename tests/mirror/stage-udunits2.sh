#!/bin/bash
# Lay out Debian's udunits2 as conda-forge's package does, into /out.  (In the image couplet-mirror/build.)
set -eu -o pipefail
cd /out
mkdir -p bin lib share/udunits
cp /usr/bin/udunits2 bin/
cp /usr/share/xml/udunits/*.xml share/udunits/
ldd bin/udunits2 | awk '$3 ~ /^\// {print $3}' | grep -E '/lib(udunits2|expat)\.so' | while read -r library; do cp -L "$library" lib/; done
# shellcheck disable=SC2016  # the loader reads $ORIGIN, not the shell
patchelf --set-rpath '$ORIGIN/../lib' bin/udunits2
# shellcheck disable=SC2016
for library in lib/*; do chmod 644 "$library"; patchelf --set-rpath '$ORIGIN' "$library"; done
dpkg-query -W -f '${Version}' udunits-bin | sed 's/-.*//' > version
