# Fed to a root bash by standard input, followed by one line: prepare | activate. Gives a host a key of its own for the one it was born with, which
# came through user-data and was therefore known to the cloud's API as well. Both may be repeated.
#   answers: cloud-init STATUS | cloud-init-error TEXT | key PUBLIC-KEY | active yes|no | failed TEXT
# shellcheck shell=bash

# Waits until new connections are shown the host's own key: a reload returns before sshd has read its settings. sshd closes its port for a while to who asks too often.
shown() {
    local try key
    read -r _ key _ <"$own.pub"
    for ((try = 0; try < 12; try++)); do
        if ssh-keyscan -T 5 -t ed25519 127.0.0.1 2>/dev/null </dev/null | grep -qF "$key"; then return; fi
        sleep 0.5
    done
    return 1
}

contact() {
    set -u
    umask 077
    local action own=/etc/ssh/infra_host_ed25519_key settings=/etc/ssh/sshd_config.d/00-infra-host-key.conf
    read -r action
    case $action in
    prepare)
        # "degraded" may mean harmless warnings, so only the end and the errors count.
        if command -v cloud-init >/dev/null; then
            echo "cloud-init $(timeout 600 cloud-init status --wait --format json </dev/null 2>/dev/null | tr -d '\n')"
        fi
        if [[ ! -s $own.pub ]]; then
            rm -f "$own" "$own.pub"
            ssh-keygen -q -t ed25519 -N '' -C "$(hostname)" -f "$own" </dev/null || { echo "failed ssh-keygen"; return; }
            sync "$own" "$own.pub" /etc/ssh
        fi
        ;;
    activate)
        [[ -s $own ]] || { echo "failed $own is missing: prepare comes first"; return; }
        chmod 644 "$own.pub"
        printf '# Written by infra: the key that this host made for itself, and no other.\nHostKey %s\n' "$own" >"$settings.new"
        chmod 644 "$settings.new"
        sync "$settings.new"
        mv -f "$settings.new" "$settings"
        local said
        if ! said=$(sshd -t 2>&1 </dev/null); then
            rm -f "$settings"
            echo "failed sshd refuses its settings: $said"
            return
        fi
        # cloud-init would not make these keys again. The born one is worth nothing now.
        rm -f /etc/ssh/ssh_host_*_key /etc/ssh/ssh_host_*_key.pub
        sync /etc/ssh /etc/ssh/sshd_config.d
        said=$(systemctl reload ssh.service 2>&1 </dev/null) || { echo "failed reload of sshd: $said"; return; }
        shown || { echo "failed sshd was reloaded and does not show $own.pub"; return; }
        ;;
    *)
        echo "failed unknown action $action"
        return
        ;;
    esac
    echo "key $(<"$own.pub")"
    if [[ -s $settings ]]; then echo "active yes"; else echo "active no"; fi
}
# One line, since the shell must not read the rest of standard input: contact does.
contact; exit
