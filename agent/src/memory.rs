//! Remembers the timeline that the agent writes: enough to prove, after a crash of the engine or
//! the agent, that the log's files still hold what was shipped.

use crate::force::Mark;
use crate::spool::{Item, Spool, write_durably};
use anyhow::{Context, Result};
use infra_agent::digest;
use infra_agent::name::Segment;
use infra_agent::record::{Gap, Position, Timeline};
use infra_agent::scan::Boundary;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A segment in the record.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub struct Cut {
    pub timeline: String,
    pub name: String,
    /// The SHA-256 of the uncompressed bytes, in hexadecimal.
    pub plain_sha256: String,
}

/// The timeline, and the segments of its newest increments.
pub struct Memory {
    folder: PathBuf,
    pub timeline: Option<Timeline>,
    cuts: Vec<(Segment, Cut)>,
    /// The number that the next segment gets.
    pub next: u64,
    /// The gap that the next timeline has to declare.
    gap: Option<Gap>,
    /// The temporary increment as it was when the log was last known to be in force.
    temporary: Option<Mark>,
}

/// Names the newest timeline that begins without a parent, until a base for it is in the bucket.
const BASELESS: &str = "baseless";
const GAP: &str = "gap.json";
const TEMPORARY: &str = "temporary.json";

/// How far a file holds what was shipped, and where to continue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proven {
    pub position: Position,
    pub boundary: Boundary,
    /// True if the file holds everything that was shipped.
    pub all: bool,
}

