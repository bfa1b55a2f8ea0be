# Fed to a root bash by standard input, followed by lines that say what to look at; answers one line per fact. Changes nothing.
#   asked:   text PATH | file PATH | directory PATH | package NAME | unit NAME | sysctl KEY, ended by "end"
#   answers: file PATH MODE OWNER GROUP SHA256 [BASE64] | missing PATH | package NAME VERSION | unit NAME ENABLED ACTIVE
#            sysctl KEY writable|fixed VALUE… | pending WORD… | engine BASE64 | system KEY VALUE | end
#            upgrade NAME VERSION
# shellcheck shell=bash
look() {
    set -u
    export LC_ALL=C
    # Waits for the end of an earlier run: a look in the middle of it would be of no use.
    if [[ -e /var/lib/infra/lock ]]; then
        exec 9</var/lib/infra/lock
        flock -s -w 50 9 || {
            echo "an earlier run is still at work on this host: try again in a minute" >&2
            exit 75
        }
    fi
    local kind name texts=() paths=() directories=() packages=() units=() sysctls=()
    while read -r kind name; do
        case $kind in
        text) texts+=("$name") paths+=("$name") ;;
        file) paths+=("$name") ;;
        directory) directories+=("$name") ;;
        package) packages+=("$name") ;;
        unit) units+=("$name") ;;
        sysctl) sysctls+=("$name") ;;
        end) break ;;
        esac
    done

    local path present=()
    for path in ${paths[@]+"${paths[@]}"}; do
        if [[ -f $path && ! -L $path ]]; then present+=("$path"); else echo "missing $path"; fi
    done
    if ((${#present[@]})); then
        local sums=()
        mapfile -t sums < <(sha256sum -- "${present[@]}")
        local index=0 about
        while IFS= read -r about; do
            path=${present[index]}
            local content=
            case " ${texts[*]-} " in *" $path "*) content=$(base64 -w0 <"$path") ;; esac
            echo "file $path $about ${sums[index]%% *} $content"
            index=$((index + 1))
        done < <(stat -c '%a %U %G' -- "${present[@]}")
    fi
    for path in ${directories[@]+"${directories[@]}"}; do
        if [[ -d $path && ! -L $path ]]; then
            echo "file $path $(stat -c '%a %U %G' -- "$path") -"
        else
            echo "missing $path"
        fi
    done

    if ((${#packages[@]})); then
        # shellcheck disable=SC2016
        dpkg-query -W -f '${db:Status-Status} ${Package} ${Version}\n' -- "${packages[@]}" 2>/dev/null |
            sed -n 's/^installed /package /p'
        apt-cache policy "${packages[@]}" 2>/dev/null | awk '
            /^[^ ].*:$/ { name = substr($1, 1, length($1) - 1) }
            $1 == "Installed:" { installed = $2 }
            $1 == "Candidate:" && installed != "(none)" && $2 != "(none)" && $2 != installed { print "upgrade", name, $2 }'
    fi
    if ((${#units[@]})); then
        # A blank line separates units; a missing one answers too. One that failed, and that systemd
        # is about to start again or has just begun to, does not run.
        systemctl show -p Id,UnitFileState,ActiveState,SubState -- "${units[@]}" | awk -F= '
            function flush() {
                if (sub_state ~ /^auto-restart/ || sub_state == "start-pre" || sub_state == "condition") active = "restarting"
                if (id != "") print "unit", id, (file == "" ? "absent" : file), active
                id = file = active = sub_state = ""
            }
            $1 == "Id" { id = $2 }
            $1 == "UnitFileState" { file = $2 }
            $1 == "ActiveState" { active = $2 }
            $1 == "SubState" { sub_state = $2 }
            NF == 0 { flush() }
            END { flush() }'
    fi
    local key
    for key in ${sysctls[@]+"${sysctls[@]}"}; do
        path=/proc/sys/${key//.//}
        local access=fixed
        if [[ -w $path ]]; then access=writable; fi
        echo "sysctl $key $access $(tr -s '\t' ' ' <"$path" 2>/dev/null)"
    done
    if [[ -s /var/lib/infra/pending ]]; then echo "pending $(tr '\n' ' ' </var/lib/infra/pending)"; fi
    if [[ -s /etc/infra/host.env && -s /etc/infra/admin.password ]]; then
        # shellcheck source=/dev/null
        . /etc/infra/host.env
        if [[ -S $INFRA_SOCKET ]]; then
            echo "engine $("$INFRA_CLIENT" -s "$INFRA_SOCKET" <<<"AUTH admin $(</etc/infra/admin.password)"$'\n'INFO 2>&1 | sed '1{/^OK$/d}' | base64 -w0)"
        fi
    fi
    echo "system boot_id $(</proc/sys/kernel/random/boot_id)"
    echo "system container $(systemd-detect-virt --container || true)"
    local answer=no
    if nft list table inet infra >/dev/null 2>&1; then answer=yes; fi
    echo "system firewall $answer"
    answer=no
    if [[ -e /run/reboot-required ]]; then answer=yes; fi
    echo "system reboot_required $answer"
    answer=no
    if [[ -n ${INFRA_UNIT-} ]]; then
        local engine
        engine=$(systemctl show -p MainPID --value "$INFRA_UNIT")
        if grep -q '\.so.* (deleted)$' "/proc/$engine/maps" 2>/dev/null; then answer=yes; fi
    fi
    echo "system outdated_libraries $answer"
    echo end
}
# One line, since the shell must not read the rest of standard input: look does.
look; exit
