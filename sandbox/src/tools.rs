//! Checks this computer before anything is raised: root, Linux's tools, their Debian packages.

use std::path::Path;

use anyhow::{Result, bail};

/// A tool and the Debian package that has it.
const TOOLS: [(&str, &str); 10] = [
    ("systemd-nspawn", "systemd-container"),
    ("debootstrap", "debootstrap"),
    ("nft", "nftables"),
    ("ip", "iproute2"),
    ("redis-server", "redis-server"),
    ("python3", "python3-venv"),
    ("zstd", "zstd"),
    ("unshare", "util-linux"),
    ("setpriv", "util-linux"),
    ("chroot", "coreutils"),
];

/// Ubuntu has debootstrap without the keys that Debian's archive is signed with.
const DEBIAN_KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Root's own folders, which a PATH taken over by sudo may lack.
const SYSTEM_FOLDERS: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Fails unless the process is root: namespaces, mounts and bridges need it.
pub fn check_root(verb: &str) -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!(
            "`sandbox {verb}` makes network namespaces, mounts and a bridge: run it as root, as in `sudo sandbox {verb}`"
        );
    }
    Ok(())
}

/// Fails with the packages to install, if tools are missing.
pub fn check_tools() -> Result<()> {
    let path = search_path();
    let missing = TOOLS.iter().filter(|(tool, _)| !is_on_path(tool, &path));
    let mut missing: Vec<(&str, &str)> = missing.copied().collect();
    if !Path::new(DEBIAN_KEYS).exists() {
        missing.push((DEBIAN_KEYS, "debian-archive-keyring"));
    }
    if missing.is_empty() {
        return Ok(());
    }
    let (things, packages): (Vec<_>, Vec<_>) = missing.into_iter().unzip();
    bail!(
        "this computer lacks {}: install what is missing with `apt-get install {}`",
        things.join(", "),
        packages.join(" ")
    )
}

/// Returns PATH with the folders where Debian keeps root's tools.
pub fn search_path() -> String {
    match std::env::var("PATH") {
        Ok(path) if !path.is_empty() => format!("{path}:{SYSTEM_FOLDERS}"),
        _ => SYSTEM_FOLDERS.to_owned(),
    }
}

fn is_on_path(tool: &str, path: &str) -> bool {
    path.split(':').any(|folder| Path::new(folder).join(tool).is_file())
}
