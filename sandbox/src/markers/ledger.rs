//! What the process sent and what was acknowledged, one line each, written before and after.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::write::{Place, Write};

/// The end of a ledger's file name; those of the other demo app end otherwise.
const ENDING: &str = "writes";

#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Attempt {
        number: u64,
        at_us: u64,
        place: Place,
        value: Option<String>,
    },
    /// Both servers confirmed the write, with the number that was counted.
    Acknowledged {
        number: u64,
        at_us: u64,
        counted: Option<String>,
    },
    /// One of them did not; it may be done all the same.
    Failed {
        number: u64,
        reason: String,
    },
    Read {
        from_redis: bool,
    },
}

/// The ledger of this process.
pub struct Ledger {
    file: File,
    path: PathBuf,
    next: u64,
}

impl Ledger {
    pub fn create(folder: &Path, dyno: &str) -> Result<Self> {
        std::fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        let path = folder.join(format!("{dyno}.{}-{}.{ENDING}", now_us()?, std::process::id()));
        let mut options = OpenOptions::new();
        let file = options.create_new(true).append(true).open(&path);
        let file = file.with_context(|| format!("make the ledger {}", path.display()))?;
        Ok(Ledger { file, path, next: 0 })
    }

    /// Notes a write that is about to be sent; returns its number.
    pub fn attempt(&mut self, write: &Write) -> Result<u64> {
        let number = self.next;
        self.next += 1;
        self.put(&Line::Attempt {
            number,
            at_us: now_us()?,
            place: write.place(),
            value: write.value(),
        })?;
        Ok(number)
    }

    pub fn acknowledged(&mut self, number: u64, counted: Option<String>) -> Result<()> {
        let at_us = now_us()?;
        self.put(&Line::Acknowledged { number, at_us, counted })
    }

    pub fn failed(&mut self, number: u64, reason: String) -> Result<()> {
        self.put(&Line::Failed { number, reason })
    }

    pub fn read(&mut self, from_redis: bool) -> Result<()> {
        self.put(&Line::Read { from_redis })
    }

    fn put(&mut self, line: &Line) -> Result<()> {
        let mut text = serde_json::to_string(line).context("write a line of the ledger")?;
        text.push('\n');
        let written = self.file.write_all(text.as_bytes());
        written.with_context(|| format!("write {}", self.path.display()))
    }
}

fn now_us() -> Result<u64> {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).context("read the clock")?;
    u64::try_from(since_epoch.as_micros()).context("read the clock")
}

/// One write as the ledgers have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    pub begun_us: u64,
    /// When it was acknowledged; `None` if it failed, or if the process ended before.
    pub acknowledged_us: Option<u64>,
    pub place: Place,
    pub value: Option<String>,
}

/// The ledger of one process.
#[derive(Clone, Debug, Default)]
pub struct Process {
    pub attempts: Vec<Attempt>,
    pub failures: Vec<String>,
    pub reads_from_postgres: u64,
    pub reads_from_redis: u64,
}

/// Reads all ledgers in a folder.
pub fn read_folder(folder: &Path) -> Result<Vec<Process>> {
    let doing = || format!("read the ledgers in {}", folder.display());
    let mut processes = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(doing)? {
        let path = entry.with_context(doing)?.path();
        if path.extension().is_some_and(|ending| ending == ENDING) {
            let text = std::fs::read_to_string(&path).with_context(doing)?;
            processes.push(parse(&text).with_context(|| format!("read {}", path.display()))?);
        }
    }
    Ok(processes)
}

fn parse(text: &str) -> Result<Process> {
    let mut process = Process::default();
    let mut by_number: BTreeMap<u64, usize> = BTreeMap::new();
    // The last line may be half written.
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    for line in whole.lines() {
        match serde_json::from_str(line).context("read a line of the ledger")? {
            Line::Attempt {
                number,
                at_us,
                place,
                value,
            } => {
                by_number.insert(number, process.attempts.len());
                process.attempts.push(Attempt {
                    begun_us: at_us,
                    acknowledged_us: None,
                    place,
                    value,
                });
            }
            Line::Acknowledged { number, at_us, counted } => {
                let at = by_number
                    .get(&number)
                    .context("a write is acknowledged that was not attempted")?;
                let attempt = process.attempts.get_mut(*at).context("find the attempt")?;
                attempt.acknowledged_us = Some(at_us);
                attempt.value = counted.or(attempt.value.take());
            }
            Line::Failed { reason, .. } => process.failures.push(reason),
            Line::Read { from_redis: true } => process.reads_from_redis += 1,
            Line::Read { from_redis: false } => process.reads_from_postgres += 1,
        }
    }
    Ok(process)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(value: Option<&str>) -> Write {
        Write::Set {
            place: Place::Key("marker:1".into()),
            sql: String::new(),
            value: value.map(str::to_owned),
        }
    }

    #[test]
    fn a_ledger_is_read_back_and_a_line_that_a_kill_cut_off_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::create(folder.path(), "markers.1").unwrap();
        let first = ledger.attempt(&write(Some("7"))).unwrap();
        ledger.acknowledged(first, None).unwrap();
        let second = ledger.attempt(&write(None)).unwrap();
        ledger.failed(second, "refused".into()).unwrap();
        ledger.read(true).unwrap();
        ledger.file.write_all(b"{\"attempt\": {\"num").unwrap();
        let processes = read_folder(folder.path()).unwrap();
        assert_eq!(processes.len(), 1);
        let process = &processes[0];
        assert_eq!(process.attempts.len(), 2);
        assert_eq!(process.attempts[0].value.as_deref(), Some("7"));
        assert!(process.attempts[0].acknowledged_us >= Some(process.attempts[0].begun_us));
        assert_eq!(process.attempts[1].acknowledged_us, None);
        assert_eq!((process.failures.len(), process.reads_from_redis), (1, 1));
    }
}
