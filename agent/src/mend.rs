//! Cuts what is not whole off the log's end before the engine starts, and keeps a copy of it.
//!
//! If a command within a transaction is torn, the engine leaves the beginning of the transaction,
//! and takes what is written next for a part of it. A power loss may leave zeros at the end, since
//! the file's length reached the disk and its content did not. The engine refuses such a log, or
//! takes zeros for the end of a value. Seen with Redis 7.0.15 and 8.0.2 and Valkey 8.1.1.

use crate::clock;
use crate::settings::Settings;
use anyhow::{Context, Result, bail};
use infra_agent::manifest::{FOLDER, Manifest};
use infra_agent::scan::{Boundary, Scanner};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// The folder of the copies, in the agent's own.
const COPIES: &str = "cut-off";
/// Only the newest copies are kept, so that an engine that crashes again and again fills no disk.
const KEPT_COPIES: usize = 8;
const BLOCK: u64 = 1 << 20;

/// Fails if the log is damaged before its end, which only a person can judge.
pub fn mend(settings: &Settings) -> Result<()> {
    let folder = settings.data.join(FOLDER);
    let manifest = match Manifest::read(&settings.data) {
        // This step does not decide whether an engine without a log may start.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        manifest => manifest.with_context(|| format!("read the engine's list of its files in {}", folder.display()))?,
    };
    let Some((last, earlier)) = manifest.increments.split_last() else {
        return Ok(());
    };
    for increment in earlier {
        let path = folder.join(&increment.name);
        let mut file = File::open(&path).with_context(|| format!("read {}", path.display()))?;
        let log = measure(&mut file, &path)?;
        if log.whole < log.length {
            bail!(
                "read {}: it ends at byte {} within a command, and later increments follow it",
                path.display(),
                log.whole
            );
        }
    }
    let path = folder.join(&last.name);
    let doing = || format!("mend {}", path.display());
    let mut file = File::options().read(true).write(true).open(&path).with_context(doing)?;
    let log = measure(&mut file, &path)?;
    if log.whole == log.length {
        return Ok(());
    }
    let copy = keep_copy(&settings.home.join(COPIES), &mut file, &last.name, &log).with_context(doing)?;
    file.set_len(log.whole).with_context(doing)?;
    file.sync_all().with_context(doing)?;
    println!(
        "infra-agent: {} bytes at the end of {} were no whole transaction and are cut off, {} of them zeros; {} has them",
        log.length - log.whole,
        path.display(),
        log.length - log.data,
        copy.display()
    );
    Ok(())
}

/// The places in an increment that its mending depends on, in bytes from its beginning.
struct Log {
    /// The end of the last whole command outside a transaction.
    whole: u64,
    /// The beginning of the zeros at the end. Whole commands end with a line end, never with zeros.
    data: u64,
    length: u64,
}

fn measure(file: &mut File, path: &Path) -> Result<Log> {
    let doing = || format!("read {}", path.display());
    let length = file.metadata().with_context(doing)?.len();
    let data = end_of_data(file, length).with_context(doing)?;
    file.rewind().with_context(doing)?;
    let mut scanner = Scanner::at(Boundary::default());
    let mut block = vec![0; BLOCK as usize];
    let mut left = file.take(data);
    loop {
        let read = left.read(&mut block).with_context(doing)?;
        if read == 0 {
            break;
        }
        scanner.feed(&block[..read]).with_context(doing)?;
    }
    Ok(Log {
        whole: scanner.boundary().offset,
        data,
        length,
    })
}

/// Returns where the zeros at the end of a file begin.
fn end_of_data(file: &mut File, length: u64) -> io::Result<u64> {
    let mut end = length;
    let mut block = Vec::new();
    while end > 0 {
        let start = end.saturating_sub(BLOCK);
        file.seek(SeekFrom::Start(start))?;
        block.clear();
        file.take(end - start).read_to_end(&mut block)?;
        if let Some(at) = block.iter().rposition(|byte| *byte != 0) {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

/// Copies what is about to be cut off. The zeros at its end take no room on the disk.
fn keep_copy(folder: &Path, file: &mut File, name: &str, log: &Log) -> Result<PathBuf> {
    std::fs::create_dir_all(folder).with_context(|| format!("open {}", folder.display()))?;
    let now = clock::name(jiff::Timestamp::now());
    let path = folder.join(format!("{name}-from-{}-at-{now}", log.whole));
    let doing = || format!("write {}", path.display());
    let mut copy = File::create(&path).with_context(doing)?;
    file.seek(SeekFrom::Start(log.whole)).with_context(doing)?;
    io::copy(&mut file.take(log.data.saturating_sub(log.whole)), &mut copy).with_context(doing)?;
    copy.set_len(log.length - log.whole).with_context(doing)?;
    copy.sync_all().with_context(doing)?;
    let mut copies: Vec<_> = std::fs::read_dir(folder)
        .with_context(doing)?
        .filter_map(|entry| {
            let entry = entry.ok()?;
            Some((entry.metadata().ok()?.modified().ok()?, entry.path()))
        })
        .collect();
    copies.sort();
    let surplus = copies.len().saturating_sub(KEPT_COPIES);
    for (_, old) in copies.into_iter().take(surplus) {
        std::fs::remove_file(&old).with_context(|| format!("remove {}", old.display()))?;
    }
    Ok(path)
}
