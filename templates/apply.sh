# Fed to a root bash by standard input, followed by one action a line, done in order; the first that fails ends it. Secrets come only this way.
#   asked:   epoch NUMBER | say TEXT… | packages NAME… | pending WORD… | directory PATH OWNER:GROUP MODE | file PATH OWNER:GROUP MODE BASE64 | program PATH OWNER:GROUP MODE SHA256 | reload-units | reload-ssh PATH
#            sysctl KEY VALUE | engine BASE64 | reach HOST PORT [TRUST] | role | enable UNIT | disable UNIT | start UNIT | stop UNIT | restart UNIT | settled | end
#   answers: doing TEXT | warning TEXT | failed TEXT | done
# shellcheck shell=bash
waiting=()
fail() {
    rm -f "${waiting[@]/%/.infra-new}"
    echo "failed $*" | tr '\n' ' '
    echo
    exit 1
}

# Runs a command quietly; what it said is shown when it fails.
try() {
    local said
    said=$("$@" 2>&1 </dev/null 9>&-) || fail "$1: $(tail -n 4 <<<"$said")"
}

# Runs apt with `options`. The variable `said` gets its output. Repeats it while the output has a
# line that matches $1: apt waits for dpkg's lock alone, not for those of lists and archives.
patiently() {
    local passing=$1 end=$((SECONDS + 300)) reason
    shift
    until said=$(apt-get "${options[@]}" "$@" 2>&1 </dev/null 9>&-); do
        reason=$(grep -m 1 -E "^[EW]: .*($passing)" <<<"$said") || return 1
        ((SECONDS < end)) || return 1
        echo "doing apt-get $1, again and again, since it says: $reason"
        sleep 2
    done
}

# Starts or restarts a unit. If it fails, its own last lines say more than systemd's about it.
bring_up() {
    local action=$1 unit=$2 since said own
    since=$(date +%s)
    # A unit that gave up after too many tries starts again too, and so does an engine that could not load its copy.
    rm -f /var/lib/infra/copy-refused
    date +%s >/var/lib/infra/copying-since
    systemctl reset-failed "$unit" 2>/dev/null || true
    if said=$(systemctl "$action" "$unit" 2>&1 </dev/null 9>&-); then return; fi
    own=$(journalctl --quiet --no-pager --output cat --since "@$since" "_SYSTEMD_UNIT=$unit" 2>/dev/null |
        grep -v '^[[:space:]]*$' | tail -n 3)
    fail "systemctl $action $unit: ${own:-$(tail -n 4 <<<"$said")}"
}

install_packages() {
    local policy=/usr/sbin/policy-rc.d said round
    local options=(-o DPkg::Lock::Timeout=300 -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold)
    # Otherwise apt takes lists that it could not fetch for a success.
    options+=(-o APT::Update::Error-Mode=any)
    local locked='[Uu]nable to lock|[Cc]ould not get lock|[Uu]nable to acquire'
    local missed='[Ff]ailed to fetch|[Ff]ailed to download'
    export DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=l
    # A package must not start its service with the distribution's settings, not even for a moment.
    # A policy that is marked as ours was left by a run that died here.
    if [[ ! -e $policy ]] || grep -q '^# infra$' "$policy"; then
        trap 'rm -f /usr/sbin/policy-rc.d' EXIT
        printf '#!/bin/sh\n# infra\nexit 101\n' >"$policy"
        chmod 755 "$policy"
    fi
    for round in 1 2 3; do
        if patiently "$locked" install -y --no-install-recommends "$@"; then break; fi
        ((round < 3)) || fail "apt-get install $*: $(grep '^E:' <<<"$said" || tail -n 3 <<<"$said")"
        # There may be no lists, or older ones than the mirror has.
        patiently "$locked|$missed" update || echo "warning apt-get update: $(tail -n 1 <<<"$said")"
    done
    if [[ $(trap -p EXIT) ]]; then
        rm -f "$policy"
        trap - EXIT
    fi
}

