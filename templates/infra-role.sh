#!/bin/bash
# The role of this host: asked, prepared, changed. The role stands in the engine's settings file, synced to disk, before the running engine
# is told, so that no restart can bring an old role back. Each action may be repeated. promote and door run while an app is waiting: what can be
# done before is done by prepare, and what is left starts as few programs as it can.
#
#   infra-role show              the role in the file and the running one
#   infra-role prepare           writes the settings of a master, and the users with app access open, beside those in force
#   infra-role promote [PROOF]   puts the settings of a master in force: follows nobody from now on. Refuses other data than was proven, where PROOF is
#                                the proven replication id and offset, as ID:OFFSET
#   infra-role log               whether the append-only log is in force
#   infra-role follow            puts those from before the promotion in force again: the host's data becomes its upstream's. A master that copied
#                                its source lets the copy write again
#   infra-role end-copy          ends the copy of a promoted master, which watches the source until then
#   infra-role apply             tells the running engine the role that stands in the file
#   infra-role door open|closed  lets the app log in or not
#   infra-role stage             writes the settings of a replica beside those in force, with the role section that was sent before, and tells the engine how it will log in
#   infra-role arm               puts the settings of a master in force for the next start alone; refuses while the app may log in
#   infra-role yield ADDRESS     gives the role of master to the replica at ADDRESS: writes pause until it has all of them, and the app is disconnected
#   infra-role gate open         lets new connections to the engine in again, which yield had kept out
#   infra-role access            whether the app may log in, by the file
#   infra-role epoch - NUMBER    remembers the epoch of the environment's lock; refuses one that is lower than the highest seen
#   infra-role serve             reads such actions as lines and ends the answer to each with "= STATUS"
#
# An action may be followed by its argument ("-" for none) and the epoch of the lock under which it was sent: "promote - 17", "door open 17".
set -euo pipefail
umask 077
# shellcheck source=/dev/null
. /etc/infra/host.env
promoted="$INFRA_CONFIG.promoted"
following="$INFRA_CONFIG.following"
opened="$INFRA_USERS.open"
demoted="$INFRA_CONFIG.demoted"
# The role section of a replica, as it was sent: it holds a password.
upstream="$INFRA_CONFIG.upstream"
previous="$INFRA_CONFIG.previous"
nft=${INFRA_NFT:-/usr/sbin/nft}
# Stands from before a promotion until the running engine has shut the copy out.
shut="$INFRA_USERS.shut"
copy_unit=infra-copy.service
# The engine writes here after a full copy, until a rewrite has made a base for it. Until then a restart loads the log of before the copy.
unfinished="$INFRA_DATA/appendonlydir/temp-appendonly.aof.incr"
epoch_file=${INFRA_EPOCH:-/var/lib/infra/epoch}

fail() {
    echo "infra-role: $*" >&2
    exit 1
}

# Refuses an action that was sent under an older lock than the newest one seen: its command may have slept while another took the lock over.
admit() {
    local seen=0
    [[ $1 =~ ^[0-9]{1,18}$ ]] || fail "'$1' is no epoch of a lock"
    mkdir -p "${epoch_file%/*}"
    # Held until the action has ended: no later command acts in between.
    exec 8>>"$epoch_file.lock"
    flock -w 15 8 || fail "another command is at work on the role of this host"
    if [[ -s $epoch_file ]]; then read -r seen <"$epoch_file"; fi
    ((seen <= $1)) || fail "another command took over the lock of this environment: this host has seen epoch $seen, this command has epoch $1"
    if ((seen < $1)); then
        echo "$1" >"$epoch_file.new"
        sync "$epoch_file.new"
        put "$epoch_file.new" "$epoch_file"
    fi
}

