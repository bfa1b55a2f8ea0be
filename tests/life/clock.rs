//! The clock of one machine, set while everything runs. The kernel's clock is this computer's and stays, so the machine's programs are given another
//! one: each that reads the clock by the C library, as the engine, the shell and sshd do. The agent for hosts is linked statically, and gives way to the
//! same sources linked otherwise.

use sandbox::machines::control_group;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use testkit::programs;

/// Where a machine has its clock, and the agent that reads it.
const CLOCK: &str = "etc/test-clock";
const LIBRARY: &str = "usr/local/lib/test-clock.so";
const AGENT: &str = "usr/local/lib/test-agent";

/// Puts the programs under that clock. They begin anew.
pub const BEGIN: &str = "set -e; mount --bind /usr/local/lib/test-agent /usr/local/sbin/infra-agent; echo /usr/local/lib/test-clock.so >/etc/ld.so.preload; \
    systemctl restart redis-server infra-agent";
/// Gives them the machine's own clock again.
pub const END: &str = "set -e; rm /etc/ld.so.preload; systemctl stop infra-agent; umount --lazy /usr/local/sbin/infra-agent; \
    systemctl restart redis-server; systemctl start infra-agent";
/// Says which second it is, and which programs are under the clock.
pub const LOOK: &str = "date +%s; for name in redis-server infra-agent; do grep -q test-clock /proc/$(systemctl show -P MainPID $name)/maps && echo $name; done";

/// The root folder of a machine, as this computer sees it. Its first processes may still have the computer's own.
fn root(instance: &str) -> PathBuf {
    let processes = control_group::processes(Some(instance));
    let mut roots = processes
        .into_iter()
        .map(|process| PathBuf::from(format!("/proc/{process}/root")));
    let is_the_machine = |root: &PathBuf| root.join("usr/local/sbin/infra-agent").exists();
    roots.find(is_the_machine).unwrap()
}

/// Brings the clock and the agent onto a machine. [`BEGIN`] puts its programs under it.
pub fn bring(instance: &str) {
    let root = root(instance);
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("clock.c");
    fs::write(&source, include_str!("../backups/clock.c")).unwrap();
    let built = Command::new("cc")
        .args(["-O1", "-Wall", "-Werror", "-shared", "-fPIC"])
        .arg(format!("-DCLOCK=\"/{CLOCK}\""))
        .arg("-o")
        .args([folder.path().join("clock.so"), source])
        .status();
    assert!(built.unwrap().success());
    put(&folder.path().join("clock.so"), &root.join(LIBRARY));
    put(&programs::built("infra-agent"), &root.join(AGENT));
    fs::write(root.join(CLOCK), [0; 8]).unwrap();
    fs::set_permissions(root.join(CLOCK), fs::Permissions::from_mode(0o644)).unwrap();
}

fn put(from: &Path, to: &Path) {
    fs::copy(from, to).unwrap();
    fs::set_permissions(to, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Sets the clock of all these programs at once, so many seconds off.
pub fn set(instance: &str, off: i64) {
    let file = File::options().write(true).open(root(instance).join(CLOCK)).unwrap();
    file.write_all_at(&off.to_ne_bytes(), 0).unwrap();
}
