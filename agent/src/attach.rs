//! Where following begins: at the end of what was shipped, where the files prove to hold it, or at the beginning of what the engine has.

use crate::clock;
use crate::engine::Look;
use crate::memory::Proven;
use crate::shared::Wanted;
use crate::ship::Shipper;
use crate::watch::Watch;
use anyhow::{Context, Result, bail};
use infra_agent::manifest::Manifest;
use infra_agent::name::{Chunk, TIMELINE};
use infra_agent::record::{Parent, Position, SCHEMA_VERSION, Timeline};
use infra_agent::scan::Boundary;
use jiff::Timestamp;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// A base of a small host is written in well under this.
const REWRITE: Duration = Duration::from_secs(1800);

/// An increment that is open at the place from which it was not shipped yet.
pub struct Attached {
    pub timeline: Timeline,
    pub position: Position,
    /// In force there.
    pub second: Option<i64>,
    pub until: i64,
    pub file: File,
}

impl Shipper {
    /// One attempt; an error says what it waits for.
    pub fn attach(&mut self) -> Result<Attached> {
        let look = self.engine.look()?;
        ready(&look)?;
        self.recover()?;
        // Before the list is read: what comes to be after that is told.
        if self.watch.is_none() {
            self.watch = Watch::open(&self.folder());
        }
        let manifest = self.manifest()?;
        let attached = match self.go_on(&look, &manifest)? {
            Some(attached) => attached,
            None => self.begin(&look, manifest)?,
        };
        self.gap = None;
        let (increment, second, id) = (
            attached.position.increment,
            attached.second,
            attached.timeline.id.clone(),
        );
        self.shared.change(|state| {
            if state.timeline != id {
                state.timeline = id;
                state.starts.clear();
            }
            state.starts.entry(increment).or_insert(second);
        });
        Ok(attached)
    }

    /// Pieces that wait on the disk and were not remembered.
    fn recover(&mut self) -> Result<()> {
        let Some(id) = self.memory.timeline.as_ref().map(|timeline| timeline.id.clone()) else {
            return Ok(());
        };
        for item in self.spool.items() {
            let Ok(chunk) = item.name.parse::<Chunk>() else {
                continue;
            };
            if item.timeline == id && chunk.number == self.memory.next {
                let body = self.spool.read(&item)?;
                self.memory.recover(chunk, &body)?;
            }
        }
        Ok(())
    }

    /// Goes on after what was shipped, if the file that it came from still holds it.
    fn go_on(&mut self, look: &Look, manifest: &Manifest) -> Result<Option<Attached>> {
        let Some(known) = self.memory.timeline.clone() else {
            return Ok(None);
        };
        if self.gap.is_some() {
            return Ok(None);
        }
        let increment = self.memory.increment().unwrap_or(known.start.increment);
        let Some(mut file) = self.same_file(increment, manifest) else {
            let why = format!("increment {increment} is gone: the engine has replaced it");
            self.declare(why, false);
            return Ok(None);
        };
        let proven = match self.memory.prove(increment, &mut file) {
            Some(proven) => proven,
            // Nothing was shipped yet that could be otherwise now.
            None if self.memory.increment().is_none() => Proven {
                position: known.start,
                boundary: Boundary {
                    offset: known.start.offset,
                    second: None,
                },
                all: true,
            },
            None => {
                self.declare(
                    format!("increment {increment} does not hold what was shipped of it"),
                    false,
                );
                return Ok(None);
            }
        };
        let until = self.memory.covered_until();
        let same = known.run_id == look.run_id && known.role == look.role && proven.all;
        let timeline = match same {
            true => {
                let begins = known.parent.is_none();
                self.shared
                    .change(|state| state.base_needed |= begins && !state.based.contains(&known.id));
                known
            }
            false => {
                let parent = Parent {
                    timeline: self.memory.owner_of(proven.position).unwrap_or(known.id),
                    up_to: proven.position,
                };
                self.open(look, proven.position, Some(parent))?
            }
        };
        Ok(Some(Attached {
            timeline,
            position: proven.position,
            second: proven.boundary.second,
            until: if proven.all { until } else { 0 },
            file,
        }))
    }