# Leaves in $said what the engine answers to the commands in $1, as admin over the socket. The password is the first word said there: it stays out of every argument
# list and every environment. Builtins and one program alone: promote waits for it.
engine() {
    said=$("$INFRA_CLIENT" -s "$INFRA_SOCKET" <<<"AUTH admin $(</etc/infra/admin.password)"$'\n'"$1")
    [[ $said == OK$'\n'* ]] || fail "the engine does not let admin in: ${said%%$'\n'*}"
    said=${said#OK$'\n'}
}

# As above, for commands that all answer OK, in builtins alone.
engine_ok() {
    local answer answered=0 asked=0 said
    engine "$1"
    while IFS= read -r answer; do asked=$((asked + 1)); done <<<"$1"
    while IFS= read -r answer; do
        case $answer in
        OK | "OK Already connected to specified master") answered=$((answered + 1)) ;;
        "") ;;
        *) fail "the engine answers: $answer" ;;
        esac
    done <<<"$said"
    # A connection that breaks in between answers less than it was asked.
    ((answered == asked)) || fail "the engine answered $answered of $asked commands"
}

# Opens a conversation with the engine, for commands of which each depends on the answer before it: one program for all of them.
converse() {
    coproc ENGINE { exec "$INFRA_CLIENT" -s "$INFRA_SOCKET" 2>&1; }
    local said
    ask "AUTH admin $(</etc/infra/admin.password)"
    # The client may have said something of its own before.
    [[ $'\n'$said == *$'\nOK\n' ]] || fail "the engine does not let admin in: ${said%%$'\n'*}"
}

# Leaves in $said what the engine answers to the commands in $1 in that conversation.
ask() {
    local line
    said=''
    printf '%s\nECHO end-of-answer\n' "$1" >&"${ENGINE[1]}"
    while IFS= read -r -t 15 line <&"${ENGINE[0]}"; do
        case $line in
        end-of-answer) return ;;
        # The client would go on and wait for the next command.
        "Could not connect"* | Error:*) fail "the engine does not answer: $line" ;;
        esac
        said+=$line$'\n'
    done
    fail "the engine does not answer"
}

# Puts the file $1 in the place of $2; it was synced before.
put() {
    mv -f "$1" "$2"
    sync "${2%/*}"
}

# Leaves the role that the settings file $1 says in $role.
role_in() {
    local line
    role=none
    while IFS= read -r line; do
        if [[ $line == "# role: "* ]]; then
            role=${line#\# role: }
            return
        fi
    done <"$1"
}

# Gives the file $1 the owner and mode of $2, and lets it reach the disk.
settle() {
    chown --reference="$2" "$1"
    chmod --reference="$2" "$1"
    sync "$1"
}

# The commands that give a running engine the role that a settings file says. The order matters: how to speak to an upstream comes before whom to follow.
role_commands() {
    awk '
        /^# role: / { inside = 1; next }
        /^# end of role/ { inside = 0 }
        !inside { next }
        $1 == "replicaof" { upstream = $2 " " $3; next }
        { name = $1; sub(/^[^ ]+ /, ""); value[name] = $0 }
        END {
            if (upstream == "") print "REPLICAOF NO ONE"
            print "CONFIG SET masteruser " (("masteruser" in value) ? value["masteruser"] : "\"\"")
            print "CONFIG SET masterauth " (("masterauth" in value) ? value["masterauth"] : "\"\"")
            print "CONFIG SET tls-replication " value["tls-replication"]
            if (upstream != "") print "REPLICAOF " upstream
        }' "$1"
}

show() {
    local said
    engine "INFO replication"
    tell "$said"
}

# The role in the file, and the running one from an answer to INFO.
tell() {
    local name value
    role_in "$INFRA_CONFIG"
    echo "file $role"
    while IFS=: read -r name value; do
        value=${value%$'\r'}
        case $name in
        role) echo "running $value" ;;
        master_replid) echo "replication-id $value" ;;
        master_repl_offset) echo "offset $value" ;;
        esac
    done <<<"$1"
}

