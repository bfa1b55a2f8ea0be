//! Keeps the last AOF set of a replica, in case its master turns out to be empty or wrong.
//!
//! A full copy replaces everything: the engine begins a new AOF set and deletes the old files. The
//! agent gives all listed files a second name, which keeps them. An ordinary rewrite moves the
//! names to the new files. If a set was not seen to continue the one before, a full copy made it.
//! The one before then becomes the *last set*: for a week, until the next full copy, or until the
//! disk needs the room. A master keeps none: only a restore replaces its data, and that keeps the
//! old data itself.

use crate::clock;
use crate::engine::Engine;
use crate::generation::{Generation, Place, within};
use crate::kept::Kept;
use crate::settings::Settings;
use crate::shared::Shared;
use crate::watch::Watch;
use anyhow::{Context, Result};
use infra_agent::record::{self, Disk};
use jiff::{SignedDuration, Timestamp};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How often the manifest is read. Files that come and go between two looks get no second name.
const LOOK: Duration = Duration::from_millis(200);
/// How long the last set is kept.
const LONGEST: SignedDuration = SignedDuration::from_hours(7 * 24);

pub struct KeptSets {
    pub settings: Settings,
    pub engine: Engine,
    pub shared: Arc<Shared>,
    kept: Option<Kept>,
    watch: Option<Watching>,
}

/// Watches how the increments of one folder begin.
struct Watching {
    place: Place,
    watch: Watch,
    seen: Arc<Shared>,
}

impl KeptSets {
    pub fn new(settings: Settings, engine: Engine, shared: Arc<Shared>) -> Self {
        KeptSets {
            settings,
            engine,
            shared,
            kept: None,
            watch: None,
        }
    }

    pub fn run(&mut self) {
        loop {
            let done = self.look();
            self.shared
                .trouble("last AOF set", done.err().map(|error| format!("{error:#}")));
            std::thread::sleep(LOOK);
        }
    }

    fn look(&mut self) -> Result<()> {
        let folder = within(&self.settings.data);
        // Watching begins before the manifest is read, so that no later increment is missed.
        self.follow(&folder)?;
        let live = Generation::read(&folder)?;
        // Events are read after the manifest, so that they include every listed increment.
        if let Some(watching) = &mut self.watch {
            watching.watch.note(&watching.seen);
        }
        let mut kept = match self.kept.take() {
            Some(kept) => kept,
            None => Kept::open(self.settings.home.join("kept"))?,
        };
        // After an error the folder is opened again, which finishes a half-done step.
        if let Some(live) = live.filter(|live| kept.current() != Some(live)) {
            self.moved_on(&mut kept, &live, &folder)?;
        }
        self.make_room(&mut kept)?;
        self.shared.lock().kept = kept.last().map(|last| record::Kept {
            at: last.at.as_second(),
            bytes: last.bytes,
            folder: last.folder.display().to_string(),
        });
        self.kept = Some(kept);
        Ok(())
    }

    /// Watches the folder. Starts over if it was replaced: the new one has another history.
    fn follow(&mut self, folder: &Path) -> Result<()> {
        let place = Place::of(folder)?;
        if self.watch.as_ref().map(|watching| watching.place) != place {
            self.watch = place.and_then(|place| {
                Some(Watching {
                    place,
                    watch: Watch::open(folder)?,
                    seen: Arc::default(),
                })
            });
        }
        Ok(())
    }

    /// Takes over the engine's new set, and sets the old one aside if a full copy replaced it.
    fn moved_on(&mut self, kept: &mut Kept, live: &Generation, folder: &Path) -> Result<()> {
        let goes_on = kept.current().is_none_or(|current| match &self.watch {
            Some(watching) => live.goes_on_from(current, &watching.seen.lock().joints),
            None => live.goes_on_from(current, &Default::default()),
        });
        // The engine is asked last: if it does not answer it is loading, and the old set stays. A
        // replica is empty before its first copy, and after a copy from an empty master.
        if goes_on || kept.is_empty() || self.engine.look()?.role == "master" {
            kept.replace(live, folder)?;
            return Ok(());
        }
        let bytes = kept.current_bytes();
        if let Some(last) = kept.last().filter(|last| bytes < last.bytes / 10) {
            // The replaced set is much smaller than the last one, so the last one is worth more.
            eprintln!(
                "infra-agent: a full copy replaced an AOF set of {bytes} bytes; the one of {} bytes that was replaced at {} is kept on instead",
                last.bytes,
                clock::text(last.at)
            );
            kept.replace(live, folder)?;
        } else if kept.set_aside(live, folder, Timestamp::now())? {
            self.shared.trouble("room", None);
            eprintln!(
                "infra-agent: a full copy replaced the AOF set of this engine; the {bytes} bytes of the one before are kept in {}",
                kept.last()
                    .map_or_else(String::new, |last| last.folder.display().to_string())
            );
        }
        Ok(())
    }

    fn make_room(&self, kept: &mut Kept) -> Result<()> {
        let Some(last) = kept.last() else { return Ok(()) };
        let (at, bytes) = (clock::text(last.at), last.bytes);
        if Timestamp::now().duration_since(last.at) > LONGEST {
            kept.let_go()?;
            eprintln!("infra-agent: the AOF set that was replaced at {at} was kept for a week and is removed");
            return Ok(());
        }
        let disk = disk_of(&self.settings.home)?;
        if let Some(why) = too_full(disk, kept.current_bytes(), self.settings.keep_free_percent) {
            kept.let_go()?;
            self.shared.trouble(
                "room",
                Some(format!(
                    "the AOF set that a full copy replaced at {at} ({bytes} bytes) was removed early: {why}"
                )),
            );
        }
        Ok(())
    }
}

/// Returns the room on the disk that holds this path.
pub fn disk_of(path: &Path) -> Result<Disk> {
    let found = nix::sys::statvfs::statvfs(path).with_context(|| format!("look at the disk of {}", path.display()))?;
    Ok(Disk {
        free: found.blocks_available() * found.fragment_size(),
        all: found.blocks() * found.fragment_size(),
    })
}

/// Returns why the engine needs the room: each rewrite and full copy writes its data once more.
fn too_full(disk: Disk, live: u64, percent: u64) -> Option<String> {
    let wanted = (disk.all / 100 * percent).max(live);
    (disk.free < wanted).then(|| {
        format!(
            "the disk has {} MiB left, and {} are wanted for the engine",
            disk.free >> 20,
            wanted >> 20
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engine_comes_first_if_room_is_short() {
        let disk = |free| Disk { free, all: 100 << 20 };
        assert_eq!(too_full(disk(50 << 20), 20 << 20, 10), None);
        let few = too_full(disk(9 << 20), 1 << 20, 10).unwrap();
        assert!(few.contains("9 MiB") && few.contains("10 are wanted"), "{few}");
        let large = too_full(disk(20 << 20), 30 << 20, 10).unwrap();
        assert!(large.contains("30 are wanted"), "{large}");
    }
}
