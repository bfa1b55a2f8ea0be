#!/bin/bash
# The role of this host: asked, prepared, changed. The role stands in the engine's settings file, synced to disk, before the running engine
# is told, so that no restart can bring an old role back. Each action may be repeated.
#
#   infra-role show              the role in the file and the running one
#   infra-role prepare           writes the settings of a master beside those in force
#   infra-role promote           puts them in force: follows nobody from now on
#   infra-role follow            puts those from before the promotion in force again: the host's data becomes its upstream's
#   infra-role apply             tells the running engine the role that stands in the file
#   infra-role door open|closed  lets the app log in or not
set -euo pipefail
umask 077
# shellcheck source=/dev/null
. /etc/infra/host.env
promoted="$INFRA_CONFIG.promoted"
following="$INFRA_CONFIG.following"

fail() {
    echo "infra-role: $*" >&2
    exit 1
}

# Gives the engine the commands on standard input, as admin over the socket; the password stays out of every argument list.
engine() {
    REDISCLI_AUTH=$(</etc/infra/admin.password) "$INFRA_CLIENT" -s "$INFRA_SOCKET" --user admin --no-auth-warning
}

# As above, for commands that all answer OK.
engine_ok() {
    local commands answers
    commands=$(cat)
    answers=$(engine <<<"$commands")
    while IFS= read -r answer; do
        case $answer in
        OK | "OK Already connected to specified master" | "") ;;
        *) fail "the engine answers: $answer" ;;
        esac
    done <<<"$answers"
    # A connection that breaks in between answers less than it was asked.
    [[ $(grep -c '^OK' <<<"$answers") -eq $(grep -c . <<<"$commands") ]] || fail "the engine answered only: $answers"
}

# Puts a copy of $1 in the place of $2: whole, durable, with the same owner and mode.
put() {
    ln -f "$1" "$2.next"
    mv -f "$2.next" "$2"
    sync "$(dirname "$2")"
}

file_role() {
    sed -n 's/^# role: //p' "$1"
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
    echo "file $(file_role "$INFRA_CONFIG")"
    echo "INFO replication" | engine | tr -d '\r' | awk -F: '
        $1 == "role" { print "running " $2 }
        $1 == "master_replid" { print "replication-id " $2 }
        $1 == "master_repl_offset" { print "offset " $2 }'
}

prepare() {
    [[ $(file_role "$INFRA_CONFIG") == master ]] && { show; return; }
    awk '
        /^# role: / { print "# role: master"; print "tls-replication yes"; inside = 1 }
        !inside { print }
        /^# end of role/ { print; inside = 0 }' "$INFRA_CONFIG" >"$promoted.new"
    grep -q '^# end of role$' "$promoted.new" || fail "$INFRA_CONFIG has no role section: run infra up"
    if grep -q '^replicaof ' "$promoted.new"; then fail "$INFRA_CONFIG names an upstream outside its role section: run infra up"; fi
    cp -p "$INFRA_CONFIG" "$following.new"
    chown --reference="$INFRA_CONFIG" "$promoted.new"
    chmod --reference="$INFRA_CONFIG" "$promoted.new"
    sync "$promoted.new" "$following.new"
    mv -f "$promoted.new" "$promoted"
    mv -f "$following.new" "$following"
    sync "$(dirname "$INFRA_CONFIG")"
    show
}

promote() {
    if [[ $(file_role "$INFRA_CONFIG") != master ]]; then
        [[ -s $promoted ]] || fail "the promotion was not prepared"
        put "$promoted" "$INFRA_CONFIG"
    fi
    role_commands "$INFRA_CONFIG" | engine_ok
    show
}

follow() {
    if [[ $(file_role "$INFRA_CONFIG") == master ]]; then
        [[ -s $following ]] || fail "this host does not know whom it followed: run infra up"
        put "$following" "$INFRA_CONFIG"
    fi
    role_commands "$INFRA_CONFIG" | engine_ok
    show
}

door() {
    local state users
    case $1 in
    open) state=on ;;
    closed) state=off ;;
    *) fail "door open or door closed" ;;
    esac
    users=$(sed -E "s/^user app (on|off) /user app $state /" "$INFRA_USERS")
    grep -q "^user app $state " <<<"$users" || fail "$INFRA_USERS has no user app: run infra up"
    if [[ $users != "$(<"$INFRA_USERS")" ]]; then
        rm -f "$INFRA_USERS.new"
        echo "$users" >"$INFRA_USERS.new"
        chown --reference="$INFRA_USERS" "$INFRA_USERS.new"
        chmod --reference="$INFRA_USERS" "$INFRA_USERS.new"
        sync "$INFRA_USERS.new"
        mv -f "$INFRA_USERS.new" "$INFRA_USERS"
        sync "$(dirname "$INFRA_USERS")"
    fi
    echo "ACL LOAD" | engine_ok
    # Whoever was let in before stays logged in otherwise.
    if [[ $state == off ]]; then echo "CLIENT KILL USER app" | engine >/dev/null; fi
    echo "door $1"
}

case ${1:-} in
show) show ;;
prepare) prepare ;;
promote) promote ;;
follow) follow ;;
apply) role_commands "$INFRA_CONFIG" | engine_ok ;;
door) door "${2:-}" ;;
*) fail "unknown action '${1:-}'" ;;
esac