# Prints the users' file with app access open (on) or closed (off).
users_with() {
    local users
    users=$(<"$INFRA_USERS")
    users=${users/#user app on /user app $1 }
    users=${users/#user app off /user app $1 }
    users=${users/$'\n'user app on /$'\n'user app $1 }
    users=${users/$'\n'user app off /$'\n'user app $1 }
    [[ $users == *"user app $1 "* ]] || fail "$INFRA_USERS has no user app: run infra up"
    echo "$users"
}

# Prints the users in $1 with the copy's access open (on) or closed (off). A file of before there was a copy stays as it is.
copy_with() {
    local users=$1
    users=${users/#user copy on /user copy $2 }
    users=${users/#user copy off /user copy $2 }
    users=${users/$'\n'user copy on /$'\n'user copy $2 }
    users=${users/$'\n'user copy off /$'\n'user copy $2 }
    echo "$users"
}

# Leaves the memory limit of the settings file $1 in $limit: of several lines the last one counts.
limit_in() {
    local line
    limit=0
    while IFS= read -r line; do
        if [[ $line == "maxmemory "* ]]; then limit=${line#maxmemory }; fi
    done <"$1"
}

# Lets the copy log in (on) or not (off), in the users' file.
copy_access() {
    local users
    users=$(copy_with "$(<"$INFRA_USERS")" "$1")
    if [[ $users != "$(<"$INFRA_USERS")" ]]; then
        echo "$users" >"$INFRA_USERS.new"
        settle "$INFRA_USERS.new" "$INFRA_USERS"
        put "$INFRA_USERS.new" "$INFRA_USERS"
    fi
}

prepare() {
    role_in "$INFRA_CONFIG"
    if [[ $role != master ]]; then
        awk '
            /^# role: / { print "# role: master"; print "tls-replication yes"; inside = 1 }
            !inside { print }
            /^# end of role/ { print; inside = 0 }' "$INFRA_CONFIG" >"$promoted.new"
        grep -q '^# end of role$' "$promoted.new" || fail "$INFRA_CONFIG has no role section: run infra up"
        if grep -q '^replicaof ' "$promoted.new"; then fail "$INFRA_CONFIG names an upstream outside its role section: run infra up"; fi
        cp "$INFRA_CONFIG" "$following.new"
        settle "$promoted.new" "$INFRA_CONFIG"
        settle "$following.new" "$INFRA_CONFIG"
        mv -f "$promoted.new" "$promoted"
        mv -f "$following.new" "$following"
    fi
    if [[ $role == copies-source ]]; then
        : >"$shut"
        sync "$shut"
    fi
    copy_with "$(users_with on)" off >"$opened.new"
    settle "$opened.new" "$INFRA_USERS"
    mv -f "$opened.new" "$opened"
    sync "${INFRA_CONFIG%/*}"
    show
}

# A log that is being rewritten is in force all the same, unless the rewrite is the one that follows a full copy.
log() {
    local said name value enabled=0 scheduled=0 rewrite=ok write=ok
    if [[ -e $unfinished ]]; then
        echo "log waiting"
        return
    fi
    engine "INFO persistence"
    while IFS=: read -r name value; do
        value=${value%$'\r'}
        case $name in
        aof_enabled) enabled=$value ;;
        aof_rewrite_scheduled) scheduled=$value ;;
        aof_last_bgrewrite_status) rewrite=$value ;;
        aof_last_write_status) write=$value ;;
        esac
    done <<<"$said"
    # A rewrite that is only scheduled may be the one after a full copy: its file does not exist yet.
    if [[ $enabled$scheduled$rewrite$write == 10okok && ! -e $unfinished ]]; then echo "log in-force"; else echo "log waiting"; fi
}

# Fails unless $said, an answer to INFO replication, shows the data that was proven; $1 is the proof. A promoted engine has the proven id as its second one.
expect() {
    local name value running='' id='' second='' offset=0
    [[ $1 =~ ^[^:]+:[0-9]{1,18}$ ]] || fail "'$1' is no replication id with an offset"
    while IFS=: read -r name value; do
        value=${value%$'\r'}
        case $name in
        role) running=$value ;;
        master_replid) id=$value ;;
        master_replid2) second=$value ;;
        master_repl_offset) offset=$value ;;
        esac
    done <<<"$said"
    if [[ $running == master && $second == "${1%:*}" ]]; then id=$second; fi
    [[ $id == "${1%:*}" ]] || fail "proven was the replication id ${1%:*}, and this host has data of $id"
    ((offset >= ${1##*:})) || fail "proven was the offset ${1##*:}, and this host has data up to $offset"
}

# Shuts the copy out, in the files first, and gives the engine its memory limit back. $1 is the proof of the data.
shut_copy_out() {
    local said limit
    engine "INFO replication"
    if [[ $1 != - ]]; then expect "$1"; fi
    if [[ $role == copies-source ]]; then
        [[ -s $promoted ]] || fail "the promotion was not prepared"
        copy_access off
        put "$promoted" "$INFRA_CONFIG"
    fi
    limit_in "$INFRA_CONFIG"
    # The engine may end the connection that loads its users.
    engine_ok "CONFIG SET maxmemory $limit"$'\n'"ACL LOAD"
    # What the copy sent may be under way until its connection is seen to be gone.
    for _ in {1..100}; do
        engine "CLIENT KILL USER copy"
        if [[ $said == 0* ]]; then break; fi
    done
    [[ $said == 0* ]] || fail "the copy does not leave the engine: ${said%%$'\n'*}"
    rm -f "$shut"
}

# The copy that a promotion has shut out goes on watching the source until nobody asks it about late writes any more.
end_copy() {
    role_in "$INFRA_CONFIG"
    [[ $role != copies-source ]] || fail "this host copies its source: run infra up"
    systemctl --no-block stop "$copy_unit" 2>/dev/null || true
    show
}

promote() {
    local said
    if [[ -e $unfinished ]]; then
        fail "the append-only log is not in force: the rewrite that follows a full copy has not ended, and a crash would bring the data of before it back"
    fi
    role_in "$INFRA_CONFIG"
    # An earlier attempt may have ended between the files and the engine.
    if [[ $role == copies-source || -e $shut ]]; then shut_copy_out "$1"; fi
    converse
    if [[ $1 != - ]]; then
        ask "INFO replication"
        expect "$1"
    fi
    role_in "$INFRA_CONFIG"
    if [[ $role != master ]]; then
        [[ -s $promoted ]] || fail "the promotion was not prepared"
        put "$promoted" "$INFRA_CONFIG"
    fi
    # How it spoke to its upstream stays in the running engine until the next start: it matters to nobody, and could only fail here.
    ask $'REPLICAOF NO ONE\nINFO replication'
    [[ $said == OK$'\n'* ]] || fail "the engine answers: ${said%%$'\n'*}"
    # The data may have been replaced since the first look.
    if [[ $1 != - ]]; then expect "$1"; fi
    tell "$said"
}

follow() {
    local limit wake=start
    role_in "$INFRA_CONFIG"
    if [[ $role == master ]]; then
        [[ -s $following ]] || fail "this host does not know whom it followed: run infra up"
        put "$following" "$INFRA_CONFIG"
        # The copy holds still since the promotion. One that copies already goes on where it is.
        wake=restart
    fi
    role_in "$INFRA_CONFIG"
    if [[ $role != copies-source ]]; then
        engine_ok "$(role_commands "$INFRA_CONFIG")"
    else
        # The limit goes first: a full master would evict what the copy writes.
        copy_access on
        limit_in "$INFRA_CONFIG"
        engine_ok "$(role_commands "$INFRA_CONFIG")"$'\n'"CONFIG SET maxmemory $limit"$'\n'"ACL LOAD"
        systemctl --no-block "$wake" "$copy_unit" 2>/dev/null || true
    fi
    show
}

door() {
    local state users said
    case $1 in
    open) state=on ;;
    closed) state=off ;;
    *) fail "door open or door closed" ;;
    esac
    users=$(users_with "$state")
    if [[ $users != "$(<"$INFRA_USERS")" ]]; then
        if [[ ! -s $opened || $users != "$(<"$opened")" ]]; then
            echo "$users" >"$opened.new"
            settle "$opened.new" "$INFRA_USERS"
            mv -f "$opened.new" "$opened"
        fi
        put "$opened" "$INFRA_USERS"
    fi
    engine_ok "ACL LOAD"
    # Connections that were let in before would stay open otherwise.
    if [[ $state == off ]]; then engine "CLIENT KILL USER app"; fi
    echo "door $1"
}

