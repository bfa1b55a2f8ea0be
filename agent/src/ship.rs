//! Follows the append-only log by descriptor and cuts it into pieces.
//!
//! A piece is cut only after the engine was seen to be in the run that wrote it: an engine that restarts may cut a torn end off its file and write over it, and
//! what was read in between would be a mixture. Whenever run, role or file change, the files are held against what was shipped, and a new timeline says how far
//! that is still true.

use crate::attach::Attached;
use crate::clock;
use crate::engine::{Engine, Look};
use crate::memory::Memory;
use crate::settings::Settings;
use crate::shared::Shared;
use crate::spool::Spool;
use crate::watch::Watch;
use anyhow::{Context, Result};
use infra_agent::digest;
use infra_agent::manifest::{FILE, FOLDER, Manifest};
use infra_agent::name::Chunk;
use infra_agent::record::Gap;
use infra_agent::scan::{Boundary, Scanner};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Uncompressed bytes of a piece; it is held in memory.
const LARGEST: usize = 4 << 20;
/// How often the file is looked at. An engine writes its log at every turn of its loop.
const POLL: Duration = Duration::from_millis(100);
/// How often the engine is asked whether it is still the same.
const ASK: Duration = Duration::from_secs(1);
/// Without writes an empty piece says so this often: that nothing was written is a claim too.
const HEARTBEAT: Duration = Duration::from_secs(300);
/// When writes end, their last second is closed after this: nothing can come for it any more.
const CLOSING: Duration = Duration::from_secs(5);
/// How long after its second a write may still come into the file: `appendfsync everysec` holds it back for up to two seconds while the disk is slow.
pub const LATE: Duration = Duration::from_secs(3);

