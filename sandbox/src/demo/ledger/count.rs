//! Counts confirmed writes; reads each line of a ledger once.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::summary::ledgers;

const CONFIRMED: &[u8] = br#"{"acknowledged":"#;

/// Counts the confirmed writes in the ledgers of a folder.
pub struct Confirmed {
    folder: PathBuf,
    /// The end of the last complete line that was read of each ledger.
    read: HashMap<PathBuf, u64>,
    count: u64,
}

impl Confirmed {
    pub fn of(folder: &Path) -> Self {
        Confirmed {
            folder: folder.into(),
            read: HashMap::new(),
            count: 0,
        }
    }

    /// Reads what was written since the last call, and returns the total so far.
    pub fn count(&mut self) -> Result<u64> {
        for path in ledgers(&self.folder)? {
            let context = || format!("read the ledger {}", path.display());
            let mut file = File::open(&path).with_context(context)?;
            let read = self.read.entry(path.clone()).or_default();
            file.seek(SeekFrom::Start(*read)).with_context(context)?;
            self.count += confirmed(BufReader::new(file), read).with_context(context)?;
        }
        Ok(self.count)
    }
}

/// Counts the confirmations among the complete lines, and adds their bytes to `read`.
fn confirmed(mut lines: impl BufRead, read: &mut u64) -> std::io::Result<u64> {
    let (mut count, mut line) = (0, Vec::new());
    loop {
        line.clear();
        let bytes = lines.read_until(b'\n', &mut line)?;
        if line.last() != Some(&b'\n') {
            return Ok(count);
        }
        count += u64::from(line.starts_with(CONFIRMED));
        *read += bytes as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::ledger::format::{Record, Write};
    use std::io::Write as _;

    #[test]
    fn each_confirmation_is_counted_once_and_as_soon_as_its_line_is_complete() {
        let folder = tempfile::tempdir().unwrap();
        let mut confirmed = Confirmed::of(folder.path());
        assert_eq!(confirmed.count().unwrap(), 0);
        let record = |record: &Record| serde_json::to_string(record).unwrap();
        let attempt = record(&Record::Attempt {
            operation: 1,
            after_us: 1,
            write: Write::Push { job: "j".into() },
            repeats: None,
        });
        let acknowledged = record(&Record::Acknowledged {
            operation: 1,
            after_us: 2,
            endpoint: "a:1".into(),
            answer: None,
            found_done: false,
        });
        let mut first = File::create(folder.path().join("first.ledger")).unwrap();
        let mut second = File::create(folder.path().join("second.ledger")).unwrap();
        write!(first, "{attempt}\n{acknowledged}\n{}", &acknowledged[..20]).unwrap();
        assert_eq!(confirmed.count().unwrap(), 1);
        writeln!(first, "{}", &acknowledged[20..]).unwrap();
        writeln!(second, "{acknowledged}").unwrap();
        assert_eq!((confirmed.count().unwrap(), confirmed.count().unwrap()), (3, 3));
    }
}
