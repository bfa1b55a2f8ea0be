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
#   infra-restore prove NAME BYTES     builds from the plan on the standard input, has a second engine load it, and removes it again; answers as check does
#
# Ends with 5 if the data is refused, and with 1 if nothing is known of it.
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

# The data itself is to blame: to try it once more would not help.
refuse() {
    echo "infra-restore: $*" >&2
    exit 5
}

# Fails if this host's engine has fewer databases than $1. It would end when it reads an RDB file of more, and take a log's writes to them for writes to others.
enough_databases() {
    local ours
    ours=$(sed -n 's/^databases //p' "$INFRA_CONFIG" | tail -n 1)
    ours=${ours:-16}
    if (($1 > ours)); then
        fail "it has keys in database $(($1 - 1)), and the engine of this host has $ours databases: write \`redis: {settings: {databases: $1}}\` into infra.yml and run \`infra up\`"
    fi
}

# How many databases an engine needs for the RDB file of which its checker says this.
databases_of() {
    sed -n 's/.*Selecting DB ID \([0-9]*\)$/\1/p' <<<"$1" | sort -n | awk '{ last = $1 + 1 } END { print last + 0 }'
}

# INFO of the engine at the socket $1. The one that is tried knows no users; its socket is open to nobody but its own user and root.
info() {
    if [[ $1 == "$INFRA_SOCKET" ]]; then
        "$INFRA_CLIENT" -s "$1" <<<"AUTH admin $(</etc/infra/admin.password)"$'\nINFO everything' 2>/dev/null | sed '1{/^OK$/d}' | tr -d '\r'
    else
        "$INFRA_CLIENT" -s "$1" <<<"INFO everything" 2>/dev/null | tr -d '\r'
    fi
}

# Sets keys, expires, databases and version once the engine at the socket $1 has loaded everything; $2 says whether it still lives.
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
    databases=$(sed -n 's/^db\([0-9]*\):keys=.*/\1/p' <<<"$text" | sort -n | awk '{ last = $1 + 1 } END { print last + 0 }')
    # Valkey says which Redis it is like, too.
    version=$(sed -n 's/^valkey_version://p' <<<"$text")
    if [[ -z $version ]]; then version=$(sed -n 's/^redis_version://p' <<<"$text"); fi
}

recover() {
    put_back
    # One restore at a time has the environment's lock, so the run that built the other folders has
    # ended.
    rm -rf "$INFRA_DATA"/restore-*
}

