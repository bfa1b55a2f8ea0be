//! Objects of the log on their way: a folder of files that are put in their order and then removed. It outlives the agent, and a power cut.

use anyhow::{Context, Result};
use infra_agent::name::TIMELINE;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Between a timeline and an object's name; in none of either.
const BETWEEN: char = '~';
/// Puts a timeline's record before its pieces, which are numbered from 1.
const FIRST: &str = "0000000000-";

pub struct Spool {
    folder: PathBuf,
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    names: BTreeSet<String>,
    bytes: u64,
}

/// One object that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    file: String,
    pub timeline: String,
    pub name: String,
}

impl Item {
    fn parse(file: &str) -> Option<Item> {
        let (timeline, name) = file.split_once(BETWEEN)?;
        Some(Item {
            file: file.into(),
            timeline: timeline.into(),
            name: name.strip_prefix(FIRST).unwrap_or(name).into(),
        })
    }
}

impl Spool {
    pub fn open(folder: PathBuf) -> Result<Self> {
        let doing = || format!("open {}", folder.display());
        fs::create_dir_all(&folder).with_context(doing)?;
        let mut waiting = Waiting::default();
        for entry in fs::read_dir(&folder).with_context(doing)? {
            let entry = entry.with_context(doing)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if Item::parse(&name).is_some() && !name.ends_with(".new") {
                waiting.bytes += entry.metadata().with_context(doing)?.len();
                waiting.names.insert(name);
            } else {
                // Half an object: what it would have held is in the log still.
                fs::remove_file(entry.path()).with_context(doing)?;
            }
        }
        Ok(Spool {
            folder,
            waiting: Mutex::new(waiting),
            changed: Condvar::new(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps an object until it was put.
    pub fn add(&self, timeline: &str, name: &str, body: &[u8]) -> Result<()> {
        let first = if name == TIMELINE { FIRST } else { "" };
        let file = format!("{timeline}{BETWEEN}{first}{name}");
        write_durably(&self.folder.join(&file), body)?;
        let mut waiting = self.lock();
        waiting.bytes += body.len() as u64;
        waiting.names.insert(file);
        drop(waiting);
        self.changed.notify_all();
        Ok(())
    }

    /// How many wait, and their bytes.
    pub fn size(&self) -> (u64, u64) {
        let waiting = self.lock();
        (waiting.names.len() as u64, waiting.bytes)
    }

    /// The oldest, as soon as there is one.
    pub fn oldest(&self, patience: Duration) -> Option<Item> {
        let (waiting, _) = self
            .changed
            .wait_timeout_while(self.lock(), patience, |waiting| waiting.names.is_empty())
            .unwrap_or_else(PoisonError::into_inner);
        waiting.names.first().and_then(|name| Item::parse(name))
    }

    pub fn read(&self, item: &Item) -> Result<Vec<u8>> {
        let path = self.folder.join(&item.file);
        fs::read(&path).with_context(|| format!("read {}", path.display()))
    }

    /// It was put, or will never be.
    pub fn remove(&self, item: &Item) -> Result<()> {
        let path = self.folder.join(&item.file);
        let mut waiting = self.lock();
        if waiting.names.remove(&item.file) {
            let bytes = fs::metadata(&path).map_or(0, |file| file.len());
            waiting.bytes = waiting.bytes.saturating_sub(bytes);
            fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))?;
        }
        Ok(())
    }

    /// Everything that waits, in its order.
    pub fn items(&self) -> Vec<Item> {
        self.lock().names.iter().filter_map(|name| Item::parse(name)).collect()
    }
}

/// Writes a file that is whole or not there, also after a power cut.
pub fn write_durably(path: &Path, body: &[u8]) -> Result<()> {
    let doing = || format!("write {}", path.display());
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    let mut file = File::create(&new).with_context(doing)?;
    file.write_all(body).with_context(doing)?;
    file.sync_all().with_context(doing)?;
    fs::rename(&new, path).with_context(doing)?;
    if let Some(folder) = path.parent() {
        File::open(folder)
            .and_then(|folder| folder.sync_all())
            .with_context(doing)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_leave_in_the_order_of_timelines_and_numbers() {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::open(folder.path().join("spool")).unwrap();
        for (timeline, name) in [
            ("b", "0000000001-x"),
            ("a", "0000000002-x"),
            ("a", "0000000010-x"),
            ("b", TIMELINE),
        ] {
            spool.add(timeline, name, b"four").unwrap();
        }
        // Another life of the agent; half a file of the one before is no object.
        fs::write(folder.path().join("spool/a~0000000011-x.new"), b"ha").unwrap();
        let spool = Spool::open(folder.path().join("spool")).unwrap();
        assert_eq!(spool.size(), (4, 16));
        let mut order = Vec::new();
        while let Some(item) = spool.oldest(Duration::ZERO) {
            assert_eq!(spool.read(&item).unwrap(), b"four");
            spool.remove(&item).unwrap();
            order.push(format!("{} {}", item.timeline, item.name));
        }
        assert_eq!(
            order,
            ["a 0000000002-x", "a 0000000010-x", "b timeline.json", "b 0000000001-x"]
        );
        assert_eq!(spool.size(), (0, 0));
    }
}