# Writes the settings in force with another role section, beside them. The engine learns now how to log in to its upstream.
stage() {
    local section line inside='' commands='' command
    [[ -s $upstream ]] || fail "the role section of a replica was not sent"
    section=$(<"$upstream")
    [[ $section == "# role: follows-master"$'\n'*"replicaof "* ]] || fail "the role section came damaged"
    while IFS= read -r line; do
        case $line in
        "# role: "*)
            inside=yes
            printf '%s\n' "$section"
            ;;
        "# end of role")
            inside=''
            printf '%s\n' "$line"
            ;;
        *) if [[ -z $inside ]]; then printf '%s\n' "$line"; fi ;;
        esac
    done <"$INFRA_CONFIG" >"$demoted.new"
    grep -q '^# end of role$' "$demoted.new" || fail "$INFRA_CONFIG has no role section: run infra up"
    settle "$demoted.new" "$INFRA_CONFIG"
    put "$demoted.new" "$demoted"
    while IFS= read -r command; do
        if [[ $command != REPLICAOF* ]]; then commands+=$command$'\n'; fi
    done < <(role_commands "$demoted")
    engine_ok "${commands%$'\n'}"
    rm -f "$upstream"
    show
}

access() {
    local users
    users=$(<"$INFRA_USERS")
    if [[ $'\n'$users == *$'\n'"user app on "* ]]; then echo "access open"; else echo "access closed"; fi
}