pub struct Shipper {
    pub settings: Settings,
    pub engine: Engine,
    pub spool: Arc<Spool>,
    pub shared: Arc<Shared>,
    pub memory: Memory,
    /// Why the log cannot go on from what was shipped, from a failure until a new timeline says so.
    pub gap: Option<Gap>,
    /// Tells how increments come to be; nothing where the kernel refuses.
    pub watch: Option<Watch>,
    /// Which seconds are over.
    pub passed: clock::Passed,
    /// The files on the disk are of no use to begin with.
    pub needs_rewrite: bool,
}

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
        let gap = Gap {
            after: self.memory.covered_until(),
            why: match crate::memory::replaced_by(&self.settings.home.join("replaced")) {
                Some(by) => format!("{by} ({why})"),
                None => why,
            },
        };
        eprintln!("infra-agent: the log has a gap after second {}: {}", gap.after, gap.why);
        self.shared.change(|state| state.gap = Some(gap.clone()));
        self.gap = Some(gap);
        self.needs_rewrite |= rewrite;
    }

    /// Lets go of what S3 does not take, all but the oldest, and waits until that one is taken.
    fn overflow(&mut self) {
        let items = self.spool.items();
        self.declare(
            format!(
                "S3 did not take the log, and more than {} bytes of it waited",
                self.settings.backlog
            ),
            false,
        );
        if let (Some(gap), Some(oldest)) = (
            &mut self.gap,
            items.first().and_then(|item| item.name.parse::<Chunk>().ok()),
        ) {
            gap.after = oldest.until;
        }
        for item in items.iter().skip(1) {
            if let Err(error) = self.spool.remove(item) {
                self.shared.trouble("log", Some(format!("{error:#}")));
            }
        }
        while self.spool.size().0 > 0 {
            std::thread::sleep(Duration::from_secs(1));
        }
    }

    pub fn folder(&self) -> PathBuf {
        self.settings.data.join(FOLDER)
    }

    pub fn manifest(&self) -> Result<Manifest> {
        let path = self.folder().join(FILE);
        let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        Manifest::parse(&text).with_context(|| format!("understand {}", path.display()))
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
                    return Ok(match self.still(&follow) {
                        true => End::Gap { why, rewrite: true },
                        false => End::Changed,
                    });
                }
            };
            let done = read
                && manifest
                    .increments
                    .last()
                    .is_none_or(|last| last.sequence != follow.increment);
            let full = follow.plain.len() >= LARGEST;
            let due = follow
                .waits_since
                .is_some_and(|since| since.elapsed() >= self.settings.cut_age());
            let beat = follow.last_cut.elapsed() >= if follow.is_open() { CLOSING } else { HEARTBEAT };
            if full || due || beat || done || asked.elapsed() >= ASK {
                if !self.still(&follow) {
                    return Ok(End::Changed);
                }
                asked = Instant::now();
                if full || due || beat || done {
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

    /// Whether the engine is in the run and the role that this timeline is of.
    fn still(&mut self, follow: &Follow) -> bool {
        let same =
            |look: &Look| look.run_id == follow.run_id && look.role == follow.role && look.log_enabled && !look.loading;
        self.engine.look().is_ok_and(|look| same(&look))
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
        let chunk = Chunk {
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
        self.spool.add(&follow.timeline, &chunk.to_string(), &body)?;
        self.memory.add(chunk, digest::of(&follow.plain[..length]))?;
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
        let second = follow.cut.second;
        let number = next.sequence;
        self.shared.change(|state| {
            state.starts.insert(number, second);
            state.starts.retain(|start, _| start + 8 > number);
            state.joints.retain(|(_, end)| end + 8 > number);
        });
        // An empty piece: that the one increment follows the other is in the bucket, and known after a death of ours.
        self.cut(follow, None, Why::Begins)?;
        self.memory.forget_before(number)?;
        Ok(None)
    }
}

/// One increment as it is followed.
struct Follow {
    timeline: String,
    run_id: String,
    role: String,
    increment: u64,
    file: std::fs::File,
    scanner: Scanner,
    /// Read and not cut: from `cut` to where the scanner is.
    plain: Vec<u8>,
    cut: Boundary,
    until: i64,
    end_offset: Option<u64>,
    waits_since: Option<Instant>,
    last_cut: Instant,
}

enum Read {
    All,
    More,
    /// The file has become shorter than what was read.
    Shorter,
    Malformed(String),
}

impl Follow {
    /// Whether the last second of what was cut is not known to be whole yet.
    fn is_open(&self) -> bool {
        self.until < self.cut.second.unwrap_or(1)
    }

    fn new(attached: Attached) -> Self {
        let Attached {
            timeline,
            position,
            second,
            until,
            file,
        } = attached;
        let cut = Boundary {
            offset: position.offset,
            second,
        };
        Follow {
            timeline: timeline.id,
            run_id: timeline.run_id,
            role: timeline.role,
            increment: position.increment,
            file,
            scanner: Scanner::at(cut),
            plain: Vec::new(),
            cut,
            until,
            end_offset: None,
            waits_since: None,
            last_cut: Instant::now(),
        }
    }

    fn move_on(&mut self, increment: u64, file: std::fs::File) {
        self.increment = increment;
        self.file = file;
        self.cut.offset = 0;
        self.scanner = Scanner::at(self.cut);
        self.end_offset = None;
    }

    fn read(&mut self) -> Result<Read> {
        let doing = || format!("read increment {}", self.increment);
        let mut block = [0; 64 << 10];
        loop {
            let offset = self.scanner.offset();
            let read = self.file.read_at(&mut block, offset).with_context(doing)?;
            if read == 0 {
                let length = self.file.metadata().with_context(doing)?.len();
                return Ok(if length < offset { Read::Shorter } else { Read::All });
            }
            self.waits_since.get_or_insert_with(Instant::now);
            // At once, instead of by copies that grow; what is not used of it takes no memory.
            self.plain
                .reserve_exact((LARGEST + block.len()).saturating_sub(self.plain.len()));
            if let Err(malformed) = self.scanner.feed(&block[..read]) {
                return Ok(Read::Malformed(malformed.to_string()));
            }
            self.plain.extend_from_slice(&block[..read]);
            if self.plain.len() >= LARGEST {
                return Ok(Read::More);
            }
        }
    }
}
