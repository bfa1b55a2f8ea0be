//! Protects a host: ssh settings, the metadata service closed to all but root, and security fixes
//! without an engine restart. Units confine the engine and our programs themselves. Pure.

use super::description::{Description, Directory, Reaction, Unit, root_file};
use super::templates;

/// Read after the host key's file from first contact, and before the files of the image.
pub const SSH_SETTINGS: &str = "/etc/ssh/sshd_config.d/01-infra.conf";
/// The unit sets the rules again after a reboot. Facts read them from the kernel.
pub const FIREWALL: &str = "infra-firewall.service";

pub(super) fn describe(description: &mut Description) {
    description
        .packages
        .extend(["nftables", "unattended-upgrades"].map(String::from));
    // Present without needrestart too, since another package may bring it.
    for path in ["/etc/needrestart", "/etc/needrestart/conf.d"] {
        description.directories.push(Directory {
            path: path.into(),
            owner: "root".into(),
            group: "root".into(),
            mode: 0o755,
        });
    }
    let reread = || Some(Reaction::Restart(FIREWALL.into()));
    description.files.extend([
        root_file(SSH_SETTINGS, 0o644, templates::SSH.into(), Some(Reaction::ReloadSsh)),
        root_file("/etc/infra/firewall.nft", 0o600, templates::FIREWALL.into(), reread()),
        root_file(
            "/etc/systemd/system/infra-firewall.service",
            0o644,
            templates::FIREWALL_UNIT.into(),
            reread(),
        ),
        root_file(
            "/etc/apt/apt.conf.d/60infra-upgrades",
            0o644,
            templates::UPGRADES.into(),
            None,
        ),
        root_file(
            "/etc/needrestart/conf.d/60-infra.conf",
            0o644,
            templates::NEEDRESTART.into(),
            None,
        ),
    ]);
    description.units.push(Unit {
        name: FIREWALL.into(),
        enabled: true,
        active: Some(true),
    });
    for timer in ["apt-daily.timer", "apt-daily-upgrade.timer"] {
        description.units.push(Unit {
            name: timer.into(),
            enabled: true,
            active: Some(true),
        });
    }
}
