# Fed to a root bash by standard input, after MODE=lists or MODE=install and PACKAGES. Brings the lists of packages up to date, or installs what is newer: the named packages,
# whose engine restarts, and security fixes of all others.
#   answers: warning TEXT | failed TEXT | done
# shellcheck shell=bash
upgrade() {
    set -uo pipefail
    export LC_ALL=C DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=l
    local said options packages
    # A look, and another run, wait for the end of this one.
    mkdir -p /var/lib/infra
    exec 9>>/var/lib/infra/lock
    flock -w 300 9 || {
        echo "failed an earlier run is still at work on this host"
        exit 1
    }
    options=(-o DPkg::Lock::Timeout=300 -o APT::Update::Error-Mode=any -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold)
    if ! said=$(apt-get "${options[@]}" update 2>&1 </dev/null 9>&-); then
        echo "warning apt-get update: $(tail -n 1 <<<"$said")"
    fi
    if [[ $MODE == install ]]; then
        # shellcheck disable=SC2153 # it comes before this script
        read -ra packages <<<"$PACKAGES"
        if ! said=$(apt-get "${options[@]}" install -y --no-install-recommends --only-upgrade "${packages[@]}" 2>&1 </dev/null 9>&-); then
            echo "failed apt-get install: $(grep '^E:' <<<"$said" | tr '\n' ' ')"
            exit 1
        fi
        if command -v unattended-upgrade >/dev/null && ! said=$(unattended-upgrade 2>&1 </dev/null 9>&-); then
            echo "warning unattended-upgrade: $(tail -n 1 <<<"$said")"
        fi
    fi
    echo "done"
}
# One line, since the shell must not read the rest of standard input.
upgrade; exit
