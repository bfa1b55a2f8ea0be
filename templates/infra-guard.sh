#!/bin/bash
# Refuses to start an engine that would be an empty master although it should have data: its replica would be empty a second later.
# Every host of a pair begins by following somebody, so one that follows nobody was promoted and has an append-only log.
set -euo pipefail
# shellcheck source=/dev/null
. /etc/infra/host.env

if grep -q '^replicaof ' "$INFRA_CONFIG"; then
    exit 0
fi
folder="$INFRA_DATA/appendonlydir"
manifest="$folder/appendonly.aof.manifest"
if [[ ! -s $manifest ]]; then
    echo "refusing to start: this host is a master and $manifest is missing or empty; put the data back, from the replica or a backup, or start it by hand with \
'systemctl edit' if it is really meant to be empty" >&2
    exit 1
fi
while read -r _ name _; do
    if [[ ! -f $folder/$name ]]; then
        echo "refusing to start: $manifest names $name, which is missing" >&2
        exit 1
    fi
done <"$manifest"
# What a power cut tore off within a transaction, the engine would read as part of the next one.
if [[ -x /usr/local/sbin/infra-agent ]]; then
    /usr/local/sbin/infra-agent mend
fi
