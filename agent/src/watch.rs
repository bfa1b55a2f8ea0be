//! Watches by inotify how increments begin, also those that no list showed.
//!
//! An engine that continues its log opens the next increment under its own name. After a full copy,
//! or when its log was off, it writes to another name and renames that file at the end. Source:
//! Redis 7 and 8, `aof.c`: `openNewIncrAofForAppend`. Newer Valkey makes the file of a full copy
//! its base and then opens an increment under its own name, with no manifest in between. Source:
//! Valkey, `aof.c`: `restartAOFWithSyncRdb`.

use crate::shared::Shared;
use infra_agent::manifest::FILE;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use std::path::Path;
use std::sync::Arc;

pub struct Watch {
    kernel: Inotify,
    /// A base has appeared, and no manifest since.
    base_came: bool,
}

impl Watch {
    /// Returns `None` if the kernel refuses; then only the manifests show how increments begin.
    pub fn open(folder: &Path) -> Option<Watch> {
        let watch = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).ok()?;
        watch
            .add_watch(folder, AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO)
            .ok()?;
        Some(Watch {
            kernel: watch,
            base_came: false,
        })
    }

    /// Notes everything that has appeared since the last call.
    pub fn note(&mut self, shared: &Arc<Shared>) {
        while let Ok(events) = self.kernel.read_events() {
            for event in events {
                let Some(name) = event.name.as_ref().map(|name| name.to_string_lossy()) else {
                    continue;
                };
                if name == FILE {
                    self.base_came = false;
                } else if name.starts_with("appendonly.aof.") && name.contains(".base.") {
                    self.base_came = true;
                }
                let Some(number) = number(&name) else { continue };
                let mut state = shared.lock();
                // The number is used again: joints from here on belong to files that are gone.
                state.joints.retain(|(_, end)| *end < number);
                if number > 1 && event.mask.contains(AddWatchFlags::IN_CREATE) && !self.base_came {
                    state.joints.insert((number - 1, number));
                }
            }
        }
    }
}

/// Returns the number of an increment from the name of its file.
fn number(name: &str) -> Option<u64> {
    name.strip_prefix("appendonly.aof.")?
        .strip_suffix(".incr.aof")?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_opened_increment_continues_the_log_and_a_renamed_one_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let shared = Arc::new(Shared::default());
        let mut watch = Watch::open(folder.path()).unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in [
            "appendonly.aof.2.incr.aof",
            "temp-appendonly.aof.incr",
            "appendonly.aof.3.base.rdb",
        ] {
            std::fs::write(path(name), b"").unwrap();
        }
        std::fs::rename(path("temp-appendonly.aof.incr"), path("appendonly.aof.3.incr.aof")).unwrap();
        watch.note(&shared);
        let joints: Vec<(u64, u64)> = shared.lock().joints.iter().copied().collect();
        assert_eq!(joints, [(1, 2)]);
    }

    #[test]
    fn an_increment_after_the_base_of_a_full_copy_does_not_continue_the_log() {
        let folder = tempfile::tempdir().unwrap();
        let shared = Arc::new(Shared::default());
        let mut watch = Watch::open(folder.path()).unwrap();
        let path = |name: &str| folder.path().join(name);
        let come = |name: &str| {
            std::fs::write(path("temp"), b"").unwrap();
            std::fs::rename(path("temp"), path(name)).unwrap();
        };
        let joints = |watch: &mut Watch| {
            watch.note(&shared);
            shared.lock().joints.iter().copied().collect::<Vec<_>>()
        };
        // A rewrite: the increment, a manifest, the base, a manifest.
        std::fs::write(path("appendonly.aof.2.incr.aof"), b"").unwrap();
        come(FILE);
        come("appendonly.aof.2.base.rdb");
        come(FILE);
        assert_eq!(joints(&mut watch), [(1, 2)]);
        // A full copy whose file becomes the base.
        come("appendonly.aof.3.base.rdb");
        std::fs::write(path("appendonly.aof.3.incr.aof"), b"").unwrap();
        come(FILE);
        assert_eq!(joints(&mut watch), [(1, 2)]);
        std::fs::write(path("appendonly.aof.4.incr.aof"), b"").unwrap();
        assert_eq!(joints(&mut watch), [(1, 2), (3, 4)]);
    }

    #[test]
    fn a_reused_number_drops_its_old_joints() {
        let folder = tempfile::tempdir().unwrap();
        let shared = Arc::new(Shared::default());
        shared.lock().joints.extend([(1, 2), (2, 3)]);
        let mut watch = Watch::open(folder.path()).unwrap();
        std::fs::write(folder.path().join("appendonly.aof.1.incr.aof"), b"").unwrap();
        watch.note(&shared);
        assert!(shared.lock().joints.is_empty());
    }
}
