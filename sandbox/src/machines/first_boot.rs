//! Keeps a machine's apt busy after the first boot, as the upkeep of a cloud image does.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{Context, Result};

const UNIT: &str = "etc/systemd/system/infra-sandbox-apt.service";
const WANTED: &str = "etc/systemd/system/multi-user.target.wants/infra-sandbox-apt.service";
const SCRIPT: &str = "usr/share/infra-sandbox/busy-apt.py";

/// There are no lists, something holds their lock, and the mirror cannot be reached at first.
const PROGRAM: &str = r#"import fcntl, glob, os, time
mirror = "/usr/share/infra-sandbox/packages/Packages"
lock = open("/var/lib/apt/lists/lock", "w")
fcntl.lockf(lock, fcntl.LOCK_EX)
for path in glob.glob("/var/lib/apt/lists/*Packages*"):
    os.remove(path)
os.rename(mirror, mirror + ".gone")
time.sleep(20)
lock.close()
time.sleep(4)
os.rename(mirror + ".gone", mirror)
"#;

const SERVICE: &str = "[Unit]
Description=Keeps apt busy after the first boot
ConditionPathExists=!/var/lib/infra-sandbox-apt

[Service]
Type=exec
ExecStartPre=/usr/bin/touch /var/lib/infra-sandbox-apt
ExecStart=/usr/bin/python3 /usr/share/infra-sandbox/busy-apt.py
";

/// Puts the unit on a machine's mounted disk, once.
pub(super) fn keep_apt_busy(root: &Path) -> Result<()> {
    if root.join(UNIT).exists() {
        return Ok(());
    }
    let put = || {
        fs::create_dir_all(root.join("etc/systemd/system/multi-user.target.wants"))?;
        fs::write(root.join(SCRIPT), PROGRAM)?;
        fs::write(root.join(UNIT), SERVICE)?;
        symlink(Path::new("/").join(UNIT), root.join(WANTED))
    };
    put().context("keep a machine's apt busy")
}