# The engine goes on following; after a restart it is a master. The app is kept out first, so that it cannot write to both hosts then.
arm() {
    [[ $(access) == "access closed" ]] || fail "the app may still log in to this host"
    role_in "$INFRA_CONFIG"
    if [[ $role != master ]]; then
        [[ -s $promoted ]] || fail "the promotion was not prepared"
        put "$promoted" "$INFRA_CONFIG"
    fi
    show
}

# Leaves the value of the setting $1 in $value.
setting() {
    local name
    while read -r name value; do
        if [[ $name == "$1" ]]; then return; fi
    done <"$INFRA_CONFIG"
    fail "$INFRA_CONFIG has no $1"
}

# Keeps new connections to the engine out, or lets them in again. They are dropped and not refused: a client asks again within a second, and finds the
# address at the other host by then. The rule ends by itself.
gate() {
    local value
    if [[ $1 == open ]]; then
        printf 'table inet infra_gate\ndelete table inet infra_gate\n' | "$nft" -f - || fail "nft does not let new connections in again"
        return
    fi
    setting tls-port
    "$nft" -f - <<GATE || fail "nft does not keep new connections out"
table inet infra_gate
delete table inet infra_gate
table inet infra_gate {
	set shut { type inet_service; flags timeout; elements = { $value timeout 20s } }
	chain input {
		type filter hook input priority filter - 1; policy accept;
		tcp dport @shut tcp flags & (fin | syn | rst | ack) == syn counter drop
	}
}
GATE
}

# Leaves in $applied how far the replica at $1, port $2, has applied the stream; the engine here hears of that only once a second.
applied_by() {
    local name value answer
    applied=0
    answer=$(timeout 1 "$INFRA_CLIENT" -h "$1" -p "$2" --tls --cacert "$authorities" <<<"AUTH admin $(</etc/infra/admin.password)"$'\n'"INFO replication" 2>&1) || return 0
    while IFS=: read -r name value; do
        value=${value%$'\r'}
        case $name in
        master_link_status) if [[ $value != up ]]; then return 0; fi ;;
        slave_repl_offset) if [[ $value =~ ^[0-9]{1,18}$ ]]; then applied=$value; fi ;;
        esac
    done <<<"$answer"
}

# Leaves in $offset how far the stream of writes here is, in $port the port of the replica at $1, and in $running and $failing how a failover stands.
look_at_replication() {
    local name value replica
    offset=0 port='' running='' failing='' linked=''
    ask "INFO replication"
    while IFS=: read -r name value; do
        value=${value%$'\r'}
        case $name in
        role) running=$value ;;
        master_repl_offset) offset=$value ;;
        master_failover_state) failing=$value ;;
        master_link_status) linked=$value ;;
        slave[0-9]*)
            replica=",$value,"
            if [[ $replica == *",ip=$1,"* && $replica == *",state=online,"* && $replica =~ ,port=([0-9]+), ]]; then port=${BASH_REMATCH[1]}; fi
            ;;
        esac
    done <<<"$said"
}

