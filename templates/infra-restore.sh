#!/bin/bash
# The data of this host from a restore: built beside by the agent, tried here, and put in the place of the live data, which is kept.
#
#   infra-restore recover              puts live data back that an earlier run moved aside and did not replace
#   infra-restore room BYTES           whether the disk has room for so much more
#   infra-restore check NAME           has a second engine load restore-NAME; answers "keys N expires M expired E version V"
#   infra-restore plain NAME           the same, and has it write all of that as commands, in the place of what was built
#   infra-restore import NAME          makes a data folder of the RDB file on the standard input
#   infra-restore shift NAME           lets every key of such a folder end later; the standard input says by how much
#   infra-restore pick NAME            puts keys of such a folder into the live engine; the standard input says which. Answers with their number
#   infra-restore swap NAME KEYS EXPIRES
#                                      puts it in force; answers "kept FOLDER" and "keys N". If it does not load, the old data is in force again
#   infra-restore place NAME           puts it in force on a host that has no data yet; answers "keys N"
#   infra-restore forget NAME          removes what was built and not used
set -euo pipefail
umask 077
# shellcheck source=/dev/null
. /etc/infra/host.env
live=$INFRA_DATA/appendonlydir
patience=3600

fail() {
    echo "infra-restore: $*" >&2
    exit 1
}

# INFO of the engine at the socket $1. The one that is tried knows no users; its socket is open to nobody but its own user and root.
info() {
    if [[ $1 == "$INFRA_SOCKET" ]]; then
        "$INFRA_CLIENT" -s "$1" <<<"AUTH admin $(</etc/infra/admin.password)"$'\nINFO everything' 2>/dev/null | sed '1{/^OK$/d}' | tr -d '\r'
    else
        "$INFRA_CLIENT" -s "$1" <<<"INFO everything" 2>/dev/null | tr -d '\r'
    fi
}

# Sets keys, expires and version once the engine at the socket $1 has loaded everything; $2 says whether it still lives.
loaded() {
    local text
    SECONDS=0
    while true; do
        text=$(info "$1") || true
        if [[ $text == *$'\nloading:0\n'* ]]; then break; fi
        $2 || return 1
        ((SECONDS < patience)) || return 1
        sleep 0.2
    done
    keys=$(sed -n 's/^db[0-9]*:keys=\([0-9]*\),.*/\1/p' <<<"$text" | awk '{ sum += $1 } END { print sum + 0 }')
    expires=$(sed -n 's/^db[0-9]*:keys=[0-9]*,expires=\([0-9]*\),.*/\1/p' <<<"$text" | awk '{ sum += $1 } END { print sum + 0 }')
    version=$(sed -n 's/^redis_version://p' <<<"$text")
}

recover() {
    put_back
    # Whoever built the others is gone: one restore at a time has the environment's lock.
    rm -rf "$INFRA_DATA"/restore-*
}

