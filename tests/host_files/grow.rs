//! The script that lets a root file system grow, on a loop device of its own, with and without a partition.

use super::host::templates;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The kernel's number of CAP_SYS_RESOURCE, without which ext4 does not grow while it is in use.
const SYS_RESOURCE: u64 = 24;

/// A mounted file system on a loop device, or on the only partition of one.
struct Disk {
    folder: tempfile::TempDir,
    device: String,
    partition: Option<String>,
}

impl Disk {
    fn whole() -> Self {
        let (folder, device) = device(64 << 20);
        let disk = Disk {
            folder,
            device,
            partition: None,
        };
        disk.mounted("ext4")
    }

    /// Has one partition up to the end, as the images of Debian have. The kernel learns of it by hand, since not every
    /// kernel reads partition tables itself.
    fn partitioned(kind: &str) -> Self {
        let (folder, device) = device(400 << 20);
        let partition = Some(format!("{device}p1"));
        let disk = Disk {
            folder,
            device,
            partition,
        };
        let table = "printf 'label: gpt\\nstart=2048, type=linux\\n' | sfdisk -q \"$0\"";
        said(Command::new("sh").args(["-c", table, &disk.device]));
        said(Command::new("partx").args(["--add", &disk.device]));
        disk.mounted(kind)
    }

    fn mounted(self, kind: &str) -> Self {
        let source = self.partition.as_ref().unwrap_or(&self.device);
        said(Command::new(format!("mkfs.{kind}")).args(["-q", source]));
        std::fs::create_dir(self.mount()).unwrap();
        said(Command::new("mount").arg(source).arg(self.mount()));
        self
    }

    fn mount(&self) -> PathBuf {
        self.folder.path().join("mount")
    }

    fn doubled(&self) {
        let image = std::fs::File::options()
            .write(true)
            .open(self.folder.path().join("disk"))
            .unwrap();
        image.set_len(image.metadata().unwrap().len() * 2).unwrap();
        said(Command::new("losetup").args(["--set-capacity", &self.device]));
    }

    fn bytes_of_the_partition(&self) -> u64 {
        let partition = self.partition.as_ref().unwrap();
        said(Command::new("blockdev").args(["--getsize64", partition]))
            .parse()
            .unwrap()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.mount()).status();
        if self.partition.is_some() {
            let _ = Command::new("partx").args(["--delete", &self.device]).status();
        }
        let _ = Command::new("losetup").args(["--detach", &self.device]).status();
    }
}

/// Returns a loop device of this size, and the folder with its file.
fn device(bytes: u64) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("disk");
    std::fs::File::create(&image).unwrap().set_len(bytes).unwrap();
    let device = said(Command::new("losetup").args(["--find", "--show"]).arg(&image));
    (folder, device)
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
    let disk = Disk::whole();
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
fn a_partition_in_use_and_its_file_system_take_all_of_a_disk_that_has_grown() {
    let disk = Disk::partitioned("xfs");
    let kept = disk.mount().join("kept");
    std::fs::write(&kept, "kept").unwrap();
    let look = || answer(&script("look", &disk.mount()));
    let (word, before) = look();
    assert_eq!(word, "whole");
    disk.doubled();
    assert_eq!(look(), ("small".into(), before));
    let (word, after) = answer(&script("grow", &disk.mount()));
    assert_eq!(word, "grown");
    assert!(after > before * 2, "{before} {after}");
    assert!(disk.bytes_of_the_partition() > 790 << 20);
    assert_eq!(look(), ("whole".into(), after));
    assert_eq!(answer(&script("grow", &disk.mount())), ("whole".into(), after));
    assert_eq!(std::fs::read_to_string(&kept).unwrap(), "kept");
}

/// A partition has grown, and the file system on it has not: the next run has to see that.
#[test]
fn a_file_system_that_is_smaller_than_its_partition_is_seen() {
    let disk = Disk::partitioned("ext4");
    let look = || answer(&script("look", &disk.mount())).0;
    assert_eq!(look(), "whole");
    disk.doubled();
    said(Command::new("growpart").args([&disk.device, "1"]));
    assert!(disk.bytes_of_the_partition() > 790 << 20);
    assert_eq!(look(), "small");
    let grown = script("grow", &disk.mount());
    assert_eq!(grown.status.success(), may_grow(), "{grown:?}");
    assert_eq!(look(), if may_grow() { "whole" } else { "small" });
}

#[test]
fn a_root_that_is_on_no_disk_of_its_own_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    said(Command::new("mount").args(["-t", "tmpfs", "tmpfs"]).arg(folder.path()));
    let answers = ["look", "grow"].map(|mode| answer(&script(mode, folder.path())).0);
    said(Command::new("umount").arg(folder.path()));
    assert_eq!(answers, ["whole", "whole"]);
}
