//! Follows the append-only log by descriptor and cuts it into pieces.
//!
//! A piece is cut only after the engine was seen to be in the run that wrote it: an engine that restarts may cut a torn end off its file and write over it, and
//! what was read in between would be a mixture. Whenever run, role or file change, the files are held against what was shipped, and a new timeline says how far
//! that is still true.
//!
//! A second counts as complete only if the engine said *before* the file was
//! read that its log was in force and written, and the list read after that answer still ends with
//! this increment. The engine writes its log before it answers, so what ran before the answer is in
//! the file; and a log that was stopped in between would have come back with a new increment.

use crate::attach::Attached;
use crate::clock;
use crate::follow::{Follow, LARGEST, Read};
use crate::shared::Start;
use crate::shipper::Shipper;
use crate::standing::Standing;
use anyhow::{Context, Result};
use infra_agent::digest;
use infra_agent::manifest::Manifest;
use infra_agent::name::Segment;
use infra_agent::record::Gap;
use infra_agent::scan::Boundary;
use std::time::{Duration, Instant};

/// How often the file is looked at. An engine writes its log at every turn of its loop.
const POLL: Duration = Duration::from_millis(100);
/// How often the engine is asked whether it is still the same.
const ASK: Duration = Duration::from_secs(1);
/// How long after its second a write may still come into the file: `appendfsync everysec` holds it back for up to two seconds while the disk is slow.
pub const LATE: Duration = Duration::from_secs(3);

/// Why a piece is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    Due,
    /// No more of it is held in memory.
    Full,
    /// An increment begins.
    Begins,
}

/// Why following ended.
#[derive(Debug)]
pub enum End {
    /// The engine restarted, changed its role or is gone; the files may go on.
    Changed,
    /// The log does not go on from here.
    Gap { why: String, rewrite: bool },
    /// Too much waits: S3 does not take it.
    Overflow,
}

