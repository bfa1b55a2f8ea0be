#!/bin/sh
# Enters the new root, with proc and sys as its packages' scripts expect them: enter.sh ROOT COMMAND...
set -eu
root=$1
shift
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
exec chroot "$root" /bin/sh "$@"
