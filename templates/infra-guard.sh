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
    if said=$(/usr/local/sbin/infra-agent --settings /etc/infra/agent.env mend 2>&1); then
        if [[ -n $said ]]; then echo "$said"; fi
    else
        refuse "its append-only log is damaged ($said); $1"
    fi
}

# Prints the engine's log since `infra up` was last run on this host.
journal() {
    if [[ -n ${INFRA_SAID-} ]]; then
        cat "$INFRA_SAID"
        return
    fi
    local since=()
    if [[ -s $copying_since ]]; then since=(--since "@$(<"$copying_since")"); fi
    journalctl --sync
    journalctl -q -u "$INFRA_UNIT" -b -o cat --no-pager -n 1000 "${since[@]}"
}

# A follower whose engine ends by itself while it loads what it copied would copy everything anew at each start. After the second time it stays down.
copy_refused=${INFRA_COPY_REFUSED:-/var/lib/infra/copy-refused}
copying_since=${copy_refused%/*}/copying-since
endless_copy() {
    local words
    if [[ ! -s $copy_refused ]]; then
        words=$(journal 2>/dev/null | awk '
            function over() {
                if (loading && last != "") { ends++; words = last } else if (copied) ends = 0
                loading = copied = 0
                last = ""
            }
            /oO0OoO0OoO0Oo/ { over() }
            /REPLICA sync: Loading DB in memory/ { loading = 1; last = "" }
            /REPLICA sync: Finished with success/ { loading = 0; copied = 1 }
            loading && / # / && !/WARNING|[Ss]ignal|SIGTERM|shutdown/ { last = $0; sub(/^[^#]* # /, "", last) }
            END { over(); if (ends >= 2) print words }') || true
        if [[ -z $words ]]; then return 0; fi
        echo "$words" >"$copy_refused"
    fi
    refuse "it ended twice while it loaded what it had copied, and said last: $(<"$copy_refused"). It would copy everything again and again: mend what it names, on the server that it follows or in infra.yml, then run \`infra up\`"
}

# Asks the metadata service at $1 by the method $2 for the path $3, with the header $4. It is answered by the computer below this one, whatever network is cut.
ask_metadata() {
    # shellcheck disable=SC2016
    timeout 3 bash -c '
        exec 7<>"/dev/tcp/$1" || exit 1
        printf "%s\r\n" "$2 $3 HTTP/1.1" "Host: ${1%/*}" "$4" "Content-Length: 0" "Connection: close" "" >&7
        IFS= read -r status <&7 && [[ $status == *" 200 "* ]] || exit 1
        while IFS= read -r line <&7 && [[ $line != $'"'\r'"' ]]; do :; done
        cat <&7' ask "$@" 2>/dev/null
}

# Leaves in $address the public address that leads to this host, or nothing.
own_address() {
    local service=${INFRA_METADATA:-169.254.169.254/80} token
    address=''
    for _ in {1..3}; do
        if token=$(ask_metadata "$service" PUT /latest/api/token "X-aws-ec2-metadata-token-ttl-seconds: 60") &&
            address=$(ask_metadata "$service" GET /latest/meta-data/public-ipv4 "X-aws-ec2-metadata-token: $token"); then
            return
        fi
        sleep 0.5
    done
    address=''
}

# A master that was replaced while this host was away must not take writes again. The other host says which of them is the master. If it does not answer, the
# endpoint's address decides: a failover moves it, and the metadata service knows whether it leads here. A host that learns neither stays closed, and asks again.
replaced() {
    local peers peer port authorities answer address
    # While the app is kept out, no write of it can come here.
    if ! grep -q '^user app on ' "$INFRA_USERS"; then return 0; fi
    peers=$(sed -n 's/^infra\.replication-from "\(.*\)"$/\1/p' "$INFRA_CONFIG")
    port=$(sed -n 's/^tls-port //p' "$INFRA_CONFIG")
    authorities=$(sed -n 's/^tls-ca-cert-file //p' "$INFRA_CONFIG")
    for peer in $peers; do
        # After a boot the network may not be there yet.
        for _ in {1..20}; do
            if ip route get "$peer" >/dev/null 2>&1; then break; fi
            sleep 0.5
        done
        answer=$(timeout 5 "$INFRA_CLIENT" -h "$peer" -p "$port" --tls --cacert "$authorities" 2>/dev/null <<<"AUTH admin $(</etc/infra/admin.password)"$'\n'"INFO replication") || continue
        if [[ $answer == *role:master* ]]; then
            refuse "this host is a master in its settings, and $peer is the master by now; \`infra up\` makes this one its replica"
        fi
        if [[ $answer == *role:slave* ]]; then return 0; fi
    done
    # A host that was set up before there was this line starts as it did then.
    if [[ -z ${INFRA_ENDPOINT-} ]]; then return 0; fi
    own_address
    if [[ $address == "$INFRA_ENDPOINT" ]]; then return 0; fi
    refuse "this host is a master in its settings, the other host does not answer, and the endpoint's address $INFRA_ENDPOINT leads to another host (this one has ${address:-no address that the metadata service names}): it may have been replaced, so it starts as soon as the other host follows it or the address leads here; \`infra up\` makes it a replica if it was replaced"
}

if grep -q '^replicaof ' "$INFRA_CONFIG"; then
    endless_copy
    mend "it follows another server and can copy everything again: move $folder aside, as root on this host, then run \`infra up\`"
    mark
    exit 0
fi
if [[ ! -e $folder && -n $first_start ]]; then
    mark
    exit 0
fi
replaced
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
