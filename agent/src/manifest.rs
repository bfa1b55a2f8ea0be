//! The engine's list of its files: a base and its increments. Source: Redis 7 and 8, `aof.c`.

use std::io;
use std::path::{Path, PathBuf};

/// Its name, with `appendfilename appendonly.aof`.
pub const FILE: &str = "appendonly.aof.manifest";
/// The folder that holds it, under the engine's data folder.
pub const FOLDER: &str = "appendonlydir";

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    pub base: Option<File>,
    /// In the order in which they are replayed.
    pub increments: Vec<File>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    pub name: String,
    pub sequence: u64,
    /// Replication offsets at which an increment begins and ends, as newer engines write them.
    pub start_offset: Option<u64>,
    pub end_offset: Option<u64>,
}

impl Manifest {
    /// Reads the manifest of a data folder.
    pub fn read(data: &Path) -> io::Result<Manifest> {
        let text = std::fs::read_to_string(data.join(FOLDER).join(FILE))?;
        Manifest::parse(&text).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it is not understood"))
    }

    /// Returns the file of the base that the manifest of a data folder names.
    pub fn base_of(data: &Path) -> io::Result<Option<PathBuf>> {
        let base = Manifest::read(data)?.base;
        Ok(base.map(|base| data.join(FOLDER).join(base.name)))
    }

    /// Returns `None` if the text is no manifest.
    pub fn parse(text: &str) -> Option<Manifest> {
        let mut manifest = Manifest::default();
        for line in text
            .lines()
            .filter(|line| !line.trim().is_empty() && !line.starts_with('#'))
        {
            let words: Vec<&str> = line.split_whitespace().collect();
            let (pairs, []) = words.as_chunks::<2>() else {
                return None;
            };
            let value = |key: &str| pairs.iter().find(|[name, _]| *name == key).map(|[_, value]| *value);
            let file = File {
                name: value("file").filter(|name| !name.contains('/'))?.to_string(),
                sequence: value("seq")?.parse().ok()?,
                start_offset: value("startoffset").and_then(|text| text.parse().ok()),
                end_offset: value("endoffset").and_then(|text| text.parse().ok()),
            };
            match value("type")? {
                "b" => manifest.base = Some(file),
                "i" => manifest.increments.push(file),
                // Files that the engine is about to delete.
                "h" => {}
                _ => return None,
            }
        }
        Some(manifest)
    }

    /// Returns the manifest of a folder that was rebuilt from one base and one increment.
    pub fn rebuilt() -> String {
        format!(
            "file {} seq 1 type b\nfile {} seq 1 type i\n",
            Manifest::BASE,
            Manifest::INCREMENT
        )
    }

    pub const BASE: &str = "appendonly.aof.1.base.rdb";
    pub const INCREMENT: &str = "appendonly.aof.1.incr.aof";

    pub fn increment(&self, sequence: u64) -> Option<&File> {
        self.increments.iter().find(|file| file.sequence == sequence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bases_increments_and_history_are_told_apart() {
        let text = "file appendonly.aof.2.base.rdb seq 2 type b\nfile appendonly.aof.1.incr.aof seq 1 type h\n\
                    file appendonly.aof.2.incr.aof seq 2 type i startoffset 10 endoffset 20\nfile appendonly.aof.3.incr.aof seq 3 type i startoffset 20\n";
        let manifest = Manifest::parse(text).unwrap();
        assert_eq!(manifest.base.unwrap().name, "appendonly.aof.2.base.rdb");
        assert_eq!(
            manifest
                .increments
                .iter()
                .map(|file| (file.sequence, file.start_offset, file.end_offset))
                .collect::<Vec<_>>(),
            [(2, Some(10), Some(20)), (3, Some(20), None)]
        );
        for wrong in [
            "file a seq 1",
            "file a seq x type b",
            "file a/b seq 1 type b",
            "file a seq 1 type z",
        ] {
            assert_eq!(Manifest::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_rebuilt_manifest_can_be_read() {
        let manifest = Manifest::parse(&Manifest::rebuilt()).unwrap();
        assert_eq!(manifest.base.unwrap().name, Manifest::BASE);
        assert_eq!(manifest.increments[0].name, Manifest::INCREMENT);
    }
}