# Writes a file beside its place; put_files brings all that wait into their places, once they are on the disk.
write_file() {
    local path=$1 owner=$2 mode=$3 content=${4-} temporary=$1.infra-new
    rm -f "$temporary"
    # Owner and mode first: the content is never where others may read it.
    { : >"$temporary" && chown "$owner" "$temporary" && chmod "$mode" "$temporary" && base64 -d <<<"$content" >"$temporary"; } || {
        rm -f "$temporary"
        fail "cannot write $path"
    }
    if [[ $path == /etc/ssh/* ]]; then
        would_sshd_take "$path"
        if [[ -e $path ]]; then cp -p "$path" "$path.infra-before" || fail "cannot keep the $path of before"; fi
    fi
    waiting+=("$path")
}

# Tries settings of sshd outside its folder, where the next boot would read them. sshd has to take
# them together with all others, and still let in whoever is logged in now.
would_sshd_take() {
    local path=$1 trial=/var/lib/infra/sshd.trial said login=${SUDO_USER:-root} effective
    rm -rf "$trial"
    mkdir -p "$trial"
    cp /etc/ssh/sshd_config.d/*.conf "$trial/" 2>/dev/null
    cp "$path.infra-new" "$trial/${path##*/}"
    sed -E "s#^([[:space:]]*Include[[:space:]]+)(/etc/ssh/)?sshd_config.d/#\1$trial/#I" /etc/ssh/sshd_config >"$trial/sshd_config"
    if ! said=$(sshd -t -f "$trial/sshd_config" 2>&1 </dev/null 9>&-); then
        rm -rf "$trial" "$path.infra-new"
        fail "sshd refuses these settings, nothing of them is in force: $said"
    fi
    effective=$(sshd -T -f "$trial/sshd_config" -C "user=$login,host=localhost,addr=127.0.0.1" 2>&1 </dev/null 9>&-)
    rm -rf "$trial"
    if ! grep -q '^pubkeyauthentication yes$' <<<"$effective" ||
        { grep -q '^allowusers ' <<<"$effective" && ! grep -q "^allowusers $login\$" <<<"$effective"; }; then
        rm -f "$path.infra-new"
        fail "sshd would no longer let $login in by these settings, nothing of them is in force"
    fi
}

reload_ssh() {
    local settings=$1 said
    if ! said=$(sshd -t 2>&1 </dev/null 9>&-); then
        if [[ -e $settings.infra-before ]]; then mv -f "$settings.infra-before" "$settings"; else rm -f "$settings"; fi
        sync "${settings%/*}"
        fail "sshd refuses its settings, $settings is as it was before: $said"
    fi
    rm -f "$settings.infra-before"
    try systemctl reload ssh.service
}

# Brings a program that was sent before into its place, if all of it came.
write_program() {
    local path=$1 owner=$2 mode=$3 sum=$4 incoming=/var/lib/infra/incoming/$4 found
    found=$(sha256sum "$incoming" 2>/dev/null)
    [[ ${found%% *} == "$sum" ]] || fail "$path did not come whole"
    rm -f "$path.infra-new"
    { mv "$incoming" "$path.infra-new" && chown "$owner" "$path.infra-new" && chmod "$mode" "$path.infra-new"; } || fail "cannot write $path"
    waiting+=("$path")
}

put_files() {
    local path folders=()
    ((${#waiting[@]})) || return 0
    sync "${waiting[@]/%/.infra-new}" || fail "cannot sync the new files"
    for path in "${waiting[@]}"; do
        mv -f "$path.infra-new" "$path" || fail "cannot put $path in its place"
        folders+=("${path%/*}")
    done
    sync "${folders[@]}" || fail "cannot sync the folders of the new files"
    waiting=()
}

set_sysctl() {
    local path=/proc/sys/${1//.//}
    if ! echo "$2" 2>/dev/null >"$path"; then echo "warning this machine refuses the kernel setting $1 = $2 (it has $(<"$path"))"; fi
}

# Refuses a command whose lock was taken over by a later one, and remembers the highest epoch seen, as infra-role does.
admit() {
    local seen=0 known=/var/lib/infra/epoch
    exec 8>>"$known.lock"
    flock -w 15 8 || fail "another command is at work on the role of this host"
    if [[ -s $known ]]; then read -r seen <"$known"; fi
    ((seen <= $1)) || fail "another command took over the lock of this environment: this host has seen epoch $seen, this command has epoch $1"
    if ((seen < $1)); then
        { echo "$1" >"$known.new" && sync "$known.new" && mv -f "$known.new" "$known" && sync "${known%/*}"; } || fail "cannot write $known"
    fi
    exec 8>&-
}

# Runs commands on the running engine, each of which has to answer OK.
engine() {
    local commands answers
    # shellcheck source=/dev/null
    . /etc/infra/host.env
    commands=$(base64 -d <<<"$1")
    # The password goes over the connection: a variable would reach other programs too.
    answers=$("$INFRA_CLIENT" -s "$INFRA_SOCKET" <<<"AUTH admin $(</etc/infra/admin.password)"$'\n'"$commands" 2>&1)
    [[ $answers == OK$'\n'* ]] || fail "the engine does not let admin in: ${answers%%$'\n'*}"
    answers=${answers#OK$'\n'}
    [[ $(grep -c '^OK$' <<<"$answers") -eq $(grep -c . <<<"$commands") ]] || fail "the engine answers: $(grep -v '^OK$' <<<"$answers")"
}

# Tries to reach the source, before the engine is told to follow it.
reach() {
    local said words=(--host "$1" --port "$2")
    if [[ -n ${3-} ]]; then words+=(--trust "$3"); fi
    said=$(/usr/local/sbin/infra-agent reach "${words[@]}" 2>&1 </dev/null 9>&-) || fail "${said#infra-agent: failed to }"
}

main() {
    set -u
    umask 077
    export LC_ALL=C
    mkdir -p /var/lib/infra
    # One run at a time: what an earlier run has begun here goes on to its end, even if infra died.
    exec 9>>/var/lib/infra/lock
    flock -w 600 9 || fail "an earlier run is still at work on this host"
    # Tells the guard that this host's engine was started before.
    if [[ ! -e /var/lib/infra/started ]] && systemctl is-active -q redis-server valkey-server; then : >/var/lib/infra/started; fi
    local action first rest
    while read -r action first rest; do
        case $action in
        file | program | say) ;;
        *) put_files ;;
        esac
        case $action in
        epoch) admit "$first" ;;
        say) echo "doing $first $rest" ;;
        packages)
            # shellcheck disable=SC2086
            install_packages $first $rest
            ;;
        pending)
            # shellcheck disable=SC2086
            printf '%s\n' "$first" $rest >/var/lib/infra/pending.new
            sync /var/lib/infra/pending.new
            mv -f /var/lib/infra/pending.new /var/lib/infra/pending
            sync /var/lib/infra
            ;;
        directory)
            try mkdir -p "$first"
            try chown "${rest% *}" "$first"
            try chmod "${rest#* }" "$first"
            ;;
        file)
            # shellcheck disable=SC2086
            write_file "$first" $rest
            ;;
        program)
            # shellcheck disable=SC2086
            write_program "$first" $rest
            ;;
        reload-units) try systemctl daemon-reload ;;
        reload-ssh) reload_ssh "$first" ;;
        sysctl) set_sysctl "$first" "$rest" ;;
        engine) engine "$first" ;;
        reach)
            # shellcheck disable=SC2086
            reach "$first" $rest
            ;;
        role) try /usr/local/sbin/infra-role apply ;;
        start | restart) bring_up "$action" "$first" ;;
        enable | disable | stop) try systemctl "$action" "$first" ;;
        settled) rm -rf /var/lib/infra/pending /var/lib/infra/incoming ;;
        end)
            echo "done"
            return
            ;;
        *) fail "this host's script does not know the action $action" ;;
        esac
    done
    fail "the list of actions broke off"
}
# One line, since the shell must not read the rest of standard input: main does.
main; exit
