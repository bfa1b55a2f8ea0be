//! How the increments of the log come to be, as the kernel tells it, also of one that lived too short to be seen in a list.
//!
//! The engine opens an increment under its own name when it goes on from the one before; after a full copy from another server, or when its log was off, it collects
//! under another name and renames that in the end. Source: Redis 7 and 8, `aof.c`: `openNewIncrAofForAppend`.

use crate::shared::Shared;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use std::path::Path;
use std::sync::Arc;

pub struct Watch(Inotify);

impl Watch {
    /// Nothing where the kernel refuses: then only lists tell.
    pub fn open(folder: &Path) -> Option<Watch> {
        let watch = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).ok()?;
        watch
            .add_watch(folder, AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO)
            .ok()?;
        Some(Watch(watch))
    }

    /// Takes note of everything that has come to be since it was last asked.
    pub fn note(&mut self, shared: &Arc<Shared>) {
        while let Ok(events) = self.0.read_events() {
            for event in events {
                let number = event.name.as_ref().and_then(|name| number(&name.to_string_lossy()));
                let Some(number) = number.filter(|number| *number > 1) else {
                    continue;
                };
                let joint = (number - 1, number);
                let mut state = shared.lock();
                if event.mask.contains(AddWatchFlags::IN_CREATE) {
                    state.joints.insert(joint);
                } else {
                    state.joints.remove(&joint);
                }
            }
        }
    }
}

/// The number of an increment by the name of its file.
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
    fn an_increment_that_was_opened_goes_on_and_one_that_was_renamed_does_not() {
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
}