put_back() {
    local aside
    if [[ -d $live ]]; then return 0; fi
    aside=$(find "$INFRA_DATA" -maxdepth 1 -name 'appendonlydir.pre-restore-*' | sort | tail -n 1)
    # What was built is removed at the end of a swap: while it is there, the swap did not end. Data that was kept on purpose is never put back by itself.
    [[ -n $aside && -d $INFRA_DATA/restore-${aside##*.pre-restore-} ]] || return 0
    mv "$aside" "$live"
    sync "$INFRA_DATA"
    systemctl start "$INFRA_UNIT"
    echo "recovered $aside"
}

room() {
    local free
    free=$(($(stat -f -c '%a * %S' "$INFRA_DATA")))
    # What the engine writes meanwhile needs some too.
    ((free > $1 + $1 / 4 + 268435456)) || fail "the disk of this host has $((free >> 20)) MiB left, the restore needs $((($1 + $1 / 4 + 268435456) >> 20))"
}

# Has a second engine load restore-$1 and leaves it running; sets socket, pid, keys, expires and version. Nothing ends in it while it runs: it is the replica of
# nobody, and keeps what reached its end for its master to delete.
load() {
    local folder=$INFRA_DATA/restore-$1 bytes available
    socket=$folder/check.sock
    pid=
    [[ -s $folder/appendonlydir/appendonly.aof.manifest ]] || fail "$folder holds no data"
    bytes=$(du -sb "$folder" | cut -f 1)
    available=$(awk '/^(MemAvailable|SwapFree):/ { sum += $2 } END { print sum * 1024 }' /proc/meminfo)
    if ((available < bytes + bytes / 2 + 33554432)); then
        echo "unchecked $((available >> 20)) MiB of memory are free, a second engine may need $(((bytes + bytes / 2 + 33554432) >> 20))"
        return 0
    fi
    chown -R "$INFRA_USER:" "$folder"
    setpriv --reuid "$INFRA_USER" --regid "$INFRA_USER" --init-groups nice -n 10 "${INFRA_CLIENT%-cli}-server" --port 0 --unixsocket "$socket" --unixsocketperm 700 \
        --dir "$folder" --appendonly yes --appendfilename appendonly.aof --aof-load-truncated no --save '' --auto-aof-rewrite-percentage 0 --databases 1024 \
        --aof-use-rdb-preamble no --replicaof 127.0.0.1 1 \
        --logfile "$folder/check.log" >/dev/null 2>&1 9>&- &
    pid=$!
    # However this ends: no second engine stays behind.
    # shellcheck disable=SC2064
    trap "kill -9 $pid 2>/dev/null || true" EXIT
    if ! loaded "$socket" "kill -0 $pid"; then
        kill -9 "$pid" 2>/dev/null || true
        fail "the engine does not load it: $(grep '#' "$folder/check.log" | tail -n 2 | tr '\n' ' ')"
    fi
}

unload() {
    trap - EXIT
    kill -9 "$pid"
    wait "$pid" 2>/dev/null || true
    rm -f "$socket" "$INFRA_DATA/restore-$1/check.log"
}

check() {
    local socket pid counted
    load "$1"
    if [[ -z $pid ]]; then return 0; fi
    counted=$(/usr/local/sbin/infra-agent count "$socket")
    unload "$1"
    echo "keys $keys expires $expires expired ${counted##* } version $version"
}

plain() {
    local socket pid counted text
    load "$1"
    if [[ -z $pid ]]; then return 0; fi
    counted=$(/usr/local/sbin/infra-agent count "$socket")
    "$INFRA_CLIENT" -s "$socket" BGREWRITEAOF >/dev/null
    SECONDS=0
    while true; do
        text=$(info "$socket") || fail "the second engine ended while it wrote its keys as commands"
        if [[ $text == *$'\naof_rewrite_in_progress:0\n'* && $text == *$'\naof_rewrite_scheduled:0\n'* ]]; then break; fi
        ((SECONDS < patience)) || fail "the second engine still writes its keys as commands"
        sleep 0.2
    done
    [[ $text == *$'\naof_last_bgrewrite_status:ok\n'* ]] || fail "the second engine could not write its keys as commands: see whether the disk is full"
    unload "$1"
    echo "keys $keys expires $expires expired ${counted##* } version $version"
}

import() {
    local log=$INFRA_DATA/restore-$1/appendonlydir said
    mkdir -p "$log"
    cat >"$log/appendonly.aof.1.base.rdb"
    if ! said=$("$INFRA_RDB_CHECK" "$log/appendonly.aof.1.base.rdb" 2>&1); then
        rm -rf "$INFRA_DATA/restore-$1"
        fail "it is no whole RDB file of a version that this engine knows: $(tail -n 3 <<<"$said" | tr '\n' ' ')"
    fi
    : >"$log/appendonly.aof.1.incr.aof"
    printf 'file appendonly.aof.1.base.rdb seq 1 type b\nfile appendonly.aof.1.incr.aof seq 1 type i\n' >"$log/appendonly.aof.manifest"
    sync "$log"
}

pick() {
    local folder=$INFRA_DATA/restore-$1
    {
        printf 'AUTH admin %s\r\n' "$(</etc/infra/admin.password)"
        /usr/local/sbin/infra-agent pick "$folder"
    } | "$INFRA_CLIENT" -s "$INFRA_SOCKET" --pipe >"$folder/pipe.log" 2>&1 ||
        fail "the engine did not take every key: $(tail -n 3 "$folder/pipe.log" | tr '\n' ' ')"
    cat "$folder/picked.json"
    rm -rf "$folder"
}

back() {
    systemctl stop "$INFRA_UNIT" || true
    if [[ -d $live && -d $1 ]]; then mv "$live" "$2/appendonlydir"; fi
    if [[ -d $1 ]]; then mv "$1" "$live"; fi
    sync "$INFRA_DATA"
    systemctl start "$INFRA_UNIT"
    fail "$3; the data from before is in force again"
}

place() {
    local folder=$INFRA_DATA/restore-$1
    [[ -s $folder/appendonlydir/appendonly.aof.manifest ]] || fail "$folder holds no data"
    [[ ! -e $live ]] || fail "$live is there already"
    chown -R "$INFRA_USER:" "$folder"
    chmod 750 "$folder/appendonlydir"
    mv "$folder/appendonlydir" "$live"
    sync "$INFRA_DATA"
    systemctl enable -q --now "$INFRA_UNIT" || fail "the engine does not start with the restored data"
    loaded "$INFRA_SOCKET" "systemctl is-active -q $INFRA_UNIT" || fail "the engine does not load the restored data"
    rm -rf "$folder"
    echo "keys $keys"
}

swap() {
    local folder=$INFRA_DATA/restore-$1 kept=$live.pre-restore-$1 wanted=$2 may_expire=$3
    [[ -s $folder/appendonlydir/appendonly.aof.manifest ]] || fail "$folder holds no data"
    chown -R "$INFRA_USER:" "$folder"
    chmod 750 "$folder/appendonlydir"
    # The agent says it in the bucket, where a gap without a reason would be an alarm.
    if [[ -d /var/lib/infra/agent ]]; then echo "the data was replaced by a restore" >/var/lib/infra/agent/replaced; fi
    systemctl stop "$INFRA_UNIT"
    mv "$live" "$kept"
    mv "$folder/appendonlydir" "$live"
    sync "$INFRA_DATA"
    systemctl start "$INFRA_UNIT" || back "$kept" "$folder" "the engine does not start with the restored data"
    loaded "$INFRA_SOCKET" "systemctl is-active -q $INFRA_UNIT" || back "$kept" "$folder" "the engine does not load the restored data"
    if ((wanted >= 0)) && ((keys + may_expire < wanted)); then
        back "$kept" "$folder" "the engine loaded $keys keys instead of $wanted"
    fi
    rm -rf "$folder"
    echo "kept $kept"
    echo "keys $keys"
}

action=${1-}
shift || true
# What a run began that died goes on here: whoever comes next waits for its end.
if [[ $action != room ]]; then
    exec 9>/var/lib/infra/lock
    flock -w "$patience" 9 || fail "something else still works on this host"
fi
case $action in
recover) recover ;;
room) room "$1" ;;
check) check "$1" ;;
plain) plain "$1" ;;
import) import "$1" ;;
shift) /usr/local/sbin/infra-agent shift "$INFRA_DATA/restore-$1" ;;
pick) pick "$1" ;;
swap) swap "$1" "$2" "$3" ;;
place) place "$1" ;;
forget) rm -rf "$INFRA_DATA/restore-${1:?}" ;;
*) fail "it does not know the action ${action:-that was not named}" ;;
esac
