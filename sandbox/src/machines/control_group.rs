//! A control group for each machine: no two inits share one, all of a machine can be ended, and its
//! programs have no more memory than an instance of its type.
//!
//! Two layouts are supported: version 2 alone, and the hybrid with version 1's `systemd` and
//! `memory` trees.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

const PARENT: &str = "infra-sb";

/// Returns the trees in which machines have groups, the version 2 tree first.
fn trees() -> Vec<PathBuf> {
    let candidates = [
        "/sys/fs/cgroup",
        "/sys/fs/cgroup/unified",
        "/sys/fs/cgroup/systemd",
        "/sys/fs/cgroup/memory",
    ];
    candidates
        .iter()
        .map(PathBuf::from)
        .filter(|tree| tree.join("cgroup.procs").exists())
        .collect()
}

/// Makes the machine's group in every tree; returns their `cgroup.procs` files. `memory_mib` is what
/// an instance of its type has.
pub fn create(instance: &str, memory_mib: Option<u64>) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for tree in trees() {
        let parent = tree.join(PARENT);
        let group = parent.join(instance);
        fs::create_dir_all(&group).with_context(|| format!("make the control group {}", group.display()))?;
        // Controllers only serve the machine's own units. It boots without them too.
        let _ = fs::write(parent.join("cgroup.subtree_control"), "+cpu +memory +pids");
        if let Some(memory) = memory_mib {
            limit(&group, memory).with_context(|| format!("limit the memory of {}", group.display()))?;
        }
        files.push(group.join("cgroup.procs"));
    }
    Ok(files)
}

/// Of an instance's memory the kernel and the firmware have a twelfth; no program gets it.
fn usable_bytes(memory_mib: u64) -> u64 {
    (memory_mib << 20) / 12 * 11
}

/// Limits memory where the tree can: by version 2's file or version 1's. Swap counts too, since an
/// instance has none.
fn limit(group: &Path, memory_mib: u64) -> std::io::Result<()> {
    let bytes = usable_bytes(memory_mib).to_string();
    for (file, value) in [
        ("memory.max", bytes.as_str()),
        ("memory.swap.max", "0"),
        ("memory.limit_in_bytes", &bytes),
        ("memory.memsw.limit_in_bytes", &bytes),
    ] {
        let file = group.join(file);
        if file.exists() {
            fs::write(file, value)?;
        }
    }
    Ok(())
}

/// Returns how often the kernel ended a program of a machine since its boot because its memory was full; `None` if the tree does not count.
pub fn killed_for_memory(instance: &str) -> Option<u64> {
    let counted = trees().into_iter().find_map(|tree| {
        let group = tree.join(PARENT).join(instance);
        ["memory.events", "memory.oom_control"]
            .iter()
            .find_map(|file| fs::read_to_string(group.join(file)).ok())
    })?;
    let line = counted.lines().find_map(|line| line.strip_prefix("oom_kill "))?;
    line.trim().parse().ok()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_micro_instance_has_a_little_less_than_its_gibibyte() {
        assert_eq!(usable_bytes(1024) >> 20, 938);
    }
}
