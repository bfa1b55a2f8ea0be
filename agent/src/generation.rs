//! One AOF set: the files that a manifest lists, and which file each name stands for.
//!
//! Names do not identify a set, since a replaced folder counts from 1 again. The inodes do.

use anyhow::{Context, Result};
use infra_agent::manifest::{FILE, Manifest};
use infra_agent::rdb;
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The files of one manifest, as they were when it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generation {
    base: Option<Part>,
    increments: Vec<Part>,
    /// The manifest's lines, without files that the engine is about to delete.
    lines: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Part {
    name: String,
    sequence: u64,
    place: Place,
}

/// Identifies a file or folder, also after it was renamed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    device: u64,
    inode: u64,
}

impl Place {
    /// Returns `None` if nothing is there.
    pub fn of(path: &Path) -> Result<Option<Place>> {
        match std::fs::metadata(path) {
            Ok(file) => Ok(Some(Place {
                device: file.dev(),
                inode: file.ino(),
            })),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("look at {}", path.display())),
        }
    }
}

impl Generation {
    /// Returns the AOF set of a folder; `None` if it has no manifest, or if a listed file was
    /// removed meanwhile. The next call then finds the new set.
    pub fn read(folder: &Path) -> Result<Option<Generation>> {
        let path = folder.join(FILE);
        let text = match std::fs::read_to_string(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            text => text.with_context(|| format!("read {}", path.display()))?,
        };
        let manifest = Manifest::parse(&text).with_context(|| format!("understand {}", path.display()))?;
        let mut parts = Vec::new();
        for file in manifest.base.iter().chain(&manifest.increments) {
            let Some(place) = Place::of(&folder.join(&file.name))? else {
                return Ok(None);
            };
            parts.push(Part {
                name: file.name.clone(),
                sequence: file.sequence,
                place,
            });
        }
        if parts.is_empty() {
            return Ok(None);
        }
        let increments = parts.split_off(usize::from(manifest.base.is_some()));
        let in_force = |line: &&str| Manifest::parse(line).is_some_and(|one| one != Manifest::default());
        Ok(Some(Generation {
            base: parts.pop(),
            increments,
            lines: text.lines().filter(in_force).map(|line| format!("{line}\n")).collect(),
        }))
    }

    /// Returns a manifest of these files alone.
    pub fn manifest(&self) -> &str {
        &self.lines
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.base.iter().chain(&self.increments).map(|part| part.name.as_str())
    }

    /// Returns the bytes of all files, as they are now in that folder.
    pub fn bytes(&self, folder: &Path) -> u64 {
        self.names()
            .filter_map(|name| std::fs::metadata(folder.join(name)).ok())
            .map(|file| file.len())
            .sum()
    }

    /// Returns whether the set holds no data, as far as its files in that folder show.
    pub fn is_empty(&self, folder: &Path) -> bool {
        let base = self.base.as_ref().is_none_or(|base| {
            let file = std::fs::File::open(folder.join(&base.name)).ok();
            file.and_then(|mut file| rdb::header(&mut file))
                .is_some_and(|header| header.is_empty)
        });
        let written = |part: &Part| std::fs::metadata(folder.join(&part.name)).map_or(1, |file| file.len());
        base && self.increments.iter().map(written).sum::<u64>() == 0
    }

    /// Returns whether ordinary rewrites made this set from the earlier one, without a full copy.
    /// `joints`: pairs of increments where the second was seen to continue the first.
    pub fn goes_on_from(&self, earlier: &Generation, joints: &BTreeSet<(u64, u64)>) -> bool {
        if self.base == earlier.base {
            return true;
        }
        let (Some(first), Some(last)) = (self.increments.first(), earlier.increments.last()) else {
            return false;
        };
        // Its first increment proves nothing: an engine that lost its manifest reuses that file.
        let listed = earlier.increments.iter().skip(1).any(|part| part == first);
        let joined =
            first.sequence > last.sequence && (last.sequence..first.sequence).all(|at| joints.contains(&(at, at + 1)));
        listed || joined
    }
}

/// Returns the folder of the AOF set within a data folder.
pub fn within(folder: &Path) -> PathBuf {
    folder.join(infra_agent::manifest::FOLDER)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generation(base: (u64, u64), increments: &[(u64, u64)]) -> Generation {
        let part = |kind: &str, (sequence, inode): (u64, u64)| Part {
            name: format!("appendonly.aof.{sequence}.{kind}"),
            sequence,
            place: Place { device: 1, inode },
        };
        Generation {
            base: Some(part("base.rdb", base)),
            increments: increments.iter().map(|one| part("incr.aof", *one)).collect(),
            lines: String::new(),
        }
    }

    #[test]
    fn a_rewrite_continues_a_set_and_a_full_copy_does_not() {
        let before = generation((1, 10), &[(1, 11)]);
        let rewriting = generation((1, 10), &[(1, 11), (2, 12)]);
        let rewritten = generation((2, 20), &[(2, 12)]);
        let (none, seen) = (BTreeSet::new(), BTreeSet::from([(1, 2), (2, 3)]));
        assert!(rewriting.goes_on_from(&before, &none));
        assert!(
            rewritten.goes_on_from(&rewriting, &none),
            "it was listed beside the old base"
        );
        assert!(
            rewritten.goes_on_from(&before, &seen),
            "it was opened under its own name"
        );
        assert!(
            generation((3, 30), &[(3, 31)]).goes_on_from(&before, &seen),
            "two at once"
        );
        assert!(!rewritten.goes_on_from(&before, &none), "nobody saw how it came to be");
        assert!(!generation((2, 20), &[(3, 31)]).goes_on_from(&rewriting, &none));
        assert!(
            !generation((1, 40), &[(1, 41)]).goes_on_from(&before, &seen),
            "another folder counts from one again"
        );
        assert!(
            !generation((1, 40), &[(1, 11)]).goes_on_from(&before, &seen),
            "an engine without its manifest writes on in the same file"
        );
    }

    #[test]
    fn files_that_the_engine_is_about_to_delete_are_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let lines = "file b seq 2 type b\nfile i seq 2 type i startoffset 7\n";
        std::fs::write(folder.path().join(FILE), format!("file old seq 1 type h\n{lines}")).unwrap();
        assert_eq!(
            Generation::read(folder.path()).unwrap(),
            None,
            "its files are not there"
        );
        std::fs::write(folder.path().join("b"), "1234").unwrap();
        std::fs::write(folder.path().join("i"), "567").unwrap();
        let found = Generation::read(folder.path()).unwrap().unwrap();
        assert_eq!(found.manifest(), lines);
        assert_eq!(found.bytes(folder.path()), 7);
        assert!(!found.is_empty(folder.path()));
        std::fs::write(folder.path().join("b"), b"REDIS0010\xfa\x01a\x01b\xff12345678").unwrap();
        assert!(!found.is_empty(folder.path()), "something was written since");
        std::fs::write(folder.path().join("i"), "").unwrap();
        assert!(found.is_empty(folder.path()));
        assert_eq!(found.names().collect::<Vec<_>>(), ["b", "i"]);
    }
}
