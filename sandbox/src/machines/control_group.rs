//! A control group for each machine: no two inits share one, all of a machine can be ended, and its
//! programs have no more memory than an instance of its type. A test can limit its processors too.
//!
//! Two layouts are supported: version 2 alone, and the hybrid with version 1's `systemd`, `memory`
//! and `cpu` trees.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

const PARENT: &str = "infra-sb";
/// Microseconds in which a machine gets its share of the processors once.
const PERIOD_US: u64 = 10_000;

/// Returns the trees in which machines have groups, the version 2 tree first.
fn trees() -> Vec<PathBuf> {
    let candidates = [
        "/sys/fs/cgroup",
        "/sys/fs/cgroup/unified",
        "/sys/fs/cgroup/systemd",
        "/sys/fs/cgroup/memory",
        "/sys/fs/cgroup/cpu",
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

/// Returns what the programs of an instance may have: the kernel and the firmware keep a twelfth of its memory.
pub fn usable_bytes(memory_mib: u64) -> u64 {
    (memory_mib << 20) / 12 * 11
}

/// Limits memory where the tree can: by version 2's file or version 1's. Swap counts too, since an
/// instance has none.
fn limit(group: &Path, memory_mib: u64) -> std::io::Result<()> {
    let bytes = usable_bytes(memory_mib).to_string();
    for (file, value) in [
        ("memory.max", bytes.as_str()),
        ("memory.swap.max", "0"),
        // Version 1 refuses a limit above that of memory and swap together.
        ("memory.memsw.limit_in_bytes", "-1"),
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

/// Gives a running machine the memory of another type.
pub fn limit_memory(instance: &str, memory_mib: u64) -> Result<()> {
    for group in groups(instance) {
        limit(&group, memory_mib).with_context(|| format!("limit the memory of {}", group.display()))?;
    }
    Ok(())
}

/// Lets a running machine use so many hundredths of one processor; `None`: as much as there is.
pub fn limit_processors(instance: &str, percent: Option<u64>) -> Result<()> {
    let quota = percent.map(|percent| PERIOD_US * percent / 100);
    let mut limited = false;
    for group in groups(instance) {
        let (both, period, own) = (
            group.join("cpu.max"),
            group.join("cpu.cfs_period_us"),
            group.join("cpu.cfs_quota_us"),
        );
        let writes = if both.exists() {
            let quota = quota.map_or("max".into(), |quota| quota.to_string());
            vec![(both, format!("{quota} {PERIOD_US}"))]
        } else if own.exists() {
            let quota = quota.map_or("-1".into(), |quota| quota.to_string());
            vec![(period, PERIOD_US.to_string()), (own, quota)]
        } else {
            continue;
        };
        for (file, value) in writes {
            fs::write(&file, value).with_context(|| format!("write {}", file.display()))?;
        }
        limited = true;
    }
    ensure!(
        limited,
        "limit the processors of {instance}: this computer's control groups have no `cpu`"
    );
    Ok(())
}

/// Returns the groups of a machine that there are.
fn groups(instance: &str) -> impl Iterator<Item = PathBuf> {
    let groups = trees().into_iter().map(move |tree| tree.join(PARENT).join(instance));
    groups.filter(|group| group.exists())
}

/// Returns in how many periods a machine had used up its share of the processors; `None` if no tree counts.
pub fn throttled(instance: &str) -> Option<u64> {
    groups(instance).find_map(|group| number(&group.join("cpu.stat"), &["nr_throttled"]))
}

/// Returns the bytes that a machine's programs have in memory, without cached files; `None` if no tree counts.
pub fn memory_of_programs(instance: &str) -> Option<u64> {
    groups(instance).find_map(|group| {
        let stat = group.join("memory.stat");
        let own = number(&stat, &["anon", "total_rss"])?;
        Some(own + number(&stat, &["shmem", "total_shmem"]).unwrap_or(0))
    })
}

/// Returns the number in a file of names and numbers under the last of these names that it has.
fn number(file: &Path, names: &[&str]) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    let of = |name: &&str| {
        let mut lines = text.lines().filter_map(|line| line.split_once(' '));
        lines.find(|(found, _)| found == name)?.1.trim().parse().ok()
    };
    // Version 1 has `shmem` without what its children have, and `total_shmem` with it.
    names.iter().rev().find_map(of)
}

/// Returns how often the kernel ended a program of a machine since its boot because its memory was full; `None` if the tree does not count.
pub fn killed_for_memory(instance: &str) -> Option<u64> {
    let files = ["memory.events", "memory.oom_control"];
    groups(instance).find_map(|group| files.iter().find_map(|file| number(&group.join(file), &["oom_kill"])))
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

    #[test]
    fn a_number_is_found_under_the_name_of_either_version() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("memory.stat");
        let names = ["shmem", "total_shmem"];
        assert_eq!(number(&file, &names), None);
        fs::write(&file, "anon 7\nshmem 12\nshmem_thp 3\n").unwrap();
        assert_eq!(number(&file, &names), Some(12));
        fs::write(&file, "shmem 0\ntotal_shmem 34\n").unwrap();
        assert_eq!(number(&file, &names), Some(34));
    }
}
