# Fed to a root bash by standard input, after MODE=look or MODE=grow. Lets the root file system take all of its disk while it is in use; a look changes nothing.
#   answers: small BYTES (of a look) | grown BYTES | whole BYTES
# shellcheck shell=bash
size() { df --output=size -B1 -- "$1" | tail -n 1 | tr -d ' '; }

# Bytes at the end of a disk or a partition that may stay unused: resize2fs leaves out a group of blocks that would hardly hold anything.
IDLE=$((4 << 20))

# True if the file system ends before its device does.
ends_early() {
    local source=$1 kind=$2 blocks block
    [[ $kind == ext* ]] || return 1
    blocks=$(dumpe2fs -h "$source" 2>/dev/null | awk -F: '$1 == "Block count" { print $2 + 0 }')
    block=$(dumpe2fs -h "$source" 2>/dev/null | awk -F: '$1 == "Block size" { print $2 + 0 }')
    (($(blockdev --getsize64 "$source") - blocks * block > IDLE))
}

# True if the partition ends before its disk does. The kernel counts in sectors of 512 bytes.
partition_ends_early() {
    local part=/sys/class/block/$1 disk=/sys/class/block/$2
    ((($(<"$disk/size") - $(<"$part/start") - $(<"$part/size")) * 512 > IDLE))
}

grow() {
    set -euo pipefail
    export LC_ALL=C
    local mount=$1 source kind before after disk part number=
    read -r source kind < <(findmnt -n -o SOURCE,FSTYPE --mountpoint "$mount")
    before=$(size "$mount")
    # A container's root is on no disk of its own.
    if [[ ! -b $source ]]; then
        echo "whole $before"
        return
    fi
    disk=$(lsblk -n -o PKNAME -- "$source" | head -n 1)
    part=$(basename "$(readlink -f "$source")")
    if [[ -n $disk && -e /sys/class/block/$part/partition ]]; then number=$(<"/sys/class/block/$part/partition"); fi
    if [[ $MODE == look ]]; then
        if ends_early "$source" "$kind" || { [[ -n $number ]] && partition_ends_early "$part" "$disk"; }; then
            echo "small $before"
        else
            echo "whole $before"
        fi
        return
    fi
    if [[ -n $number ]] && partition_ends_early "$part" "$disk"; then
        growpart "/dev/$disk" "$number" >&2
    fi
    case $kind in
    ext*) resize2fs "$source" >&2 ;;
    xfs) xfs_growfs "$mount" >&2 ;;
    btrfs) btrfs filesystem resize max "$mount" >&2 ;;
    *)
        echo "the root file system is $kind, which nobody here knows how to grow" >&2
        exit 1
        ;;
    esac
    after=$(size "$mount")
    if ((after > before)); then echo "grown $after"; else echo "whole $after"; fi
}

grow "${MOUNT:-/}"
