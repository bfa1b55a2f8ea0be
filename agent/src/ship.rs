//! Follows the append-only log by descriptor and makes segments of it.
//!
//! A segment is made only after the engine was seen to be in the run that wrote it: an engine that
//! restarts may remove a torn end and write over it, and the bytes read would be a mixture. When
//! run, role or file change, the files are compared with what was shipped, and a new timeline says
//! how far they still hold it.
//!
//! A second counts as complete only if the engine said *before* the file was read that its log was
//! in force and written, and the list read after that answer still ends with this increment. The
//! engine writes its log before it answers, so earlier writes are in the file. A log that was
//! stopped in between would have come back with a new increment.

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
/// How often the engine is asked whether it is still in the same run.
const ASK: Duration = Duration::from_secs(1);
/// How late a write may reach the file: `appendfsync everysec` waits up to 2 s on a slow disk.
pub const LATE: Duration = Duration::from_secs(3);

/// Why a segment is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    Due,
    /// The memory for one segment is full.
    Full,
    Begins,
}

/// Why following ended.
#[derive(Debug)]
pub enum End {
    /// The engine restarted, changed its role or is gone. The files may continue.
    Changed,
    /// The log cannot be continued from here.
    Gap { why: String, rewrite: bool },
    /// Too much waits, because S3 takes nothing.
    Overflow,
}

impl Shipper {
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

    /// Drops all that waits but the oldest object, and waits until S3 has taken that one.
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
            // The clock comes first: writes of past seconds are then in what is read next, if this
            // increment is still the last. A pause of this process in between does no harm.
            let over = self.passed.until(Instant::now(), clock::now());
            let wanted = follow.is_due(self.settings.cut_age());
            // The engine is asked before reading: its earlier writes are in the file by then.
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
            // The list is read before the file: only the last increment gets more writes.
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

    /// Makes segments of what a stopped log still has. This run of the engine does not write to
    /// this increment again.
    fn cut_rest(&mut self, mut follow: Follow, why: String) -> Result<End> {
        loop {
            let read = follow.read()?;
            // The engine is asked after reading: another run may have overwritten what was read.
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

    /// Makes a segment. `over`: the last second that was over before everything was read; `None` if
    /// not everything was read.
    fn cut(&mut self, follow: &mut Follow, over: Option<i64>, why: Why) -> Result<()> {
        let boundary = follow.scanner.boundary();
        // A command that is larger than a segment takes several.
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
            // The last segment ended within such a command.
            return Ok(());
        }
        let length = usize::try_from(end.offset - follow.cut.offset).context("cut a segment")?;
        let last = end.second.unwrap_or(0);
        // If everything read goes into the segment, `over` holds. Else a later second must follow.
        let over = over.filter(|_| end.offset == follow.scanner.offset());
        let until = over.unwrap_or(0).max(last - 1).max(follow.until).max(0);
        if length == 0 && until <= follow.until && why != Why::Begins {
            return Ok(());
        }
        let body = zstd::bulk::compress(&follow.plain[..length], 1).context("compress a segment of the log")?;
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

    /// Continues with the next increment, if it is known to begin where this one ends.
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
        // An empty segment records that this increment follows the last one.
        self.cut(follow, None, Why::Begins)?;
        self.memory.forget_before(number)?;
        Ok(None)
    }
}
