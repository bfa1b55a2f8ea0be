//! Reads one increment, and holds the bytes that are in no segment yet.

use crate::attach::Attached;
use anyhow::{Context, Result};
use infra_agent::scan::{Boundary, Scanner};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

/// Most uncompressed bytes of a segment, which is held in memory.
pub const LARGEST: usize = 4 << 20;
/// Without writes, an empty segment is put this often: it claims that nothing was written.
const HEARTBEAT: Duration = Duration::from_secs(300);
/// How long after the last write its second is closed: no later write can belong to it.
const CLOSING: Duration = Duration::from_secs(5);
/// Pause after an attempt that made no segment.
const AGAIN: Duration = Duration::from_secs(1);

/// The increment that is followed, and how far it is in segments.
pub struct Follow {
    pub timeline: String,
    pub run_id: String,
    pub role: String,
    pub increment: u64,
    file: std::fs::File,
    pub scanner: Scanner,
    /// Bytes that were read and are in no segment yet: from `cut` to the scanner's offset.
    pub plain: Vec<u8>,
    pub cut: Boundary,
    pub until: i64,
    pub end_offset: Option<u64>,
    pub waits_since: Option<Instant>,
    pub last_cut: Instant,
    /// When an attempt last made no segment.
    pub in_vain: Option<Instant>,
}

pub enum Read {
    All,
    More,
    /// The file has become shorter than what was read.
    Shorter,
    Malformed(String),
}

impl Follow {
    /// Returns whether the last second of the newest segment may still get writes.
    fn is_open(&self) -> bool {
        self.until < self.cut.second.unwrap_or(1)
    }

    pub fn new(attached: Attached) -> Self {
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
            in_vain: None,
        }
    }

    /// Returns whether to make a segment now. `age`: how old its first byte may become.
    pub fn is_due(&self, age: Duration) -> bool {
        let due = self.waits_since.is_some_and(|since| since.elapsed() >= age);
        let silence = if self.is_open() { CLOSING } else { HEARTBEAT };
        let rests = self.in_vain.is_some_and(|at| at.elapsed() < AGAIN);
        (due || self.last_cut.elapsed() >= silence) && !rests
    }

    pub fn move_on(&mut self, increment: u64, file: std::fs::File) {
        self.increment = increment;
        self.file = file;
        self.cut.offset = 0;
        self.scanner = Scanner::at(self.cut);
        self.end_offset = None;
    }

    pub fn read(&mut self) -> Result<Read> {
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
            // One reservation avoids copies while the buffer grows. Unused room takes no memory.
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
