//! A control group for each machine: no two inits share one, and all of a machine can be ended.
//!
//! Two layouts are supported: version 2 alone, and the hybrid with version 1's `systemd` tree.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

const PARENT: &str = "infra-sb";

/// Returns the trees in which machines have groups, the version 2 tree first.
fn trees() -> Vec<PathBuf> {
    let candidates = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd"];
    candidates
        .iter()
        .map(PathBuf::from)
        .filter(|tree| tree.join("cgroup.procs").exists())
        .collect()
}

/// Makes the machine's group in every tree; returns their `cgroup.procs` files.
pub fn create(instance: &str) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for tree in trees() {
        let parent = tree.join(PARENT);
        let group = parent.join(instance);
        fs::create_dir_all(&group).with_context(|| format!("make the control group {}", group.display()))?;
        // Controllers only serve the machine's own units. It boots without them too.
        let _ = fs::write(parent.join("cgroup.subtree_control"), "+cpu +memory +pids");
        files.push(group.join("cgroup.procs"));
    }
    Ok(files)
}

/// Returns all processes in groups of the sandbox, or of one machine.
pub fn processes(instance: Option<&str>) -> Vec<i32> {
    let mut found = Vec::new();
    for tree in trees() {
        let top = instance.map_or_else(|| tree.join(PARENT), |instance| tree.join(PARENT).join(instance));
        walk(&top, &mut |group| {
            let text = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
            found.extend(
                text.lines()
                    .filter_map(|line| line.parse::<i32>().ok())
                    .filter(|pid| *pid > 0),
            );
        });
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// Removes the groups of one machine, or all. Their processes must be gone, or go within moments.
pub fn remove(instance: Option<&str>) {
    for _ in 0..20 {
        let mut left = false;
        for tree in trees() {
            let top = instance.map_or_else(|| tree.join(PARENT), |instance| tree.join(PARENT).join(instance));
            walk(&top, &mut |group| {
                left |= fs::remove_dir(group).is_err();
            });
        }
        if !left {
            return;
        }
        std::thread::sleep(Duration::from_millis(25));
    }
}

pub fn left_over() -> Vec<PathBuf> {
    trees()
        .into_iter()
        .map(|tree| tree.join(PARENT))
        .filter(|group| group.exists())
        .collect()
}

/// Visits children before parents.
fn walk(group: &Path, visit: &mut dyn FnMut(&Path)) {
    if let Ok(entries) = fs::read_dir(group) {
        for entry in entries.flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                walk(&entry.path(), visit);
            }
        }
        visit(group);
    }
}
