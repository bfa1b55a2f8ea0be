#!/bin/bash
# Refuses to start an engine that would be an empty master although it should have data: its replica would be empty a second later.
# A host of a pair begins by following somebody, or empty and without a source; once its engine was started, one that follows nobody has an append-only log.
set -euo pipefail
# shellcheck source=/dev/null
. /etc/infra/host.env

# The reason stays in a file until the engine is started.
refused=${INFRA_REFUSED:-/var/lib/infra/refused}
refuse() {
    mkdir -p "${refused%/*}"
    echo "$*" >"$refused"
    echo "refusing to start: $*" >&2
    exit 1
}

# On the root disk, so that it outlives the data.
started=${INFRA_STARTED:-/var/lib/infra/started}
first_start=yes
if [[ -e $started ]]; then first_start=; fi
mark() {
    mkdir -p "${started%/*}"
    : >"$started"
}

rm -f "$refused"
module=$(sed -n 's/^loadmodule \([^ ]*\).*/\1/p' "$INFRA_CONFIG")
if [[ -n $module && ! -x $module ]]; then
    refuse "the engine's module $module is missing; \`infra up\` puts it back"
fi
folder="$INFRA_DATA/appendonlydir"
manifest="$folder/appendonly.aof.manifest"

# A power loss leaves a torn command or zeros at the log's end. The engine would refuse that, or read it as part of what is written next.
mend() {
    local said
    if [[ ! -x /usr/local/sbin/infra-agent || ! -f /etc/infra/agent.env ]]; then return 0; fi
    if said=$(/usr/local/sbin/infra-agent mend 2>&1); then
        if [[ -n $said ]]; then echo "$said"; fi
    else
        refuse "its append-only log is damaged ($said); $1"
    fi
}

if grep -q '^replicaof ' "$INFRA_CONFIG"; then
    mend "it follows another server and can copy everything again: move $folder aside, as root on this host, and it starts by itself"
    mark
    exit 0
fi
if [[ ! -e $folder && -n $first_start ]]; then
    mark
    exit 0
fi
unfinished="$folder/temp-appendonly.aof.incr"
if [[ -e $unfinished ]]; then
    refuse "this host is a master and $unfinished shows that its append-only log was not in force: it would come back with the data of before its last full copy; put the data back, from the replica or a backup, and remove that file"
fi
if [[ ! -s $manifest ]]; then
    refuse "this host is a master and $manifest is missing or empty; put the data back, from the replica or a backup"
fi
while read -r _ name _; do
    if [[ ! -f $folder/$name ]]; then
        refuse "$manifest names $name, which is missing; put the data back, from the replica or a backup"
    fi
done <"$manifest"
mend "put the data back, from the replica or a backup"
mark
