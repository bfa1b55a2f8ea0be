//! Keeps AOF sets by hard links: the current one, and the last that a full copy replaced.
//!
//! | name | what |
//! |---|---|
//! | `current/appendonlydir` | the engine's set; takes space only for a moment after a rewrite |
//! | `last-<time>/appendonlydir` | what a full copy replaced, and when |
//! | `new` | being made; whole as soon as it has a manifest |
//! | `gone-<name>` | being removed |
//!
//! Every change ends with one rename, so [`Kept::open`] can finish it after a crash.

use crate::clock;
use crate::generation::{Generation, within};
use crate::spool::write_durably;
use anyhow::{Context, Result};
use infra_agent::manifest::FILE;
use jiff::Timestamp;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

const LAST: &str = "last-";
const GONE: &str = "gone-";

pub struct Kept {
    folder: PathBuf,
    current: Option<Generation>,
    last: Option<Last>,
}

/// An AOF set that a full copy replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Last {
    pub folder: PathBuf,
    /// When it was replaced.
    pub at: Timestamp,
    pub bytes: u64,
}

impl Kept {
    /// Opens the folder, and finishes what a crash left half done.
    pub fn open(folder: PathBuf) -> Result<Kept> {
        let doing = || format!("open {}", folder.display());
        fs::create_dir_all(&folder).with_context(doing)?;
        let current = folder.join("current");
        let new = folder.join("new");
        // The crash came after the old set was moved away, and before the new one got its name.
        if !current.exists() && within(&new).join(FILE).exists() {
            fs::rename(&new, &current).with_context(doing)?;
        }
        remove(&new)?;
        let mut lasts = Vec::new();
        for entry in fs::read_dir(&folder).with_context(doing)? {
            let path = entry.with_context(doing)?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.starts_with(GONE) {
                remove(&path)?;
            } else if let Some(at) = name.strip_prefix(LAST).and_then(clock::named) {
                lasts.push((at, path));
            }
        }
        lasts.sort();
        let mut kept = Kept {
            current: Generation::read(&within(&current))?,
            folder,
            last: None,
        };
        let newest = lasts.pop();
        for (_, path) in lasts {
            kept.discard(&path)?;
        }
        if let Some((at, path)) = newest {
            kept.last = Some(Last {
                bytes: bytes(&path)?,
                folder: path,
                at,
            });
        }
        Ok(kept)
    }

    pub fn current(&self) -> Option<&Generation> {
        self.current.as_ref()
    }

    pub fn current_bytes(&self) -> u64 {
        let folder = within(&self.folder.join("current"));
        self.current.as_ref().map_or(0, |current| current.bytes(&folder))
    }

    /// Returns whether the current set holds nothing worth keeping.
    pub fn is_empty(&self) -> bool {
        let folder = within(&self.folder.join("current"));
        self.current.as_ref().is_none_or(|current| current.is_empty(&folder))
    }

    pub fn last(&self) -> Option<&Last> {
        self.last.as_ref()
    }

    /// Makes `live` the current set and drops the old one. False if the files changed meanwhile.
    pub fn replace(&mut self, live: &Generation, from: &Path) -> Result<bool> {
        let current = self.folder.join("current");
        self.come_into_force(live, from, |kept| kept.move_away(&current).map(Some))
    }

    /// Makes `live` the current set and the old one the last. False if the files changed meanwhile.
    pub fn set_aside(&mut self, live: &Generation, from: &Path, now: Timestamp) -> Result<bool> {
        let done = self.come_into_force(live, from, |kept| {
            let folder = kept.folder.join(format!("{LAST}{}", clock::name(now)));
            let current = kept.folder.join("current");
            fs::rename(&current, &folder).with_context(|| format!("keep {}", current.display()))?;
            let last = Last {
                bytes: bytes(&folder)?,
                folder,
                at: now,
            };
            Ok(kept.last.replace(last).map(|before| before.folder))
        })?;
        Ok(done)
    }

    /// Removes the last set.
    pub fn let_go(&mut self) -> Result<()> {
        match self.last.take() {
            Some(last) => self.discard(&last.folder),
            None => Ok(()),
        }
    }

    /// Links the files, and checks then that the folder still holds `live`. `make_way` moves the
    /// old set away and returns what to remove at the end.
    fn come_into_force(
        &mut self,
        live: &Generation,
        from: &Path,
        make_way: impl FnOnce(&mut Kept) -> Result<Option<PathBuf>>,
    ) -> Result<bool> {
        let new = self.folder.join("new");
        remove(&new)?;
        let inside = within(&new);
        fs::create_dir_all(&inside).with_context(|| format!("make {}", inside.display()))?;
        for name in live.names() {
            match fs::hard_link(from.join(name), inside.join(name)) {
                Ok(()) => {}
                // The engine has removed it since the list was read.
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
                Err(error) => {
                    return Err(error).with_context(|| format!("keep {name} in {} by a hard link", inside.display()));
                }
            }
        }
        if Generation::read(from)?.as_ref() != Some(live) {
            return Ok(false);
        }
        write_durably(&inside.join(FILE), live.manifest().as_bytes())?;
        let before = match self.current.take() {
            Some(_) => make_way(self)?,
            // The folder holds nothing that an engine would load.
            None => {
                remove(&self.folder.join("current"))?;
                None
            }
        };
        let current = self.folder.join("current");
        fs::rename(&new, &current).with_context(|| format!("keep {}", current.display()))?;
        self.current = Generation::read(&within(&current))?;
        if let Some(before) = before {
            self.discard(&before)?;
        }
        Ok(true)
    }

    fn move_away(&self, path: &Path) -> Result<PathBuf> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let gone = self.folder.join(format!("{GONE}{name}"));
        remove(&gone)?;
        fs::rename(path, &gone).with_context(|| format!("remove {}", path.display()))?;
        Ok(gone)
    }

    /// Removes a set under another name: half of a set must not look like one.
    fn discard(&self, path: &Path) -> Result<()> {
        let gone = if path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with(GONE))
        {
            path.to_path_buf()
        } else {
            self.move_away(path)?
        };
        remove(&gone)
    }
}

fn bytes(folder: &Path) -> Result<u64> {
    let folder = within(folder);
    Ok(Generation::read(&folder)?.map_or(0, |one| one.bytes(&folder)))
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
