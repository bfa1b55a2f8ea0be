//! Mounts below a folder, from the kernel's own list.

use std::fs;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, umount2};

/// Returns mount points below the folder or at it, the innermost first.
pub fn below(folder: &Path) -> Vec<PathBuf> {
    let list = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut found: Vec<_> = mount_points(&list)
        .into_iter()
        .filter(|point| point.starts_with(folder))
        .collect();
    found.sort();
    found.reverse();
    found
}

/// Unmounts them. A busy mount is detached and ends with its last user.
pub fn unmount_below(folder: &Path) {
    for point in below(folder) {
        if umount2(&point, MntFlags::UMOUNT_NOFOLLOW).is_err() {
            let _ = umount2(&point, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW);
        }
    }
}

/// Returns the fifth field of each line, in which blanks are octal escapes.
fn mount_points(list: &str) -> Vec<PathBuf> {
    list.lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|field| PathBuf::from(unescaped(field)))
        .collect()
}

fn unescaped(field: &str) -> String {
    field
        .replace("\\040", " ")
        .replace("\\011", "\t")
        .replace("\\012", "\n")
        .replace("\\134", "\\")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_with_blanks_are_read() {
        let list = "36 35 98:0 / /var/lib/a\\040b/root rw,noatime - overlay overlay rw\n";
        assert_eq!(mount_points(list), [PathBuf::from("/var/lib/a b/root")]);
    }
}
