#!/bin/bash
# A scratch server for a rehearsal, as a transient unit that ends by itself. Nothing of it survives a reboot. Each action may be repeated.
#
#   begin          an empty folder for its files; whatever an earlier rehearsal left is gone
#   start SECONDS  starts the server on those files, for at most that long
#   log            what it logged
#   end            as if it had never been
set -euo pipefail
umask 077
# shellcheck source=/dev/null
. /etc/infra/host.env
unit=infra-rehearsal
folder=/run/infra-rehearsal

# The same restrictions as those of the real engine, except that only the rehearsal's own folder is
# writable.
confined=(
    ProtectSystem=strict "ReadWritePaths=$folder" NoNewPrivileges=yes CapabilityBoundingSet= PrivateTmp=yes PrivateDevices=yes PrivateUsers=yes ProtectHome=yes
    ProtectClock=yes ProtectControlGroups=yes ProtectHostname=yes ProtectKernelLogs=yes ProtectKernelModules=yes ProtectKernelTunables=yes
    ProtectProc=invisible "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX" RestrictNamespaces=yes RestrictRealtime=yes RestrictSUIDSGID=yes RemoveIPC=yes
    LockPersonality=yes MemoryDenyWriteExecute=yes SystemCallArchitectures=native "SystemCallFilter=@system-service" "SystemCallFilter=~@privileged @resources"
    SystemCallErrorNumber=EPERM
)

clear_away() {
    systemctl stop "$unit.service" 2>/dev/null || true
    systemctl reset-failed "$unit.service" 2>/dev/null || true
    rm -rf "$folder"
}

rehearsal() {
    case $1 in
    begin)
        clear_away
        install -d -m 0750 -o root -g "$INFRA_USER" "$folder"
        ;;
    start)
        # The engine's server is named as its client is: redis-cli, redis-server.
        systemd-run --quiet --collect --unit="$unit" --description="Scratch server of a rehearsal" \
            --property=User="$INFRA_USER" --property=Group="$INFRA_USER" --property=RuntimeMaxSec="$2" \
            --property=MemoryMax=96M --property=OOMScoreAdjust=900 "${confined[@]/#/--property=}" -- "/usr/bin/${INFRA_CLIENT%-cli}-server" "$folder/server.conf"
        # The log keeps what earlier rehearsals saw under the same name.
        systemctl show --value --property=InvocationID "$unit.service" >"$folder/invocation"
        ;;
    log) journalctl "_SYSTEMD_INVOCATION_ID=$(<"$folder/invocation")" --output=cat --no-pager --lines=2000 ;;
    end) clear_away ;;
    *)
        echo "rehearsal: $1 is no action" >&2
        exit 1
        ;;
    esac
}

