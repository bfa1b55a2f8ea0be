//! Writes a ledger.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

use super::format::{Origin, Record, Unanswered, Write};
use super::hand_over;

/// The number of an attempt, to be acknowledged or failed by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation(u64);

/// A process's own ledger. Records gather in memory until [`Ledger::flush`].
///
/// Flush between [`Ledger::attempt`] and the sending. Flushed records survive a crash of the
/// process. Only a crash of the computer could lose them, and that takes Redis with it.
pub struct Ledger {
    process: String,
    started: Instant,
    inner: Mutex<Inner>,
}

struct Inner {
    file: File,
    path: PathBuf,
    buffer: Vec<u8>,
    next_operation: u64,
    /// By operation.
    in_flight: BTreeMap<u64, Unanswered>,
}

impl Ledger {
    /// Creates the ledger of this process: `<dyno>.<start>-<pid>.ledger`.
    pub fn create(folder: &Path, dyno: &str) -> Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("create the ledger folder {}", folder.display()))?;
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).context("read the clock")?;
        let process = format!("{dyno}.{}", base36(since_epoch.as_millis()));
        let path = folder.join(format!("{process}-{}.ledger", std::process::id()));
        let file = OpenOptions::new()
            .create_new(true)
            .append(true)
            .open(&path)
            .with_context(|| format!("create the ledger {}", path.display()))?;
        let at_us = u64::try_from(since_epoch.as_micros()).context("read the clock")?;
        let mut inner = Inner {
            file,
            path,
            buffer: Vec::new(),
            next_operation: 0,
            in_flight: BTreeMap::new(),
        };
        inner.put(&Record::Start {
            process: process.clone(),
            at_us,
        });
        let ledger = Self {
            process,
            started: Instant::now(),
            inner: Mutex::new(inner),
        };
        ledger.flush()?;
        Ok(ledger)
    }

    /// Returns a name that is unique in the app: dyno and time of start.
    pub fn process(&self) -> &str {
        &self.process
    }

    /// Notes that a write is about to be sent. Flush before sending it.
    pub fn attempt(&self, write: Write) -> Operation {
        self.note_attempt(write, None).0
    }

    /// The same, for a write that has to be recognised if it is sent again. Another process may have tried it first.
    pub fn attempt_of(&self, write: Write, first: Option<Origin>) -> (Operation, Origin) {
        self.note_attempt(write, first)
    }

    fn note_attempt(&self, write: Write, first: Option<Origin>) -> (Operation, Origin) {
        let after_us = self.after_us();
        let mut inner = self.lock();
        let operation = inner.next_operation;
        inner.next_operation += 1;
        let origin = first.clone().unwrap_or_else(|| Origin {
            process: self.process.clone(),
            operation,
        });
        let unanswered = Unanswered {
            origin: origin.clone(),
            write: write.clone(),
        };
        inner.in_flight.insert(operation, unanswered);
        inner.put(&Record::Attempt {
            operation,
            after_us,
            write,
            repeats: first,
        });
        (Operation(operation), origin)
    }

    /// Notes that Redis at `address` confirmed the write.
    pub fn acknowledged(&self, operation: Operation, address: &str, answer: Option<i64>) {
        self.note_acknowledged(operation, address, answer, false);
    }

    /// Notes that an attempt before had done the write, and that Redis at `address` says so now.
    pub fn found_done(&self, operation: Operation, address: &str, answer: Option<i64>) {
        self.note_acknowledged(operation, address, answer, true);
    }

    fn note_acknowledged(&self, operation: Operation, address: &str, answer: Option<i64>, found_done: bool) {
        let after_us = self.after_us();
        let mut inner = self.lock();
        inner.in_flight.remove(&operation.0);
        inner.put(&Record::Acknowledged {
            operation: operation.0,
            after_us,
            endpoint: address.to_owned(),
            answer,
            found_done,
        });
    }

    /// Notes that the write got no answer and is sent again.
    pub fn repeated(&self, operation: Operation, address: &str, reason: &str) {
        let after_us = self.after_us();
        self.lock().put(&Record::Repeated {
            operation: operation.0,
            after_us,
            endpoint: address.to_owned(),
            reason: reason.to_owned(),
        });
    }

    /// Notes that the write got no confirmation; it may or may not have taken effect.
    pub fn failed(&self, operation: Operation, address: &str, reason: &str) {
        let after_us = self.after_us();
        let mut inner = self.lock();
        inner.in_flight.remove(&operation.0);
        inner.put(&Record::Failed {
            operation: operation.0,
            after_us,
            endpoint: address.to_owned(),
            reason: reason.to_owned(),
        });
    }

    /// Notes a connection that could not be made.
    pub fn not_connected(&self, address: &str, reason: &str) {
        let after_us = self.after_us();
        let mut inner = self.lock();
        inner.put(&Record::NotConnected {
            after_us,
            endpoint: address.to_owned(),
            reason: reason.to_owned(),
        });
    }

    /// Hands everything so far to the kernel.
    pub fn flush(&self) -> Result<()> {
        let mut inner = self.lock();
        if inner.buffer.is_empty() {
            return Ok(());
        }
        let Inner { file, path, buffer, .. } = &mut *inner;
        file.write_all(buffer)
            .with_context(|| format!("write the ledger {}", path.display()))?;
        buffer.clear();
        Ok(())
    }

    /// Notes everything that got no answer as such, and ends the ledger.
    pub fn close(&self, address: &str) -> Result<()> {
        self.end(address).map(drop)
    }

    /// The same, and leaves those writes to the next process of the app.
    pub fn hand_over(&self, address: &str) -> Result<()> {
        let open = self.end(address)?;
        if open.is_empty() {
            return Ok(());
        }
        let (folder, name) = self.place();
        hand_over::leave(&folder, &name, &open)
    }

    /// Takes the writes that ended processes of the app have left.
    pub fn take_over(&self) -> Result<Vec<Unanswered>> {
        hand_over::take(&self.place().0)
    }

    fn end(&self, address: &str) -> Result<Vec<Unanswered>> {
        let open = std::mem::take(&mut self.lock().in_flight);
        for operation in open.keys() {
            self.failed(Operation(*operation), address, "unanswered_at_exit");
        }
        self.flush()?;
        Ok(open.into_values().collect())
    }

    /// Returns the folder and the name of the ledger's file.
    fn place(&self) -> (PathBuf, String) {
        let path = self.lock().path.clone();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        (path.parent().unwrap_or(Path::new(".")).to_owned(), name)
    }

    fn after_us(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn put(&mut self, record: &Record) {
        // Writing to memory cannot fail.
        let _ = serde_json::to_writer(&mut self.buffer, record);
        self.buffer.push(b'\n');
    }
}

fn base36(mut number: u128) -> String {
    let mut digits = Vec::new();
    while number > 0 {
        let digit = u32::try_from(number % 36).unwrap_or(0);
        digits.push(char::from_digit(digit, 36).unwrap_or('0'));
        number /= 36;
    }
    digits.iter().rev().collect()
}