impl Shipper {
    /// For ever.
    pub fn run(&mut self) {
        loop {
            match self.attach() {
                Ok(attached) => {
                    self.shared.trouble("log", None);
                    match self.follow(attached) {
                        Ok(End::Changed) => {}
                        Ok(End::Gap { why, rewrite }) => self.declare(why, rewrite),
                        Ok(End::Overflow) => self.overflow(),
                        Err(error) => self.shared.trouble("log", Some(format!("{error:#}"))),
                    }
                }
                Err(error) => self.shared.trouble("log", Some(format!("{error:#}"))),
            }
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    pub fn declare(&mut self, why: String, rewrite: bool) {
        self.declare_after(self.memory.covered_until(), why, rewrite);
    }

    fn declare_after(&mut self, after: i64, why: String, rewrite: bool) {
        let gap = Gap {
            after,
            why: match crate::memory::replaced_by(&self.settings.home.join("replaced")) {
                Some(by) => format!("{by} ({why})"),
                None => why,
            },
        };
        eprintln!("infra-agent: the log has a gap after second {}: {}", gap.after, gap.why);
        self.shared.change(|state| state.gap = Some(gap.clone()));
        if let Err(error) = self.memory.declare(gap) {
            self.shared.trouble("log", Some(format!("{error:#}")));
        }
        self.needs_rewrite |= rewrite;
    }

    /// Lets go of what S3 does not take, all but the oldest, and waits until that one is taken.
    fn overflow(&mut self) {
        let items = self.spool.items();
        let shipped = self.shared.lock().shipped_until;
        self.declare_after(
            self.memory.covered_without(&items, shipped),
            format!(
                "S3 did not take the log, and more than {} bytes of it waited",
                self.settings.backlog
            ),
            false,
        );
        for item in items.iter().skip(1) {
            if let Err(error) = self.spool.remove(item) {
                self.shared.trouble("log", Some(format!("{error:#}")));
            }
        }
        while self.spool.size().0 > 0 {
            std::thread::sleep(Duration::from_secs(1));
        }
    }

    fn follow(&mut self, attached: Attached) -> Result<End> {
        let mut follow = Follow::new(attached);
        let mut asked = Instant::now();
        loop {
            if self.spool.size().1 > self.settings.backlog {
                return Ok(End::Overflow);
            }
            // Before the list and before reading: what was written some seconds earlier is in what is read next, if this increment is still the last one then; however
            // long this process stands still in between.
            let over = self.passed.until(Instant::now(), clock::now());
            let wanted = follow.is_due(self.settings.cut_age());
            // Asked before the file is read: what ran before the answer is in the file by then.
            let over = if wanted {
                match self.standing(&follow) {
                    Standing::Sure => over,
                    Standing::Unsure => None,
                    Standing::Changed => return Ok(End::Changed),
                    Standing::Stopped(why) => return self.cut_rest(follow, why),
                }
            } else {
                None
            };
            // Before reading: an increment that is not the last one any more gets nothing behind what is read next.
            let manifest = self.manifest()?;
            self.note_joints(&manifest);
            if let Some(watch) = &mut self.watch {
                watch.note(&self.shared);
            }
            let read = match follow.read()? {
                Read::All => true,
                Read::More => false,
                Read::Shorter => return Ok(End::Changed),
                Read::Malformed(why) => {
                    return Ok(match self.standing(&follow) {
                        Standing::Sure | Standing::Unsure => End::Gap { why, rewrite: true },
                        Standing::Changed => End::Changed,
                        Standing::Stopped(why) => End::Gap { why, rewrite: false },
                    });
                }
            };
            let done = read
                && manifest
                    .increments
                    .last()
                    .is_none_or(|last| last.sequence != follow.increment);
            let full = follow.plain.len() >= LARGEST;
            if full || wanted || done || asked.elapsed() >= ASK {
                match self.standing(&follow) {
                    Standing::Sure | Standing::Unsure => {}
                    Standing::Changed => return Ok(End::Changed),
                    Standing::Stopped(why) => return self.cut_rest(follow, why),
                }
                asked = Instant::now();
                if full || wanted || done {
                    self.cut(
                        &mut follow,
                        over.filter(|_| read && !done),
                        if full { Why::Full } else { Why::Due },
                    )?;
                }
            }
            if done && follow.plain.is_empty() {
                match self.next_increment(&mut follow, &manifest)? {
                    None => {}
                    Some(end) => return Ok(end),
                }
            } else if done {
                return Ok(End::Gap {
                    why: format!("increment {} ends in the middle of a command", follow.increment),
                    rewrite: false,
                });
            }
            if read {
                std::thread::sleep(POLL.min(self.settings.cut_age() / 2));
            }
        }
    }

    /// Cuts what a log that was stopped still has. The engine does not write to this increment again
    /// in this run.
    fn cut_rest(&mut self, mut follow: Follow, why: String) -> Result<End> {
        loop {
            let read = follow.read()?;
            // After reading, as ever: another run may have written over what was read.
            let same = matches!(
                self.standing(&follow),
                Standing::Sure | Standing::Unsure | Standing::Stopped(_)
            );
            match read {
                Read::All if same => self.cut(&mut follow, None, Why::Due)?,
                Read::More if same => {
                    self.cut(&mut follow, None, Why::Full)?;
                    continue;
                }
                _ => {}
            }
            return Ok(End::Gap { why, rewrite: false });
        }
    }

    fn note_joints(&self, manifest: &Manifest) {
        let numbers: Vec<u64> = manifest.increments.iter().map(|file| file.sequence).collect();
        if numbers.len() > 1 {
            let mut state = self.shared.lock();
            state.joints.extend(numbers.windows(2).map(|pair| (pair[0], pair[1])));
        }
    }

    /// `over`: the second of which nothing could come any more before everything was read; nothing where not everything was.
    fn cut(&mut self, follow: &mut Follow, over: Option<i64>, why: Why) -> Result<()> {
        let boundary = follow.scanner.boundary();
        // A command that is larger than a piece goes over several.
        let partial = why == Why::Full && boundary.offset <= follow.cut.offset;
        let end = if partial {
            Boundary {
                offset: follow.scanner.offset(),
                second: follow.cut.second,
            }
        } else {
            boundary
        };
        follow.in_vain = Some(Instant::now());
        if end.offset < follow.cut.offset {
            // Within such a command.
            return Ok(());
        }
        let length = usize::try_from(end.offset - follow.cut.offset).context("cut a piece")?;
        let last = end.second.unwrap_or(0);
        // With all of it read, what was written until a moment ago is in it; else only what a later second follows.
        let over = over.filter(|_| end.offset == follow.scanner.offset());
        let until = over.unwrap_or(0).max(last - 1).max(follow.until).max(0);
        if length == 0 && until <= follow.until && why != Why::Begins {
            return Ok(());
        }
        let body = zstd::bulk::compress(&follow.plain[..length], 1).context("compress a piece of the log")?;
        let segment = Segment {
            number: self.memory.next,
            increment: follow.increment,
            from: follow.cut.offset,
            to: end.offset,
            first: follow.cut.second.unwrap_or(0),
            last,
            until,
            whole: !partial,
            sha256: digest::of(&body),
        };
        self.spool.add(&follow.timeline, &segment.to_string(), &body)?;
        self.memory.add(segment, digest::of(&follow.plain[..length]))?;
        self.spool.release();
        follow.in_vain = None;
        follow.plain.drain(..length);
        if follow.plain.is_empty() {
            // A burst's memory is given back.
            follow.plain.shrink_to(256 << 10);
        }
        follow.cut = end;
        follow.until = until;
        follow.last_cut = Instant::now();
        follow.waits_since = (!follow.plain.is_empty()).then(Instant::now);
        Ok(())
    }

    /// Goes on to the next increment, if it is known to begin where this one ends.
    fn next_increment(&mut self, follow: &mut Follow, manifest: &Manifest) -> Result<Option<End>> {
        let here = follow.increment;
        let Some(next) = manifest.increments.iter().find(|file| file.sequence > here) else {
            return Ok(Some(End::Gap {
                why: format!("increment {here} is not in the engine's list any more"),
                rewrite: false,
            }));
        };
        let listed = self.shared.lock().joints.contains(&(here, next.sequence));
        let meets = follow.role == "master"
            && manifest
                .increment(here)
                .and_then(|file| file.end_offset)
                .or(follow.end_offset)
                .is_some_and(|end| next.start_offset == Some(end));
        if next.sequence != here + 1 || !(listed || meets) {
            return Ok(Some(End::Gap {
                why: format!(
                    "increment {} was not seen to begin where {here} ends, as after a full copy from the server that it follows",
                    next.sequence
                ),
                rewrite: false,
            }));
        }
        let path = self.folder().join(&next.name);
        let file = self.memory.link(next.sequence, &path)?;
        follow.move_on(next.sequence, file);
        let number = next.sequence;
        let start = Start {
            timeline: follow.timeline.clone(),
            run_id: follow.run_id.clone(),
            second: follow.cut.second,
        };
        self.shared.change(|state| {
            state.starts.insert(number, start);
            state.starts.retain(|start, _| start + 8 > number);
            state.joints.retain(|(_, end)| end + 8 > number);
        });
        // An empty piece: that the one increment follows the other is in the bucket, and known after a death of ours.
        self.cut(follow, None, Why::Begins)?;
        self.memory.forget_before(number)?;
        Ok(None)
    }
}