put_back() {
    local aside
    if [[ -d $live ]]; then return 0; fi
    aside=$(find "$INFRA_DATA" -maxdepth 1 -name 'appendonlydir.pre-restore-*' | sort | tail -n 1)
    # A swap removes the built data as its last step. So if that data is there, the swap did not
    # end. Data that was kept on purpose is never put back by itself.
    [[ -n $aside && -d $INFRA_DATA/restore-${aside##*.pre-restore-} ]] || return 0
    mv "$aside" "$live"
    sync "$INFRA_DATA"
    systemctl start "$INFRA_UNIT"
    echo "recovered $aside"
}

room() {
    local free
    free=$(($(stat -f -c '%a * %S' "$INFRA_DATA")))
    # The live engine goes on writing during the restore, so it needs room too.
    ((free > $1 + $1 / 4 + 268435456)) || fail "the disk of this host has $((free >> 20)) MiB left, the restore needs $((($1 + $1 / 4 + 268435456) >> 20))"
}

# Sets short to a sentence if the memory that is free is not enough for a second engine with $1 bytes of data.
memory_for() {
    local available
    short=
    needed=$(($1 + $1 / 2 + 33554432))
    # awk counts in kilobytes: it writes larger numbers as 2.1e+10.
    available=$(($(awk '/^(MemAvailable|SwapFree):/ { sum += $2 } END { print sum }' /proc/meminfo) * 1024))
    if ((available < needed)); then
        short="$((available >> 20)) MiB of memory are free, a second engine may need $((needed >> 20))"
    fi
}

# Prints the last lines that the engine of restore-$1 logged.
last_words() {
    local folder=$INFRA_DATA/restore-$1
    { cat "$folder/check.err"; grep '#' "$folder/check.log" | grep -v WARNING; } 2>/dev/null | tail -n 2 | tr '\n' ' '
}

# Starts an engine on restore-$1. It is the replica of nobody: nothing ends in it, and what reached its end it keeps for its master to delete.
start_second() {
    local folder=$INFRA_DATA/restore-$1 server as_user=()
    server=$(command -v "${INFRA_CLIENT%-cli}-server") || fail "there is no ${INFRA_CLIENT%-cli}-server on this host"
    local words=("$server" --port 0 --unixsocket "$socket" --unixsocketperm 700
        --dir "$folder" --appendonly yes --appendfilename appendonly.aof --aof-load-truncated no --save '' --auto-aof-rewrite-percentage 0 --databases 1024
        --aof-use-rdb-preamble no --replicaof 127.0.0.1 1 --logfile "$folder/check.log")
    if [[ -n $confined ]]; then
        unit=infra-$1
        # The engine that tries the data has no network. If memory runs out, it is killed before the
        # live engine.
        systemd-run --quiet --unit "$unit" -p "User=$INFRA_USER" -p "StandardError=file:$folder/check.err" -p UMask=0077 \
            -p Nice=10 -p CPUWeight=20 -p IOWeight=20 -p IOSchedulingClass=idle -p "MemoryMax=$((needed + 67108864))" -p OOMScoreAdjust=1000 \
            -p RuntimeMaxSec=2h -p PrivateNetwork=yes -p ProtectSystem=strict -p "ReadWritePaths=$folder" -p ProtectHome=yes -p PrivateTmp=yes \
            -p PrivateDevices=yes -p ProtectKernelTunables=yes -p ProtectControlGroups=yes -p NoNewPrivileges=yes -p CapabilityBoundingSet= \
            -p RestrictNamespaces=yes -p LockPersonality=yes -p MemoryDenyWriteExecute=yes -- "${words[@]}" ||
            fail "a second engine cannot be started on this host"
        return 0
    fi
    if [[ $(id -un) != "$INFRA_USER" ]]; then as_user=(setpriv --reuid "$INFRA_USER" --regid "$INFRA_USER" --init-groups); fi
    ${as_user[@]+"${as_user[@]}"} nice -n 10 "${words[@]}" >/dev/null 2>"$folder/check.err" 9>&- &
    pid=$!
}

second_lives() {
    if [[ -n $confined ]]; then systemctl is-active -q "$unit"; else kill -0 "$pid" 2>/dev/null; fi
}

# Returns true if the second engine ended by itself after it had begun to read its data. Only then
# does its end mean that the data is bad.
second_judged() {
    local status=0
    grep -q 'Server initialized' "$INFRA_DATA/restore-$1/check.log" 2>/dev/null || return 1
    if [[ -n $confined ]]; then
        # An engine that lacks a module for the data ends as if all were well.
        [[ $(systemctl show -p Result --value "$unit") == @(exit-code|success) ]]
    else
        wait "$pid" || status=$?
        ((status < 126))
    fi
}

end_second() {
    if [[ -n $unit ]]; then
        systemctl kill -s KILL "$unit" 2>/dev/null || true
        systemctl stop "$unit" 2>/dev/null || true
        systemctl reset-failed "$unit" 2>/dev/null || true
    fi
    if [[ -n $pid ]]; then
        kill -9 "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    fi
    unit='' pid=''
}

# Has a second engine load restore-$1 and leaves it running; sets socket, keys, expires and version. Without memory for it, sets short and answers "unchecked WHY".
load() {
    local folder=$INFRA_DATA/restore-$1 base said
    socket=$folder/check.sock
    [[ -s $folder/appendonlydir/appendonly.aof.manifest ]] || fail "$folder holds no data"
    memory_for "$(du -sb "$folder" | cut -f 1)"
    if [[ -n $short ]]; then
        base=$(find "$folder/appendonlydir" -name '*.base.rdb')
        if [[ -n $base ]]; then
            said=$("$INFRA_RDB_CHECK" "$base" 2>/dev/null) || true
            enough_databases "$(databases_of "$said")"
        fi
        echo "unchecked $short"
        return 0
    fi
    chown -R "$INFRA_USER:" "$folder"
    # However this ends: no second engine stays behind.
    trap clean EXIT
    start_second "$1"
    if ! loaded "$socket" second_lives; then
        if second_lives; then fail "a second engine has not loaded it after $patience s"; fi
        if second_judged "$1"; then refuse "the engine does not load it: $(last_words "$1")"; fi
        fail "a second engine was ended before it had loaded it: $(last_words "$1")"
    fi
    enough_databases "$databases"
}

unload() {
    end_second
    rm -f "$socket" "$INFRA_DATA/restore-$1/"check.{log,err}
}

# Removes all files of the proof when the script ends, whatever the result.
clean() {
    end_second
    if [[ -n $proof ]]; then rm -rf "$INFRA_DATA/restore-$proof"; fi
}

check() {
    local socket counted short needed
    load "$1"
    if [[ -n $short ]]; then return 0; fi
    counted=$(/usr/local/sbin/infra-agent count "$socket")
    unload "$1"
    echo "keys $keys expires $expires expired ${counted##* } version $version"
}

plain() {
    local socket counted text short needed
    load "$1"
    if [[ -n $short ]]; then return 0; fi
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

prove() {
    # Removes folders of proofs that a crash of the host interrupted.
    find "$INFRA_DATA" -maxdepth 1 -name 'restore-proof-*' -mmin +240 -exec rm -rf {} +
    local short needed
    memory_for "$2"
    if [[ -n $short ]]; then
        echo "unchecked $short"
        return 0
    fi
    proof=$1 confined=yes
    trap clean EXIT
    # The operator may have disconnected. Writing an answer must not end the script before it has
    # removed its files.
    trap '' PIPE
    /usr/local/sbin/infra-agent rebuild "$INFRA_DATA/restore-$1"
    check "$1"
}

import() {
    local folder=$INFRA_DATA/restore-$1 said status=0
    local log=$folder/appendonlydir
    mkdir -p "$log"
    cat >"$log/appendonly.aof.1.base.rdb"
    said=$("$INFRA_RDB_CHECK" "$log/appendonly.aof.1.base.rdb" 2>&1) || status=$?
    if ((status)); then
        rm -rf "$folder"
        said=$(grep -v 'info\]' <<<"$said" | tail -n 3 | tr '\n' ' ') || true
        if ((status == 1)); then refuse "it is no whole RDB file of a version that this engine knows: $said"; fi
        fail "$INFRA_RDB_CHECK ended with status $status before it had read the file: $said"
    fi
    # The check may exit, so it runs in a subshell: the file that was sent is removed afterwards.
    if ! (enough_databases "$(databases_of "$said")"); then
        rm -rf "$folder"
        exit 1
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
# The second engine, as a child or as a unit of its own, and the proof that it is for.
pid='' unit='' confined='' proof=''
# An earlier run whose operator died may still work here, so the next one waits for its end.
if [[ $action != room && $action != prove ]]; then
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
prove) prove "$1" "$2" ;;
forget) rm -rf "$INFRA_DATA/restore-${1:?}" ;;
*) fail "it does not know the action ${action:-that was not named}" ;;
esac
