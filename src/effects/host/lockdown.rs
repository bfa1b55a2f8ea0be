//! Protects a host: ssh settings, the metadata service closed to all but root, and security fixes
//! without an engine restart. Units confine the engine and our programs themselves. Pure.

use super::description::{Description, Directory, Reaction, Unit, root_file};
use super::exporters::forwarded;
use super::settings::Exporters;
use super::templates;

/// Read after the host key's file from first contact, and before the files of the image.
pub const SSH_SETTINGS: &str = "/etc/ssh/sshd_config.d/01-infra.conf";
/// The unit sets the rules again after a reboot. Facts read them from the kernel.
pub const FIREWALL: &str = "infra-firewall.service";

/// The line of the settings that leads nowhere.
const NO_FORWARDING: &str = "\nDisableForwarding yes\n";

/// Returns the settings of sshd. It may forward to exporters that listen on loopback, and to nothing else.
fn ssh_settings(exporters: Option<Exporters>) -> String {
    let forwarded = exporters.map(forwarded).unwrap_or_default();
    if forwarded.is_empty() {
        return templates::SSH.into();
    }
    let forwarded: Vec<String> = forwarded.iter().map(ToString::to_string).collect();
    let lines = format!(
        "\nAllowTcpForwarding local\nPermitOpen {}\nAllowStreamLocalForwarding no\nAllowAgentForwarding no\nX11Forwarding no\n",
        forwarded.join(" ")
    );
    templates::SSH.replace(NO_FORWARDING, &lines)
}

pub(super) fn describe(exporters: Option<Exporters>, description: &mut Description) {
    description
        .packages
        .extend(["nftables", "unattended-upgrades"].map(String::from));
    // Present without needrestart too, since another package may bring it.
    let folders = ["/etc/needrestart", "/etc/needrestart/conf.d"];
    let folders = folders.map(|path| Directory::of_root(path, "root", 0o755));
    description.directories.extend(folders);
    let reread = || Some(Reaction::Restart(FIREWALL.into()));
    description.files.extend([
        root_file(SSH_SETTINGS, 0o644, ssh_settings(exporters), Some(Reaction::ReloadSsh)),
        root_file("/etc/infra/firewall.nft", 0o600, templates::FIREWALL, reread()),
        root_file(
            "/etc/systemd/system/infra-firewall.service",
            0o644,
            templates::FIREWALL_UNIT,
            reread(),
        ),
        root_file("/etc/apt/apt.conf.d/60infra-upgrades", 0o644, templates::UPGRADES, None),
        root_file(
            "/etc/needrestart/conf.d/60-infra.conf",
            0o644,
            templates::NEEDRESTART,
            None,
        ),
    ]);
    let units = [FIREWALL, "apt-daily.timer", "apt-daily-upgrade.timer"];
    description.units.extend(units.map(Unit::running));
}
