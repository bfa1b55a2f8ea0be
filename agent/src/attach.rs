//! Finds where following begins: after what was shipped if the files still hold it, else at the
//! base and the first increment on the disk.

use crate::clock;
use crate::engine::Look;
use crate::force::{self, Force};
use crate::generation::Place;
use crate::memory::Proven;
use crate::shared::{Start, Wanted};
use crate::shipper::Shipper;
use crate::spool::second_name;
use crate::watch::Watch;
use anyhow::{Context, Result, bail};
use infra_agent::manifest::Manifest;
use infra_agent::name::TIMELINE;
use infra_agent::pauses::Pauses;
use infra_agent::record::{Parent, Position, SCHEMA_VERSION, Timeline};
use infra_agent::scan::Boundary;
use jiff::Timestamp;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Limit for one rewrite; a small host writes a base in much less.
const REWRITE: Duration = Duration::from_secs(1800);

/// An open increment, and the position behind what was shipped of it.
pub struct Attached {
    pub timeline: Timeline,
    pub position: Position,
    /// The second that was last annotated before `position`.
    pub second: Option<i64>,
    pub until: i64,
    pub file: File,
}

impl Attached {
    fn start(&self) -> Start {
        Start {
            timeline: self.timeline.id.clone(),
            run_id: self.timeline.run_id.clone(),
            second: self.second,
        }
    }
}

impl Shipper {
    /// Tries once to find the place; an error says what has to happen first.
    pub fn attach(&mut self) -> Result<Attached> {
        let look = self.engine.look()?;
        if look.loading || look.copying {
            // An engine that starts loads with its log on. Only a full copy turns the log off.
            if !look.log_enabled {
                self.stopped("the engine loads a full copy, and its append-only log is off meanwhile".into());
            }
            bail!("the engine is loading its data");
        }
        let force = self.force(&look);
        self.in_force(force)?;
        self.memory.recover(&self.spool)?;
        self.watch_folder()?;
        let manifest = self.manifest()?;
        let left = force::mark(&self.folder());
        if left.is_some() && left != self.memory.temporary() {
            self.stopped(format!(
                "a crash left {} behind: the engine's append-only log was not in force before",
                force::TEMPORARY
            ));
        }
        let attached = match self.go_on(&look, &manifest)? {
            Some(attached) => attached,
            None => self.begin(&look, manifest)?,
        };
        self.memory.set_temporary(left)?;
        self.memory.declared()?;
        self.unsure_since = None;
        self.shared.change(|state| {
            if attached.timeline.parent.is_none() && state.timeline != attached.timeline.id {
                state.starts.clear();
            }
            // A base belongs to the timeline in which its increment began.
            if attached.position.offset == 0 {
                state.starts.insert(attached.position.increment, attached.start());
            }
            state.timeline.clone_from(&attached.timeline.id);
        });
        Ok(attached)
    }

    /// Returns an error unless the log is in force. Declares a gap if writes do not reach it.
    fn in_force(&mut self, force: Force) -> Result<()> {
        match force {
            Force::Held => Ok(()),
            Force::Unclear => {
                bail!("the engine rewrites its log: whether the listed files get its writes is known when it has")
            }
            Force::Stopped(why) => {
                self.stopped(why.clone());
                bail!("{why}: see the engine's log if this lasts");
            }
        }
    }

    /// Declares, once, that the log does not hold what was written after its last segment.
    fn stopped(&mut self, why: String) {
        if self.memory.timeline.is_some() && self.memory.gap().is_none() {
            self.declare(why, false);
        }
    }

    /// Watches how increments begin; runs before the list is read. Starts over if the folder was
    /// replaced, as by a restore: the new folder has another history.
    fn watch_folder(&mut self) -> Result<()> {
        let place = Place::of(&self.folder())?;
        if self.place != place {
            self.place = place;
            self.watch = None;
            self.shared.lock().joints.clear();
        }
        if self.watch.is_none() {
            self.watch = Watch::open(&self.folder());
        }
        Ok(())
    }

