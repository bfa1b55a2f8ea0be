//! One increment as it is followed: what was read of it and not cut yet.

use crate::attach::Attached;
use anyhow::{Context, Result};
use infra_agent::scan::{Boundary, Scanner};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

/// Uncompressed bytes of a piece; it is held in memory.
pub const LARGEST: usize = 4 << 20;
/// Without writes an empty piece says so this often: that nothing was written is a claim too.
const HEARTBEAT: Duration = Duration::from_secs(300);
/// When writes end, their last second is closed after this: nothing can come for it any more.
const CLOSING: Duration = Duration::from_secs(5);
/// How long a cut that gave nothing is not tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// One increment as it is followed.
pub struct Follow {
    pub timeline: String,
    pub run_id: String,
    pub role: String,
    pub increment: u64,
    file: std::fs::File,
    pub scanner: Scanner,
    /// Read and not cut: from `cut` to where the scanner is.
    pub plain: Vec<u8>,
    pub cut: Boundary,
    pub until: i64,
    pub end_offset: Option<u64>,
    pub waits_since: Option<Instant>,
    pub last_cut: Instant,
    /// When a cut was last wanted and gave nothing.
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
    /// Whether the last second of what was cut is not known to be whole yet.
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

    /// Whether a segment is to be cut now. `age`: how old its first byte may become.
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