    /// The increment's file, by our own name for it if the engine has removed its own. Another file under the same name is not it.
    fn same_file(&self, increment: u64, manifest: &Manifest) -> Option<File> {
        let link = self.memory.link_path(increment);
        let listed = manifest.increment(increment).map(|file| self.folder().join(&file.name));
        match (File::open(&link), listed) {
            (Ok(file), Some(path)) => (inode(&link)? == inode(&path)?).then_some(file),
            (Ok(file), None) => Some(file),
            // Where links cannot be made, its name and its content have to do.
            (Err(_), Some(path)) => File::open(path).ok(),
            (Err(_), None) => None,
        }
    }

    /// A timeline that begins with the base on the disk, or with a new one where that is of no use.
    fn begin(&mut self, look: &Look, mut manifest: Manifest) -> Result<Attached> {
        if self.needs_rewrite {
            manifest = self.rewritten(&manifest)?;
            self.needs_rewrite = false;
        }
        let (Some(base), Some(increment)) = (&manifest.base, manifest.increments.first()) else {
            bail!("the engine has no base and no log yet");
        };
        let folder = self.folder();
        let start = Position {
            increment: increment.sequence,
            offset: 0,
        };
        let file = self.memory.link(increment.sequence, &folder.join(&increment.name))?;
        let held = self.settings.home.join("wanted.rdb");
        let _ = std::fs::remove_file(&held);
        let source = folder.join(&base.name);
        std::fs::hard_link(&source, &held)
            .or_else(|_| std::fs::copy(&source, &held).map(drop))
            .with_context(|| format!("keep {}", source.display()))?;
        let timeline = self.open(look, start, None)?;
        self.memory.forget_before(increment.sequence)?;
        let wanted = Wanted {
            timeline: timeline.id.clone(),
            start,
            began: clock::now(),
            file: held,
        };
        self.shared.change(|state| state.base_wanted = Some(wanted));
        Ok(Attached {
            timeline,
            position: start,
            second: None,
            until: 0,
            file,
        })
    }

    /// Has the engine write a base, since what it has on the disk cannot be used.
    fn rewritten(&mut self, before: &Manifest) -> Result<Manifest> {
        self.engine.rewrite()?;
        let end = Instant::now() + REWRITE;
        loop {
            std::thread::sleep(Duration::from_millis(300));
            let look = self.engine.look()?;
            if !look.forked {
                let manifest = self.manifest()?;
                if !look.last_rewrite_ok || manifest.base == before.base {
                    bail!("the engine could not write a base: see its log");
                }
                return Ok(manifest);
            }
            if Instant::now() > end {
                bail!(
                    "the engine did not finish a base within {} minutes",
                    REWRITE.as_secs() / 60
                );
            }
        }
    }

    fn open(&mut self, look: &Look, start: Position, parent: Option<Parent>) -> Result<Timeline> {
        let now = Timestamp::now();
        // Names say which of two timelines is the later one, also where the clock was set back in between.
        let known = self
            .memory
            .timeline
            .as_ref()
            .and_then(|known| known.id.split('-').next());
        let named = match known.and_then(clock::named) {
            Some(before) if before >= now => before + Duration::from_millis(1),
            _ => now,
        };
        let run: String = look.run_id.chars().take(8).collect();
        let timeline = Timeline {
            schema_version: SCHEMA_VERSION,
            id: format!("{}-{}-{run}", clock::name(named), self.settings.label),
            host: self.settings.label.clone(),
            run_id: look.run_id.clone(),
            role: look.role.clone(),
            version: look.version.clone(),
            started_at: clock::text(now),
            start,
            parent,
            // A follower's log begins anew with every full copy: the server that it follows has the data.
            gap: self.gap.clone().filter(|_| look.role == "master"),
        };
        let body = serde_json::to_vec_pretty(&timeline).context("write a timeline's record")?;
        // Its record goes out before any of its pieces, and is remembered after that: dying in between leaves an empty timeline, which says nothing.
        self.spool.add(&timeline.id, TIMELINE, &body)?;
        self.memory.begin(&timeline)?;
        eprintln!(
            "infra-agent: timeline {} begins at increment {} byte {}{}",
            timeline.id,
            start.increment,
            start.offset,
            match &timeline.parent {
                Some(parent) => format!(" and goes on from {}", parent.timeline),
                None => String::new(),
            }
        );
        Ok(timeline)
    }
}

fn ready(look: &Look) -> Result<()> {
    if look.loading || look.copying {
        bail!("the engine is loading its data");
    }
    if !look.log_enabled {
        bail!("the engine's append-only log is off");
    }
    Ok(())
}

fn inode(path: &Path) -> Option<(u64, u64)> {
    let file = std::fs::metadata(path).ok()?;
    Some((file.dev(), file.ino()))
}
