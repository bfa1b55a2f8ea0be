//! A folder of objects of the log that wait for the bucket. They are put in order and then removed.
//! The folder survives a crash of the agent and a power cut.

use anyhow::{Context, Result};
use infra_agent::files;
use infra_agent::name::TIMELINE;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Separates a timeline from an object's name; neither contains it.
const BETWEEN: char = '~';
/// Sorts a timeline's record before its segments, which are numbered from 1.
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
    /// The first file that may not be put yet: the agent's memory does not have it.
    held: Option<String>,
}

impl Waiting {
    /// Returns the oldest file that may be put.
    fn first(&self) -> Option<&String> {
        let first = self.names.first()?;
        self.held.as_ref().is_none_or(|held| first < held).then_some(first)
    }
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
                // A half-written object: the log still has its bytes.
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

    /// Keeps an object until it is put. The uploader does not get it before [`Spool::release`].
    pub fn add(&self, timeline: &str, name: &str, body: &[u8]) -> Result<()> {
        self.add_by(write_durably, timeline, name, body)
    }

    /// The same, with this way to write a file.
    fn add_by(
        &self,
        write: impl FnOnce(&Path, &[u8]) -> Result<()>,
        timeline: &str,
        name: &str,
        body: &[u8],
    ) -> Result<()> {
        let first = if name == TIMELINE { FIRST } else { "" };
        let file = format!("{timeline}{BETWEEN}{first}{name}");
        let path = self.folder.join(&file);
        if let Err(error) = write(&path, body) {
            // The file may have its name already. The log still has its bytes, and another attempt
            // may cut elsewhere: two segments with one number must not wait.
            let _ = fs::remove_file(&path);
            return Err(error);
        }
        let mut waiting = self.lock();
        waiting.bytes += body.len() as u64;
        waiting.held.get_or_insert_with(|| file.clone());
        waiting.names.insert(file);
        Ok(())
    }

    /// Keeps an item, and all that come after it, from the uploader until [`Spool::release`].
    pub fn hold(&self, item: &Item) {
        self.lock().held = Some(item.file.clone());
    }

    /// Lets the uploader take everything that waits: the agent's memory has it now.
    pub fn release(&self) {
        self.lock().held = None;
        self.changed.notify_all();
    }

    /// Returns how many objects wait, and their bytes.
    pub fn size(&self) -> (u64, u64) {
        let waiting = self.lock();
        (waiting.names.len() as u64, waiting.bytes)
    }

    /// Returns the oldest object that may be put, as soon as there is one; `None` after `patience`.
    pub fn oldest(&self, patience: Duration) -> Option<Item> {
        let (waiting, _) = self
            .changed
            .wait_timeout_while(self.lock(), patience, |waiting| waiting.first().is_none())
            .unwrap_or_else(PoisonError::into_inner);
        waiting.first().and_then(|name| Item::parse(name))
    }

    pub fn read(&self, item: &Item) -> Result<Vec<u8>> {
        let path = self.folder.join(&item.file);
        fs::read(&path).with_context(|| format!("read {}", path.display()))
    }

    /// Removes an object that was put or will never be.
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

    /// Returns everything that waits, in order.
    pub fn items(&self) -> Vec<Item> {
        self.lock().names.iter().filter_map(|name| Item::parse(name)).collect()
    }
}

/// Writes a file that is whole or not there, also after a power cut.
pub fn write_durably(path: &Path, body: &[u8]) -> Result<()> {
    files::replace(path, body).with_context(|| format!("write {}", path.display()))
}

/// Gives a file a second name, or copies it to another file system. A failed copy leaves nothing.
pub fn second_name(file: &Path, name: &Path) -> Result<()> {
    let _ = fs::remove_file(name);
    if fs::hard_link(file, name).is_ok() {
        return Ok(());
    }
    if let Err(error) = fs::copy(file, name) {
        let _ = fs::remove_file(name);
        return Err(error).with_context(|| format!("keep {}", file.display()));
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
        // The agent restarts; a half-written file is no object.
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

    #[test]
    fn the_uploader_gets_nothing_that_is_not_remembered_yet() {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::open(folder.path().join("spool")).unwrap();
        let oldest = || spool.oldest(Duration::ZERO).map(|item| item.name);
        spool.add("a", "0000000001-x", b"1").unwrap();
        assert_eq!(oldest(), None);
        spool.release();
        assert_eq!(oldest().as_deref(), Some("0000000001-x"));
        spool.add("a", "0000000002-x", b"2").unwrap();
        assert_eq!(oldest().as_deref(), Some("0000000001-x"), "what came before goes on");
        spool.remove(&spool.oldest(Duration::ZERO).unwrap()).unwrap();
        assert_eq!(oldest(), None);
        spool.release();
        assert_eq!(oldest().as_deref(), Some("0000000002-x"));
    }

    #[test]
    fn an_object_whose_folder_could_not_be_synced_does_not_wait() {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::open(folder.path().join("spool")).unwrap();
        // The file has its name when the sync of its folder fails.
        let unsynced = |path: &Path, body: &[u8]| {
            fs::write(path, body)?;
            anyhow::bail!("the folder could not be synced")
        };
        assert!(spool.add_by(unsynced, "a", "0000000001-x", b"short").is_err());
        spool.add("a", "0000000001-y", b"longer").unwrap();
        // After a crash, what lies in the folder waits.
        let spool = Spool::open(folder.path().join("spool")).unwrap();
        let names: Vec<String> = spool.items().into_iter().map(|item| item.name).collect();
        assert_eq!(names, ["0000000001-y"]);
    }

    #[test]
    fn a_failed_write_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let names = || {
            let entries = fs::read_dir(folder.path()).unwrap();
            entries.map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>()
        };
        // A folder that is not empty cannot be replaced by a file.
        fs::create_dir_all(folder.path().join("taken/inside")).unwrap();
        assert!(write_durably(&folder.path().join("taken"), b"body").is_err());
        assert_eq!(names(), ["taken"]);
    }
}