# Leaves in $app how many connections the app has, and in $owed how many of them have an answer that was not sent yet.
look_at_app() {
    local line
    app=0 owed=0
    ask "CLIENT LIST"
    while IFS= read -r line; do
        if [[ " $line " != *" user=app "* ]]; then continue; fi
        app=$((app + 1))
        if [[ " $line " != *" obl=0 "* || " $line " != *" oll=0 "* ]]; then owed=$((owed + 1)); fi
    done <<<"$said"
}

# Milliseconds since the time $1, which is in microseconds.
milliseconds_since() { echo $(((${EPOCHREALTIME/./} - $1) / 1000)); }

# Ends an attempt that failed. An engine that is a master again gets a master's file before writes go on.
stay() {
    local said
    set +e
    (engine "FAILOVER ABORT") >/dev/null 2>&1
    if (engine "INFO replication" && [[ $said == *role:master* ]]) >/dev/null 2>&1; then
        role_in "$INFRA_CONFIG"
        if [[ $role != master && -s $previous ]]; then put "$previous" "$INFRA_CONFIG"; fi
    fi
    (engine "CLIENT UNPAUSE") >/dev/null 2>&1
    (gate open) >/dev/null 2>&1
}

yield() {
    local said offset port running failing linked app owed applied authorities value begun closed replication
    converse
    look_at_replication "$1"
    if [[ $running != master ]]; then
        tell "$said"
        return
    fi
    [[ -s $demoted ]] || fail "the demotion was not prepared"
    [[ -n $port ]] || fail "no replica at $1 is connected"
    setting tls-ca-cert-file
    authorities=$value
    cp -p "$INFRA_CONFIG" "$previous.new"
    sync "$previous.new"
    put "$previous.new" "$previous"
    trap stay EXIT
    gate closed
    begun=${EPOCHREALTIME/./}
    # It ends by itself if this host stops here, and the app goes on where it is.
    ask "CLIENT PAUSE 15000 WRITE"
    [[ $said == OK$'\n'* ]] || fail "the engine answers: ${said%%$'\n'*}"
    while :; do
        look_at_replication "$1"
        [[ -n $port ]] || fail "the replica at $1 is no longer connected"
        applied_by "$1" "$port"
        look_at_app
        if ((applied >= offset && owed == 0)); then break; fi
        (($(milliseconds_since "$begun") < 3000)) || fail "after 3 s of pause the replica has $applied of $offset, and $owed clients have not taken their answers"
    done
    closed=$app
    ask "CLIENT KILL USER app"
    put "$demoted" "$INFRA_CONFIG"
    # The engine would wait for a report of the replica, which comes once a second. The replica was asked above.
    ask "FAILOVER TO $1 $port FORCE TIMEOUT 1"
    [[ $said == OK$'\n'* ]] || fail "the engine answers: ${said%%$'\n'*}"
    while :; do
        look_at_replication "$1"
        if [[ $running == slave && $failing == no-failover && $linked == up ]]; then break; fi
        (($(milliseconds_since "$begun") < 8000)) || fail "the replica has not taken the role over within 8 s"
    done
    trap - EXIT
    begun=$(milliseconds_since "$begun")
    replication=$said
    # A paused replica would not apply its stream.
    ask "CLIENT UNPAUSE"
    tell "$replication"
    echo "paused-ms $begun"
    echo "closed $closed"
}

act() {
    if [[ -n ${3:-} ]]; then admit "$3"; fi
    case $1 in
    show | prepare | follow | log) "$1" ;;
    promote) promote "${2:--}" ;;
    stage | arm | access) "$1" ;;
    end-copy) end_copy ;;
    yield | gate) "$1" "${2:-}" ;;
    epoch) ;;
    apply) engine_ok "$(role_commands "$INFRA_CONFIG")" ;;
    door) door "${2:-}" ;;
    *) fail "unknown action '$1'" ;;
    esac
}

# An action that fails ends its subshell and not the conversation.
serve() {
    local action argument epoch
    set +e
    while read -r action argument epoch; do
        (
            set -e
            act "$action" "$argument" "$epoch"
        ) 2>&1
        echo "= $?"
    done
}

if [[ ${1:-} == serve ]]; then serve; else act "${1:-}" "${2:-}" "${3:-}"; fi