    /// Continues after what was shipped; `None` if its file does not hold that any more.
    fn go_on(&mut self, look: &Look, manifest: &Manifest) -> Result<Option<Attached>> {
        let Some(known) = self.memory.timeline.clone() else {
            return Ok(None);
        };
        if known.run_id != look.run_id && self.unsure_since.is_some() {
            self.stopped("the engine ended while it was not known whether its append-only log was in force".into());
        }
        if self.memory.gap().is_some() {
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
            // Without a shipped segment there is nothing to prove.
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
        let timeline = if same {
            let begins = known.parent.is_none();
            self.shared
                .change(|state| state.base_needed |= begins && !state.based.contains(&known.id));
            known
        } else {
            let parent = Parent {
                timeline: self.memory.owner_of(proven.position).unwrap_or(known.id),
                up_to: proven.position,
            };
            self.open(look, proven.position, Some(parent))?
        };
        Ok(Some(Attached {
            timeline,
            position: proven.position,
            second: proven.boundary.second,
            until: if proven.all { until } else { 0 },
            file,
        }))
    }

    /// Returns the increment's file, by the agent's link if the engine removed its own name; `None`
    /// if the name stands for another file now.
    fn same_file(&self, increment: u64, manifest: &Manifest) -> Option<File> {
        let link = self.memory.link_path(increment);
        let listed = manifest.increment(increment).map(|file| self.folder().join(&file.name));
        match (File::open(&link), listed) {
            (Ok(file), Some(path)) => (inode(&link)? == inode(&path)?).then_some(file),
            (Ok(file), None) => Some(file),
            // Without a link, only the name and later the content identify the file.
            (Err(_), Some(path)) => File::open(path).ok(),
            (Err(_), None) => None,
        }
    }

    /// Begins a timeline with the base on the disk, or with a new base if that one is of no use.
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
        let held = self.hold_base(&folder.join(&base.name))?;
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

    /// Gives the base on the disk a second name. Removes the base that an earlier timeline wanted,
    /// so that it is not taken for this one.
    fn hold_base(&self, base: &Path) -> Result<PathBuf> {
        let home = &self.settings.home;
        for entry in std::fs::read_dir(home).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with("wanted") && name.ends_with(".rdb") {
                std::fs::remove_file(entry.path()).with_context(|| format!("remove {name}"))?;
            }
        }
        let held = home.join(format!("wanted-{}.rdb", clock::name(Timestamp::now())));
        second_name(base, &held)?;
        Ok(held)
    }

    /// Has the engine write a base, since what it has on the disk cannot be used.
    fn rewritten(&mut self, before: &Manifest) -> Result<Manifest> {
        self.engine.rewrite()?;
        let mut pauses = Pauses::even(Duration::from_millis(300)).until(Instant::now() + REWRITE);
        while pauses.again() {
            let look = self.engine.look()?;
            if !look.forked {
                let force = self.force(&look);
                self.in_force(force)?;
                let manifest = self.manifest()?;
                if !look.last_rewrite_ok || manifest.base == before.base {
                    bail!("the engine could not write a base: see its log");
                }
                return Ok(manifest);
            }
        }
        bail!(
            "the engine did not finish a base within {} minutes",
            REWRITE.as_secs() / 60
        )
    }

    fn open(&mut self, look: &Look, start: Position, parent: Option<Parent>) -> Result<Timeline> {
        let now = Timestamp::now();
        // Names sort by time: a later timeline gets a later name, even if the clock was set back.
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
            // A replica declares no gap: full copies restart its log, and its master has the data.
            gap: self.memory.gap().cloned().filter(|_| look.role == "master"),
        };
        let body = serde_json::to_vec_pretty(&timeline).context("write a timeline's record")?;
        // The record enters the spool first: a crash here leaves a timeline that claims nothing.
        self.spool.add(&timeline.id, TIMELINE, &body)?;
        self.memory.begin(&timeline)?;
        self.spool.release();
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

fn inode(path: &Path) -> Option<(u64, u64)> {
    let file = std::fs::metadata(path).ok()?;
    Some((file.dev(), file.ino()))
}
