//! Keeps the last generation of an engine that follows another, for the day on which that one turns out to be empty or wrong.
//!
//! A full copy replaces everything: the engine begins a new generation and deletes the files of the one before. Here they have a second name, from the moment in which
//! the manifest lists them. An ordinary rewrite moves these names on. A generation that was not seen to go on from the one before counts as a full copy's, and the one
//! before becomes the *last generation*: for a week, until the next full copy, or until the disk needs the room.
//!
//! An engine that follows nobody has nothing set aside: its data is replaced by nothing but a restore, which keeps what it replaces by itself.

use crate::clock;
use crate::engine::Engine;
use crate::generation::{Generation, Place, within};
use crate::kept::Kept;
use crate::settings::Settings;
use crate::shared::Shared;
use crate::watch::Watch;
use anyhow::{Context, Result};
use infra_agent::record;
use jiff::{SignedDuration, Timestamp};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How often the manifest is looked at: what begins and is replaced between two looks has no second name.
const LOOK: Duration = Duration::from_millis(200);
/// How long a last generation is of use.
const LONGEST: SignedDuration = SignedDuration::from_hours(7 * 24);

pub struct Keeper {
    pub settings: Settings,
    pub engine: Engine,
    pub shared: Arc<Shared>,
    kept: Option<Kept>,
    watch: Option<Watching>,
}

/// How the increments of one folder came to be.
struct Watching {
    place: Place,
    watch: Watch,
    seen: Arc<Shared>,
}

/// Bytes of a file system.
#[derive(Clone, Copy, Debug)]
struct Disk {
    free: u64,
    all: u64,
}

impl Keeper {
    pub fn new(settings: Settings, engine: Engine, shared: Arc<Shared>) -> Self {
        Keeper {
            settings,
            engine,
            shared,
            kept: None,
            watch: None,
        }
    }

    /// For ever.
    pub fn run(&mut self) {
        loop {
            let done = self.look();
            self.shared
                .trouble("last generation", done.err().map(|error| format!("{error:#}")));
            std::thread::sleep(LOOK);
        }
    }

    fn look(&mut self) -> Result<()> {
        let folder = within(&self.settings.data);
        // Before the list is read: what comes to be after that is told.
        self.follow(&folder)?;
        let live = Generation::read(&folder)?;
        // After it: how everything in the list came to be is known.
        if let Some(watching) = &mut self.watch {
            watching.watch.note(&watching.seen);
        }
        let mut kept = match self.kept.take() {
            Some(kept) => kept,
            None => Kept::open(self.settings.home.join("kept"))?,
        };
        // After an error the folder is opened anew, which finishes what was half done.
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

    /// A folder that was put in another's place has another history.
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

    /// The engine's list is another than the one that is kept.
    fn moved_on(&mut self, kept: &mut Kept, live: &Generation, folder: &Path) -> Result<()> {
        let goes_on = kept.current().is_none_or(|current| match &self.watch {
            Some(watching) => live.goes_on_from(current, &watching.seen.lock().joints),
            None => live.goes_on_from(current, &Default::default()),
        });
        // Asked only then: an engine that does not answer is still loading, and what it had is kept until it does.
        // A replica is empty until its first copy, and after one from an empty master.
        if goes_on || kept.is_empty() || self.engine.look()?.role == "master" {
            kept.replace(live, folder)?;
            return Ok(());
        }
        let bytes = kept.current_bytes();
        if let Some(last) = kept.last().filter(|last| bytes < last.bytes / 10) {
            // One after the other came up empty: what they were empty of is what is wanted.
            eprintln!(
                "infra-agent: a full copy replaced a generation of {bytes} bytes; the one of {} bytes that was replaced at {} is kept on instead",
                last.bytes,
                clock::text(last.at)
            );
            kept.replace(live, folder)?;
        } else if kept.set_aside(live, folder, Timestamp::now())? {
            self.shared.trouble("room", None);
            eprintln!(
                "infra-agent: a full copy replaced the generation of this engine; the {bytes} bytes of the one before are kept in {}",
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
            eprintln!("infra-agent: the generation that was replaced at {at} was kept for a week and is removed");
            return Ok(());
        }
        let disk = Disk::of(&self.settings.home)?;
        if let Some(why) = too_full(disk, kept.current_bytes(), self.settings.keep_free_percent) {
            kept.let_go()?;
            self.shared.trouble(
                "room",
                Some(format!(
                    "the generation that a full copy replaced at {at} ({bytes} bytes) was removed early: {why}"
                )),
            );
        }
        Ok(())
    }
}

impl Disk {
    fn of(path: &Path) -> Result<Disk> {
        let found =
            nix::sys::statvfs::statvfs(path).with_context(|| format!("look at the disk of {}", path.display()))?;
        Ok(Disk {
            free: found.blocks_available() * found.fragment_size(),
            all: found.blocks() * found.fragment_size(),
        })
    }
}

/// The engine writes its data once more at every rewrite and every full copy: it needs that room before anything is kept.
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
    fn the_engine_comes_first_where_room_is_short() {
        let disk = |free| Disk { free, all: 100 << 20 };
        assert_eq!(too_full(disk(50 << 20), 20 << 20, 10), None);
        let few = too_full(disk(9 << 20), 1 << 20, 10).unwrap();
        assert!(few.contains("9 MiB") && few.contains("10 are wanted"), "{few}");
        let large = too_full(disk(20 << 20), 30 << 20, 10).unwrap();
        assert!(large.contains("30 are wanted"), "{large}");
    }
}
