# Fed to a root bash by standard input, after PEER=ADDRESS and SECONDS=NUMBER. Compares what the last SECONDS of this host's log wrote with what the master at
# PEER has, before this host becomes its replica and copies over it. A second engine loads a copy of the data; this host's own one stays down meanwhile.
#   answers: no-data (there is nothing to compare) | a line DATABASE HERE THERE KEY for each key that differs, with the type of the value on either side | more
#   (not all keys are known) | kept FILE (the list, on this host)
# shellcheck shell=bash
set -euo pipefail
# shellcheck source=/dev/null
. /etc/infra/host.env
work="$INFRA_DATA/only-here"
list=${INFRA_ONLY_HERE:-/var/lib/infra/only-here}
server=${INFRA_CLIENT%-cli}-server

fail() {
    echo "only-here: $*" >&2
    exit 1
}

setting() { sed -n "s/^$1 //p" "$INFRA_CONFIG" | tail -n 1; }

# A host that follows already has another master's data.
if grep -q '^replicaof ' "$INFRA_CONFIG" || [[ ! -s $INFRA_DATA/appendonlydir/appendonly.aof.manifest ]]; then
    echo no-data
    exit 0
fi
systemctl stop "$INFRA_UNIT"
engine=''
end() {
    if [[ -n $engine ]]; then
        kill "$engine" 2>/dev/null || true
        wait "$engine" 2>/dev/null || true
    fi
    rm -rf "$work"
    # As it was: systemd tries, and the guard refuses.
    systemctl --no-block start "$INFRA_UNIT"
}
trap end EXIT
rm -rf "$work"
mkdir -m 700 "$work"
# The engine writes to the last file of what it loads, so the copy shares none with the data.
cp -r --reflink=auto "$INFRA_DATA/appendonlydir" "$work/"
chown -R "$INFRA_USER:" "$work"
# Without the setting the engine has as many as by its default.
databases=$(setting databases)
runuser -u "$INFRA_USER" -- "$server" --port 0 --unixsocket "$work/socket" --dir "$work" --databases "${databases:-16}" \
    --appendonly yes --appendfilename appendonly.aof --appenddirname appendonlydir --aof-timestamp-enabled yes \
    --auto-aof-rewrite-percentage 0 --save '' --logfile "$work/log" >/dev/null 2>&1 &
engine=$!
for ((tries = 0; tries < 1200; tries++)); do
    if [[ $("$INFRA_CLIENT" -s "$work/socket" PING 2>/dev/null) == PONG ]]; then break; fi
    kill -0 "$engine" 2>/dev/null || fail "the engine does not load the data: $(tail -n 1 "$work/log")"
    sleep 0.25
done
/usr/local/sbin/infra-agent tail --seconds "$SECONDS_AT_STAKE" "$work" "$work/socket" >"$work/all"
grep -v '^more$' "$work/all" >"$work/keys" || true

# One line for each key: the type of its value, and a digest of it by what the engine answers, since two engines may keep one value in two ways.
# shellcheck disable=SC2016
digest='local kind = redis.call("TYPE", KEYS[1]).ok local value
if kind == "none" then return "none -" end
if kind == "string" then value = redis.call("GET", KEYS[1])
elseif kind == "list" then value = redis.call("LRANGE", KEYS[1], 0, -1)
elseif kind == "set" then value = redis.call("SMEMBERS", KEYS[1]) table.sort(value)
elseif kind == "zset" then value = redis.call("ZRANGE", KEYS[1], 0, -1, "WITHSCORES")
elseif kind == "stream" then value = redis.call("XRANGE", KEYS[1], "-", "+")
elseif kind == "hash" then local flat, pairs = redis.call("HGETALL", KEYS[1]), {}
for at = 1, #flat, 2 do pairs[#pairs + 1] = cmsgpack.pack({flat[at], flat[at + 1]}) end
table.sort(pairs) value = pairs
else value = redis.call("DUMP", KEYS[1]) end
return kind .. " " .. redis.sha1hex(cmsgpack.pack(value))'
digest=${digest//$'\n'/ }
# Asks a client for the digest of every key; $1 is what it is told before, the others are the client.
digests() {
    local before=$1 sha
    shift
    sha=$(printf "%sSCRIPT LOAD '%s'\n" "$before" "$digest" | "$@" | tail -n 1)
    [[ $sha =~ ^[0-9a-f]{40}$ ]] || fail "the engine does not take the comparison: $sha"
    {
        printf '%s' "$before"
        sed "s/^\([0-9]*\) \(.*\)$/SELECT \1\nEVALSHA $sha 1 \2/" "$work/keys"
    } | "$@" | grep -v '^OK$' || true
}
digests "" "$INFRA_CLIENT" -s "$work/socket" >"$work/here"
authority=$(setting tls-ca-cert-file)
before="AUTH admin $(</etc/infra/admin.password)"$'\n'
digests "$before" "$INFRA_CLIENT" -h "$PEER" -p "${PEER_PORT:-$(setting tls-port)}" --tls --cacert "$authority" >"$work/there"
wanted=$(wc -l <"$work/keys")
[[ $(wc -l <"$work/here") == "$wanted" && $(wc -l <"$work/there") == "$wanted" ]] || fail "not every key was answered for: $(grep -m 1 -v '^[a-z]* [0-9a-f-]*$' "$work/here" "$work/there")"
paste -d ' ' "$work/here" "$work/there" "$work/keys" | awk '$1 " " $2 != $3 " " $4 { print $5, $1, $3, $6 }' >"$work/list"
if grep -q '^more$' "$work/all"; then echo more >>"$work/list"; fi
install -m 600 "$work/list" "$list"
cat "$list"
echo "kept $list"
