#!/bin/sh
# Write an image as one file, for clusters without Docker (SquashFS), in a stage of tasks.Dockerfile: flat.sh IMAGE FILE
# IMAGE is the folder where it is mounted. VARIABLES has its ENV, a line each.
#
# Nothing there runs an entry point or knows the image's ENV. So that goes where Charliecloud and Apptainer look for it:
# /ch/environment (ch-run --set-env) and /.singularity.d/env.
set -eu

mkdir -p /flat "${2%/*}"
# First what keeps the packages of a home, and of the cluster's modules, out; the image's own may say otherwise.
printf '%s\n' PYTHONNOUSERSITE=1 PYTHONPATH= PYTHONHOME= "$VARIABLES" > /flat/environment
sed -n "s/'/'\\\\''/g; s/^\([A-Za-z_][A-Za-z0-9_]*\)=\(.*\)/export \1='\2'/p" /flat/environment > /flat/environment.sh

# What is already in the image stays: mksquashfs says so, and goes on.
set -- "$1" "$2" -p 'ch D 0 755 0 0' -p 'ch/environment F 0 644 0 0 cat /flat/environment' \
    -p '.singularity.d D 0 755 0 0' -p '.singularity.d/env D 0 755 0 0' \
    -p '.singularity.d/env/10-docker2singularity.sh F 0 755 0 0 cat /flat/environment.sh' \
    -p 'etc/hosts F 0 644 0 0 true' -p 'etc/resolv.conf F 0 644 0 0 true'
# Where folders of the cluster can be mounted, as in images that Charliecloud makes.
for number in 0 1 2 3 4 5 6 7 8 9; do set -- "$@" -p "mnt/$number D 0 755 0 0"; done

# The same image gives the same bytes: the root of a mount is new, other times stay, since compiled Python files name them.
# Devices are left out: users cannot unpack them. gzip, since every kernel reads it; 9 takes three times as long.
mksquashfs "$@" -mkfs-time 0 -root-time 0 -noappend -no-xattrs -no-progress -quiet -Xcompression-level 6 -wildcards -e 'dev/*'
