//! What the agent remembers of the timeline that it writes: enough to prove, after a death of the engine or of its own, that the log's files still hold what was shipped.

use crate::spool::write_durably;
use anyhow::{Context, Result};
use infra_agent::digest;
use infra_agent::name::Chunk;
use infra_agent::record::{Position, Timeline};
use infra_agent::scan::Boundary;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// One piece as it was cut.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub struct Cut {
    /// That it belongs to.
    pub timeline: String,
    pub name: String,
    /// Of the bytes in the file, hexadecimal.
    pub plain_sha256: String,
}

/// The timeline and the pieces of its newest increments.
pub struct Memory {
    folder: PathBuf,
    pub timeline: Option<Timeline>,
    cuts: Vec<(Chunk, Cut)>,
    /// The number that the next piece gets.
    pub next: u64,
}

/// How far the files hold what was shipped, and where to go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proven {
    pub position: Position,
    pub boundary: Boundary,
    /// Whether it is everything that was shipped.
    pub all: bool,
}

impl Memory {
    pub fn open(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder.join("links")).with_context(|| format!("open {}", folder.display()))?;
        let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap_or_default();
        // Half a record is no record: what it said is not relied on, and a new timeline begins.
        let timeline = serde_json::from_str(&read("timeline.json")).ok();
        let cuts: Vec<(Chunk, Cut)> = read("cuts.log").lines().filter_map(parse_cut).collect();
        let mut memory = Memory {
            folder: folder.into(),
            timeline,
            cuts,
            next: 1,
        };
        memory.next = memory.last().map_or(1, |chunk| chunk.number + 1);
        Ok(memory)
    }

    fn id(&self) -> &str {
        self.timeline.as_ref().map_or("", |timeline| &timeline.id)
    }

    /// A timeline begins. What it takes over from another is still held against the files later.
    pub fn begin(&mut self, timeline: &Timeline) -> Result<()> {
        match &timeline.parent {
            None => self.cuts.clear(),
            Some(parent) => self.cuts.retain(|(chunk, _)| {
                let end = Position {
                    increment: chunk.increment,
                    offset: chunk.to,
                };
                end <= parent.up_to
            }),
        }
        // The pieces first: they name their timeline, so that none is taken for another's.
        self.write_cuts()?;
        let text = serde_json::to_vec(timeline).context("write a timeline's record")?;
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

    /// The newest piece of this timeline.
    pub fn last(&self) -> Option<&Chunk> {
        let (chunk, cut) = self.cuts.last()?;
        (cut.timeline == self.id()).then_some(chunk)
    }

    /// The increment of the newest piece, of this timeline or of the one that it goes on from.
    pub fn increment(&self) -> Option<u64> {
        self.cuts.last().map(|(chunk, _)| chunk.increment)
    }

    /// The timeline whose piece ends there.
    pub fn owner_of(&self, end: Position) -> Option<String> {
        let piece = self.cuts.iter().rev().find(|(chunk, _)| {
            let its_end = Position {
                increment: chunk.increment,
                offset: chunk.to,
            };
            its_end == end
        });
        piece.map(|(_, cut)| cut.timeline.clone())
    }

    /// The last second that a piece of this timeline, or of the one that it goes on from, covers.
    pub fn covered_until(&self) -> i64 {
        self.cuts.last().map_or(0, |(chunk, _)| chunk.until)
    }

    /// A piece was cut and lies in the spool.
    pub fn add(&mut self, chunk: Chunk, plain_sha256: String) -> Result<()> {
        let path = self.folder.join("cuts.log");
        let doing = || format!("write {}", path.display());
        let cut = Cut {
            timeline: self.id().into(),
            name: chunk.to_string(),
            plain_sha256,
        };
        let line = serde_json::to_string(&cut).with_context(doing)? + "\n";
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .open(&path)
            .with_context(doing)?;
        file.write_all(line.as_bytes()).with_context(doing)?;
        file.sync_data().with_context(doing)?;
        self.next = chunk.number + 1;
        self.cuts.push((chunk, cut));
        Ok(())
    }

    /// A piece that lies in the spool and was not remembered: the agent died in between.
    pub fn recover(&mut self, chunk: Chunk, body: &[u8]) -> Result<()> {
        let plain = zstd::stream::decode_all(body).context("unpack a piece that waits")?;
        self.add(chunk, digest::of(&plain))
    }

    /// Increments before this one are done with.
    pub fn forget_before(&mut self, increment: u64) -> Result<()> {
        let before = self.cuts.len();
        // The newest stays, whatever it belongs to: it tells the number and the second.
        let last = self.cuts.len().saturating_sub(1);
        let mut index = 0;
        self.cuts.retain(|(chunk, _)| {
            index += 1;
            chunk.increment >= increment || index - 1 == last
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

    /// A second name for an increment's file: whatever the engine removes stays until it was read to its end.
    pub fn link(&self, increment: u64, file: &Path) -> Result<File> {
        let link = self.link_path(increment);
        let _ = fs::remove_file(&link);
        let opened = match fs::hard_link(file, &link) {
            Ok(()) => File::open(&link),
            // Another file system: the descriptor alone holds it, as long as the agent lives.
            Err(_) => File::open(file),
        };
        opened.with_context(|| format!("open {}", file.display()))
    }

    pub fn link_path(&self, increment: u64) -> PathBuf {
        self.folder.join("links").join(format!("{increment}.aof"))
    }

    /// Holds the pieces of an increment against a file: the longest run of them, from the first, that is there unchanged and ends at a boundary.
    pub fn prove(&self, increment: u64, file: &mut File) -> Option<Proven> {
        let mine: Vec<&(Chunk, Cut)> = self
            .cuts
            .iter()
            .filter(|(chunk, _)| chunk.increment == increment)
            .collect();
        let mut offset = mine.first()?.0.from;
        file.seek(SeekFrom::Start(offset)).ok()?;
        let mut proven = None;
        for (index, (chunk, cut)) in mine.iter().enumerate() {
            match digest::of_stream(file, chunk.to - chunk.from) {
                Ok(found) if found == cut.plain_sha256 && chunk.from == offset => offset = chunk.to,
                _ => break,
            }
            if chunk.whole {
                proven = Some(Proven {
                    position: Position { increment, offset },
                    boundary: Boundary {
                        offset,
                        second: (chunk.last > 0).then_some(chunk.last),
                    },
                    all: index + 1 == mine.len(),
                });
            }
        }
        proven
    }
}

fn parse_cut(line: &str) -> Option<(Chunk, Cut)> {
    let cut: Cut = serde_json::from_str(line).ok()?;
    Some((cut.name.parse().ok()?, cut))
}

/// What a restore has said that it does, a moment ago: the gap that follows is its own.
pub fn replaced_by(note: &Path) -> Option<String> {
    let written = fs::metadata(note).and_then(|metadata| metadata.modified()).ok()?;
    let text = fs::read_to_string(note).ok()?;
    let _ = fs::remove_file(note);
    let is_new = written.elapsed().is_ok_and(|age| age < Duration::from_secs(600));
    is_new.then(|| text.trim().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(number: u64, from: u64, to: u64, whole: bool) -> Chunk {
        Chunk {
            number,
            increment: 3,
            from,
            to,
            first: 10,
            last: 20,
            until: 19,
            whole,
            sha256: "0".repeat(64),
        }
    }

    #[test]
    fn a_file_is_proven_as_far_as_it_holds_what_was_shipped() {
        let folder = tempfile::tempdir().unwrap();
        let mut memory = Memory::open(folder.path()).unwrap();
        let path = folder.path().join("log");
        for (number, from, to, whole, text) in [
            (1, 0, 4, true, "aaaa"),
            (2, 4, 8, true, "bbbb"),
            (3, 8, 12, false, "cccc"),
        ] {
            memory
                .add(chunk(number, from, to, whole), digest::of(text.as_bytes()))
                .unwrap();
        }
        let memory = Memory::open(folder.path()).unwrap();
        assert_eq!(memory.next, 4);
        let proven = |content: &str| {
            fs::write(&path, content).unwrap();
            memory
                .prove(3, &mut File::open(&path).unwrap())
                .map(|proven| (proven.position.offset, proven.all))
        };
        assert_eq!(
            proven("aaaabbbbccccdddd"),
            Some((8, false)),
            "a command that goes over pieces is not whole yet"
        );
        assert_eq!(proven("aaaabbbb"), Some((8, false)));
        assert_eq!(proven("aaaabbbXcccc"), Some((4, false)));
        assert_eq!(proven("aaa"), None);
        assert_eq!(proven("Xaaabbbb"), None);
    }

    #[test]
    fn what_is_done_with_is_forgotten_and_the_number_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let mut memory = Memory::open(folder.path()).unwrap();
        memory.add(chunk(1, 0, 4, true), "x".into()).unwrap();
        memory.add(chunk(2, 4, 8, true), "y".into()).unwrap();
        memory.forget_before(4).unwrap();
        let memory = Memory::open(folder.path()).unwrap();
        assert_eq!(memory.next, 3);
        assert_eq!(memory.last().unwrap().number, 2);
    }
}