impl Memory {
    pub fn open(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder.join("links")).with_context(|| format!("open {}", folder.display()))?;
        let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap_or_default();
        // A damaged record counts as none: a new timeline begins.
        let timeline = serde_json::from_str(&read("timeline.json")).ok();
        let written = read("cuts.log");
        let cuts: Vec<(Segment, Cut)> = written.lines().filter_map(parse_cut).collect();
        let mut memory = Memory {
            folder: folder.into(),
            timeline,
            cuts,
            next: 1,
            gap: serde_json::from_str(&read(GAP)).ok(),
            temporary: serde_json::from_str(&read(TEMPORARY)).ok(),
        };
        memory.next = memory.last().map_or(1, |segment| segment.number + 1);
        if !written.is_empty() && !written.ends_with('\n') {
            // The next line would be appended to the half line and be lost with it.
            memory.write_cuts()?;
        }
        Ok(memory)
    }

    pub fn gap(&self) -> Option<&Gap> {
        self.gap.as_ref()
    }

    /// Remembers a gap, also after a crash. If the disk refuses it, only this process knows it.
    pub fn declare(&mut self, gap: Gap) -> Result<()> {
        let text = serde_json::to_vec(&gap).context("write the gap of the log")?;
        self.gap = Some(gap);
        write_durably(&self.folder.join(GAP), &text)
    }

    /// Forgets the gap: a timeline's record declares it now.
    pub fn declared(&mut self) -> Result<()> {
        if self.gap.take().is_some() {
            remove(&self.folder.join(GAP))?;
        }
        Ok(())
    }

    /// Returns the mark that the temporary increment had when the log was last in force.
    pub fn temporary(&self) -> Option<Mark> {
        self.temporary
    }

    pub fn set_temporary(&mut self, mark: Option<Mark>) -> Result<()> {
        if self.temporary == mark {
            return Ok(());
        }
        let path = self.folder.join(TEMPORARY);
        match &mark {
            Some(mark) => write_durably(&path, &serde_json::to_vec(mark).context("write a mark")?)?,
            None => remove(&path)?,
        }
        self.temporary = mark;
        Ok(())
    }

    /// Returns the name of the remembered segment of this timeline with that number.
    fn named(&self, number: u64) -> Option<&str> {
        let mine = |(segment, cut): &&(Segment, Cut)| cut.timeline == self.id() && segment.number == number;
        self.cuts.iter().find(mine).map(|(_, cut)| cut.name.as_str())
    }

    fn id(&self) -> &str {
        self.timeline.as_ref().map_or("", |timeline| &timeline.id)
    }

    /// Begins a timeline. The segments of its parent stay, and are compared with the files later.
    pub fn begin(&mut self, timeline: &Timeline) -> Result<()> {
        match &timeline.parent {
            None => self.cuts.clear(),
            Some(parent) => self.cuts.retain(|(segment, _)| {
                let end = Position {
                    increment: segment.increment,
                    offset: segment.to,
                };
                end <= parent.up_to
            }),
        }
        // Segments name their timeline, so none is taken for another's if the agent crashes here.
        self.write_cuts()?;
        let text = serde_json::to_vec(timeline).context("write a timeline's record")?;
        if timeline.parent.is_none() {
            write_durably(&self.folder.join(BASELESS), timeline.id.as_bytes())?;
        }
        write_durably(&self.folder.join("timeline.json"), &text)?;
        self.timeline = Some(timeline.clone());
        self.next = 1;
        Ok(())
    }

    fn write_cuts(&self) -> Result<()> {
        let text: String = self
            .cuts
            .iter()
            .filter_map(|(_, cut)| serde_json::to_string(cut).ok())
            .map(|line| line + "\n")
            .collect();
        write_durably(&self.folder.join("cuts.log"), text.as_bytes())
    }

    /// Returns the newest segment of this timeline.
    pub fn last(&self) -> Option<&Segment> {
        let (segment, cut) = self.cuts.last()?;
        (cut.timeline == self.id()).then_some(segment)
    }

    /// Returns the increment of the newest segment of this timeline or its parent.
    pub fn increment(&self) -> Option<u64> {
        self.cuts.last().map(|(segment, _)| segment.increment)
    }

    /// Returns the timeline whose segment ends there.
    pub fn owner_of(&self, end: Position) -> Option<String> {
        let piece = self.cuts.iter().rev().find(|(segment, _)| {
            let its_end = Position {
                increment: segment.increment,
                offset: segment.to,
            };
            its_end == end
        });
        piece.map(|(_, cut)| cut.timeline.clone())
    }

    /// Returns the last second that a segment of this timeline or its parent covers.
    pub fn covered_until(&self) -> i64 {
        let declared = || self.timeline.as_ref()?.gap.as_ref().map(|gap| gap.after);
        match self.cuts.last() {
            Some((segment, _)) => segment.until,
            // Before its first segment, a timeline with a gap covers what came before the gap.
            None => declared().unwrap_or(0),
        }
    }

    /// Returns the last covered second if all waiting items but the oldest are dropped.
    /// `shipped`: the last second that is known to be in the bucket.
    pub fn covered_without(&self, waiting: &[Item], shipped: i64) -> i64 {
        let segment = |item: &Item| item.name.parse::<Segment>().ok();
        if let Some(kept) = waiting.first().and_then(segment) {
            return kept.until;
        }
        let dropped = waiting
            .iter()
            .find_map(|item| Some((item.timeline.as_str(), segment(item)?)));
        let Some((timeline, dropped)) = dropped else {
            return self.covered_until();
        };
        let is_it = |(segment, cut): &(Segment, Cut)| cut.timeline == timeline && segment.number == dropped.number;
        let before = self.cuts.iter().position(is_it).and_then(|at| at.checked_sub(1));
        match before.and_then(|at| self.cuts.get(at)) {
            Some((segment, _)) => segment.until,
            None => shipped,
        }
    }

    /// Remembers a segment that lies in the spool.
    pub fn add(&mut self, segment: Segment, plain_sha256: String) -> Result<()> {
        let path = self.folder.join("cuts.log");
        let doing = || format!("write {}", path.display());
        let cut = Cut {
            timeline: self.id().into(),
            name: segment.to_string(),
            plain_sha256,
        };
        let line = serde_json::to_string(&cut).with_context(doing)? + "\n";
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .open(&path)
            .with_context(doing)?;
        let before = file.metadata().with_context(doing)?.len();
        let written = file.write_all(line.as_bytes()).and_then(|()| file.sync_data());
        if let Err(error) = written {
            // A half line would spoil the next one.
            let _ = file.set_len(before);
            return Err(error).with_context(doing);
        }
        self.next = segment.number + 1;
        self.cuts.push((segment, cut));
        Ok(())
    }

    /// Remembers segments that only the spool has, because the agent crashed or the disk was full.
    /// The uploader gets none of them before.
    pub fn recover(&mut self, spool: &Spool) -> Result<()> {
        for item in spool.items() {
            let Ok(segment) = item.name.parse::<Segment>() else {
                continue;
            };
            if item.timeline != self.id() {
                continue;
            }
            if segment.number < self.next {
                // Another segment is known under that number: the write of this one failed.
                if self.named(segment.number).is_some_and(|name| name != item.name) {
                    spool.remove(&item)?;
                }
                continue;
            }
            spool.hold(&item);
            match zstd::stream::decode_all(spool.read(&item)?.as_slice()) {
                Ok(plain) if segment.number == self.next => self.add(segment, digest::of(&plain))?,
                // The log still has the bytes, so the segment can be made again.
                _ => spool.remove(&item)?,
            }
        }
        spool.release();
        Ok(())
    }

    pub fn forget_before(&mut self, increment: u64) -> Result<()> {
        let before = self.cuts.len();
        // The newest segment always stays: the next number and the covered second come from it.
        let last = self.cuts.len().saturating_sub(1);
        let mut index = 0;
        self.cuts.retain(|(segment, _)| {
            index += 1;
            segment.increment >= increment || index - 1 == last
        });
        if self.cuts.len() < before {
            self.write_cuts()?;
        }
        for entry in fs::read_dir(self.folder.join("links")).into_iter().flatten().flatten() {
            let number = entry
                .file_name()
                .to_string_lossy()
                .trim_end_matches(".aof")
                .parse::<u64>();
            if number.is_ok_and(|number| number < increment) {
                fs::remove_file(entry.path()).with_context(|| format!("remove {}", entry.path().display()))?;
            }
        }
        Ok(())
    }

    /// Links an increment's file, so that it can be read to its end after the engine removed it.
    pub fn link(&self, increment: u64, file: &Path) -> Result<File> {
        let link = self.link_path(increment);
        let _ = fs::remove_file(&link);
        let opened = match fs::hard_link(file, &link) {
            Ok(()) => File::open(&link),
            // On another file system only the open file keeps the bytes, while the agent runs.
            Err(_) => File::open(file),
        };
        opened.with_context(|| format!("open {}", file.display()))
    }

    pub fn link_path(&self, increment: u64) -> PathBuf {
        self.folder.join("links").join(format!("{increment}.aof"))
    }

    /// Compares an increment's segments with a file. Returns the longest unchanged run of them,
    /// from the first, that ends at a boundary.
    pub fn prove(&self, increment: u64, file: &mut File) -> Option<Proven> {
        let mine: Vec<&(Segment, Cut)> = self
            .cuts
            .iter()
            .filter(|(segment, _)| segment.increment == increment)
            .collect();
        let mut offset = mine.first()?.0.from;
        file.seek(SeekFrom::Start(offset)).ok()?;
        let mut proven = None;
        for (index, (segment, cut)) in mine.iter().enumerate() {
            match digest::of_stream(file, segment.to - segment.from) {
                Ok(found) if found == cut.plain_sha256 && segment.from == offset => offset = segment.to,
                _ => break,
            }
            if segment.whole {
                proven = Some(Proven {
                    position: Position { increment, offset },
                    boundary: Boundary {
                        offset,
                        second: (segment.last > 0).then_some(segment.last),
                    },
                    all: index + 1 == mine.len(),
                });
            }
        }
        proven
    }
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Returns true if the bucket has no base yet for the log since its last beginning.
pub fn is_baseless(folder: &Path) -> bool {
    folder.join(BASELESS).exists()
}

/// Notes that the bucket has a base for the log of a timeline.
pub fn has_base(folder: &Path, timeline: &str) -> Result<()> {
    let path = folder.join(BASELESS);
    let begun = fs::read_to_string(&path).unwrap_or_default();
    // Names sort by time: this timeline is the one without a base, or continues it.
    if begun.as_str() <= timeline {
        remove(&path)?;
    }
    Ok(())
}

fn parse_cut(line: &str) -> Option<(Segment, Cut)> {
    let cut: Cut = serde_json::from_str(line).ok()?;
    Some((cut.name.parse().ok()?, cut))
}

/// Returns what a restore wrote here within ten minutes: it explains the gap that follows.
pub fn replaced_by(note: &Path) -> Option<String> {
    let written = fs::metadata(note).and_then(|metadata| metadata.modified()).ok()?;
    let text = fs::read_to_string(note).ok()?;
    let _ = fs::remove_file(note);
    let is_new = written.elapsed().is_ok_and(|age| age < Duration::from_secs(600));
    is_new.then(|| text.trim().to_string())
}

#[cfg(test)]
mod tests;
