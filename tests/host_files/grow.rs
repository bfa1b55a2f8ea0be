//! The script that lets a root file system grow, on a loop device of its own.

use super::host::templates;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The kernel's number of CAP_SYS_RESOURCE, without which ext4 does not grow while it is in use.
const SYS_RESOURCE: u64 = 24;

struct Disk {
    folder: tempfile::TempDir,
    device: String,
}

impl Disk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("disk");
        std::fs::File::create(&image).unwrap().set_len(64 << 20).unwrap();
        let device = said(Command::new("losetup").args(["--find", "--show"]).arg(&image));
        let disk = Disk { folder, device };
        said(Command::new("mkfs.ext4").args(["-q", &disk.device]));
        std::fs::create_dir(disk.mount()).unwrap();
        said(Command::new("mount").arg(&disk.device).arg(disk.mount()));
        disk
    }

    fn mount(&self) -> PathBuf {
        self.folder.path().join("mount")
    }

    fn doubled(&self) {
        let image = self.folder.path().join("disk");
        std::fs::File::options()
            .write(true)
            .open(image)
            .unwrap()
            .set_len(128 << 20)
            .unwrap();
        said(Command::new("losetup").args(["--set-capacity", &self.device]));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.mount()).status();
        let _ = Command::new("losetup").args(["--detach", &self.device]).status();
    }
}

fn said(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_string()
}

fn script(mode: &str, mount: &Path) -> Output {
    let text = std::fs::read_to_string(templates().join("grow.sh")).unwrap();
    let text = format!("MODE={mode} MOUNT={}\n{text}", mount.display());
    let mut bash = Command::new("bash");
    let mut child = bash
        .arg("-s")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), text.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// Returns the word and the number of an answer.
#[track_caller]
fn answer(output: &Output) -> (String, u64) {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (word, bytes) = text.trim().split_once(' ').unwrap_or_else(|| panic!("{output:?}"));
    (word.into(), bytes.parse().unwrap())
}

fn may_grow() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
    u64::from_str_radix(line.trim(), 16).unwrap() >> SYS_RESOURCE & 1 == 1
}

#[test]
fn a_file_system_takes_all_of_a_disk_that_has_grown() {
    let disk = Disk::new();
    let look = || answer(&script("look", &disk.mount()));
    let (word, before) = look();
    assert_eq!(word, "whole");
    disk.doubled();
    assert_eq!(look(), ("small".into(), before));
    let grown = script("grow", &disk.mount());
    if may_grow() {
        let (word, after) = answer(&grown);
        assert_eq!(word, "grown");
        assert!(after > before * 3 / 2, "{before} {after}");
        assert_eq!(look().0, "whole");
        assert_eq!(answer(&script("grow", &disk.mount())), ("whole".into(), after));
    } else {
        // The kernel refuses here, and the script must not say otherwise.
        assert!(!grown.status.success() && grown.stdout.is_empty(), "{grown:?}");
        assert_eq!(look(), ("small".into(), before));
    }
}

#[test]
fn a_root_that_is_on_no_disk_of_its_own_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    said(Command::new("mount").args(["-t", "tmpfs", "tmpfs"]).arg(folder.path()));
    let answers = ["look", "grow"].map(|mode| answer(&script(mode, folder.path())).0);
    said(Command::new("umount").arg(folder.path()));
    assert_eq!(answers, ["whole", "whole"]);
}
