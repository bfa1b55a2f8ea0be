#!/bin/bash
# One base of the data: an append-only base made by the engine (the one fork it costs), checked, compressed, and put into the bucket under a key that is
# never overwritten; the commit record last. Ends non-zero whenever a base is not provably there; then /var/lib/infra/backup/failed.json says why.
# The outcome is /var/lib/infra/backup/last.json.
set -euo pipefail
umask 077
export LC_ALL=C
# shellcheck source=/dev/null
. /etc/infra/host.env
# shellcheck source=/dev/null
. /etc/infra/backup.env
home=/var/lib/infra/backup
work=$home/work
log=$INFRA_DATA/appendonlydir
manifest=$log/appendonly.aof.manifest
metadata=http://169.254.169.254/latest
# Seconds from the start.
deadline=2700

# The first cause is the one that counts: what fails because of it is not told.
fail() {
    if [[ -e $work/failed ]]; then exit 1; fi
    if [[ -d $work ]]; then : >"$work/failed"; fi
    echo "infra-backup: $*" >&2
    jq -n --arg at "$(date -u +%FT%TZ)" --arg error "$*" '{at: $at, error: $error}' >"$home/failed.json.new"
    mv -f "$home/failed.json.new" "$home/failed.json"
    exit 1
}

mkdir -p "$home"
exec 9>"$home/running"
flock -w 600 9 || fail "another run has been going on for ten minutes"
rm -rf "$work"
mkdir "$work"
trap 'rm -rf "$work"' EXIT
trap 'fail "line $LINENO: ${BASH_COMMAND%% *} ended with status $?"' ERR
started=$(date -u +%FT%TZ)
# To the millisecond: two bases within a second are two generations.
generation=$(date -u +%Y%m%dT%H%M%S.%3NZ)

in_time() {
    ((SECONDS < deadline)) || fail "not done after $deadline s: $1"
}

# One command for the engine, as the user that may do no more than this.
engine() {
    local answer
    answer=$(REDISCLI_AUTH=$(</etc/infra/backup.password) "$INFRA_CLIENT" -s "$INFRA_SOCKET" --user backup --no-auth-warning <<<"$1") ||
        fail "the engine does not answer $1"
    tr -d '\r' <<<"$answer"
}

# What the engine says of itself right now; `info` gives one field of it.
look() {
    state=$(engine "INFO everything")
}

info() {
    sed -n "s/^$1://p" <<<"$state"
}

base_name() {
    awk '$1 == "file" && $5 == "type" && $6 == "b" { print $2 }' "$manifest"
}

# Settled: no rewrite under way and nothing being loaded.
wait_settled() {
    look
    while [[ $(info loading) != 0 || $(info aof_rewrite_in_progress) != 0 || $(info aof_rewrite_scheduled) != 0 || $(info rdb_bgsave_in_progress) != 0 ]]; do
        in_time "$1"
        sleep 0.2
        look
    done
}

# --- the base -----------------------------------------------------------------------------------------------------------------------------------------------
wait_settled "an earlier rewrite or loading goes on"
[[ $(info aof_enabled) == 1 ]] || fail "the append-only log is off"
used_kb=$(($(info used_memory) / 1024))
available_kb=$(awk '/^(MemAvailable|SwapFree):/ { sum += $2 } END { print sum }' /proc/meminfo)
# Half of the data again: what a busy engine copies while the child writes (93 MB of 268 at 5,000 writes a second).
needed_kb=$((used_kb / 2 + 32768))
((available_kb >= needed_kb)) ||
    fail "$((available_kb / 1024)) MiB of memory are free, a fork beside $((used_kb / 1024)) MiB of data may need $((needed_kb / 1024)): lower maxmemory or take a bigger instance"

run_id=$(info run_id)
version=$(info redis_version)
role=$(info role)
before=$(base_name)
offset=$(info master_repl_offset)
replication_id=$(info master_replid)
keyspace=$(sed -n 's/^db\([0-9]*\):keys=\([0-9]*\),.*/\1 \2/p' <<<"$state" | jq -Rn '[inputs | split(" ") | {(.[0]): (.[1] | tonumber)}] | add // {}')
answer=$(engine BGREWRITEAOF)
[[ $answer == "Background append only file rewriting"* ]] || fail "the engine answers BGREWRITEAOF with: $answer"
wait_settled "the engine is still writing the base"
[[ $(info aof_last_bgrewrite_status) == ok ]] || fail "the engine could not write the base: see its log"
base=$(base_name)
[[ -n $base && $base != "$before" ]] || fail "the engine wrote no new base"
# A second name for the file keeps it whole, whatever the engine rewrites meanwhile.
ln "$log/$base" "$work/base.rdb" 2>/dev/null || cp "$log/$base" "$work/base.rdb"
look
[[ $(info run_id) == "$run_id" ]] || fail "the engine restarted meanwhile"

# --- proof ---------------------------------------------------------------------------------------------------------------------------------------------------
checked=$("$INFRA_RDB_CHECK" "$work/base.rdb" 2>&1) || fail "$INFRA_RDB_CHECK: $(tail -n 2 <<<"$checked" | tr '\n' ' ')"
keys=$(sed -n 's/^\[info\] \([0-9]*\) keys read$/\1/p' <<<"$checked")
[[ -n $keys ]] || fail "$INFRA_RDB_CHECK does not say how many keys it read"
plain_bytes=$(stat -c %s "$work/base.rdb")
plain_sum=$(sha256sum "$work/base.rdb")
plain_sum=${plain_sum%% *}
zstd -q -1 -T1 "$work/base.rdb" -o "$work/base.rdb.zst"
bytes=$(stat -c %s "$work/base.rdb.zst")

# --- the bucket ----------------------------------------------------------------------------------------------------------------------------------------------
# Reads the role's credentials, which change every few hours, as lines of a curl configuration.
credentials() {
    local token role
    token=$(curl -sf -m 5 -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 300' "$metadata/api/token") || fail "the metadata service gives no token"
    role=$(curl -sf -m 5 -K - "$metadata/meta-data/iam/security-credentials/" <<<"header = \"X-aws-ec2-metadata-token: $token\"") ||
        fail "the instance has no role: its instance profile is missing"
    curl -sf -m 5 -K - "$metadata/meta-data/iam/security-credentials/${role%%$'\n'*}" <<<"header = \"X-aws-ec2-metadata-token: $token\"" |
        jq -er '"user = \"\(.AccessKeyId):\(.SecretAccessKey)\"", "header = \"x-amz-security-token: \(.Token)\""' || fail "the role $role gives no credentials"
}

# Puts the file $1 at the key $2 unless something is there. Prints its digest.
put() {
    local file=$1 key=$2 sum checksum status pause=1 unsure=no login
    sum=$(sha256sum "$file")
    sum=${sum%% *}
    checksum=$(openssl dgst -sha256 -binary "$file" | base64)
    while true; do
        login=$(credentials)
        # curl ends non-zero when no answer came; the status is then 000.
        status=$(curl -s -K - --aws-sigv4 "aws:amz:$INFRA_REGION:s3" -m 900 --connect-timeout 10 -T "$file" -o "$work/answer" -w '%{http_code}' \
            -H 'If-None-Match: *' -H "x-amz-content-sha256: $sum" -H "x-amz-checksum-sha256: $checksum" -H 'Expect:' \
            "$INFRA_BUCKET_URL/$key" <<<"$login") || true
        case $status in
        200) break ;;
        # An earlier attempt of ours may have arrived although its answer did not: nobody else writes under this key.
        412)
            if [[ $unsure == yes ]]; then break; fi
            fail "$key is there already and is not overwritten"
            ;;
        000 | 5?? | 429 | 409) [[ $status == 409 ]] || unsure=yes ;;
        *) fail "S3 answers $status to the put of $key: $(tr -d '\n' <"$work/answer" | sed -n 's/.*<Code>\(.*\)<\/Code>.*<Message>\(.*\)<\/Message>.*/\1: \2/p')" ;;
        esac
        in_time "S3 answers $status to the put of $key"
        sleep "$pause"
        pause=$((pause < 30 ? pause * 2 : 30))
        ((SECONDS < 1200)) || fail "S3 has answered $status to the put of $key for too long"
    done
    echo "$sum"
}

# Bases of a month's first day and a day's first base are kept longer; the key says so, since the host may not copy objects later.
month=${started:0:7}
day=${started:0:10}
last_month=$(jq -r '.month // ""' "$home/classes.json" 2>/dev/null || true)
last_day=$(jq -r '.day // ""' "$home/classes.json" 2>/dev/null || true)
class=hourly
if [[ $last_day != "$day" ]]; then class=daily; fi
if [[ ${day:8:2} == 01 && $last_month != "$month" ]]; then class=monthly; fi

timeline=$INFRA_LABEL-${run_id:0:12}
place=$INFRA_PREFIX/$class/$timeline/$generation
sum=$(put "$work/base.rdb.zst" "$place/base.rdb.zst")
finished=$(date -u +%FT%TZ)
jq -n --arg key "$place/base.rdb.zst" --arg class "$class" --arg timeline "$timeline" --arg generation "$generation" --arg host "$INFRA_LABEL" \
    --arg role "$role" --arg version "$version" --arg run_id "$run_id" --arg replication_id "$replication_id" --argjson offset "$offset" --argjson keys "$keys" \
    --argjson keyspace "$keyspace" --arg sha256 "$sum" --argjson bytes "$bytes" --arg plain_sha256 "$plain_sum" --argjson plain_bytes "$plain_bytes" \
    --arg started "$started" --arg finished "$finished" '{schema_version: 1} + $ARGS.named' >"$work/commit.json"
put "$work/commit.json" "$place/commit.json" >/dev/null

# --- remembered on the host ------------------------------------------------------------------------------------------------------------------------------------
if [[ $class == monthly ]]; then last_month=$month; fi
if [[ $class != hourly ]]; then last_day=$day; fi
jq -n --arg month "$last_month" --arg day "$last_day" '{month: $month, day: $day}' >"$home/classes.json.new"
cp "$work/commit.json" "$home/last.json.new"
sync "$home/classes.json.new" "$home/last.json.new"
mv -f "$home/classes.json.new" "$home/classes.json"
mv -f "$home/last.json.new" "$home/last.json"
rm -f "$home/failed.json"
sync "$home"
echo "$place/base.rdb.zst: $keys keys, $bytes bytes ($plain_bytes uncompressed), sha256 $sum"
