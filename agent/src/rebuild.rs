//! Rebuilds a data folder from a base and the log after it, up to the end of a second.
//!
//! It proves every object's digest, the digest of the whole base, that no segment is missing, and
//! that the log can be read to its end. It does not prove that the engine loads the folder.

mod objects;

use crate::download::{Unread, Wanted};
use crate::manifest::{FILE, FOLDER, Manifest};
use crate::name::Segment;
use crate::record::Part;
use crate::scan::{Boundary, Malformed, Scanner};
use crate::written::Written;
use objects::{Objects, in_order};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// The base and the segments to build from. The URLs are presigned, so a plan is never shown and never an argument.
#[derive(Clone, Deserialize, Serialize)]
pub struct Plan {
    pub base: Base,
    pub pieces: Vec<Piece>,
    /// The last second to include, since 1970; `None` for everything.
    pub until: Option<i64>,
    /// How many objects are read at once.
    pub parallel: usize,
}

#[derive(Clone, Deserialize, Serialize)]
pub struct Base {
    pub parts: Vec<(Part, String)>,
    pub plain_sha256: String,
    pub plain_bytes: u64,
    /// The second that was last annotated before the log continues.
    pub second: Option<i64>,
}

#[derive(Clone, Deserialize, Serialize)]
pub struct Piece {
    /// The object's name; see [`Segment`].
    pub name: String,
    pub url: String,
    /// Where a later timeline continues, in bytes of its increment; its own end if none does.
    pub up_to: u64,
}

/// The data folder that was built.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
pub struct Built {
    pub base_bytes: u64,
    pub log_bytes: u64,
    /// The last annotated second; `None` if there is none.
    pub last_second: Option<i64>,
    /// True if the log had later seconds, which were left out.
    pub cut: bool,
    /// Bytes at the end that were no whole command or transaction, and were left out.
    pub torn_bytes: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum Unbuilt {
    #[error(transparent)]
    Unread(#[from] Unread),
    #[error("{name} does not unpack to what its record says: {what}")]
    Corrupt { name: String, what: String },
    #[error("between {before} and {after} a part of the log is missing")]
    Gap { before: String, after: String },
    #[error("the log is damaged in {name}: {error}")]
    Malformed { name: String, error: Malformed },
    #[error("{path}: {error}")]
    Disk { path: PathBuf, error: io::Error },
}

/// Builds `folder`/appendonlydir. Calls `progress` with the objects done and their total. A build
/// that fails leaves nothing behind: the disk that it filled may be that of a live engine.
pub fn build(plan: &Plan, folder: &Path, progress: &mut dyn FnMut(usize, usize)) -> Result<Built, Unbuilt> {
    let log = folder.join(FOLDER);
    let was_there = log.exists();
    let built = build_all(plan, folder, progress);
    if built.is_err() && !was_there {
        let _ = fs::remove_dir_all(&log);
    }
    built
}

fn build_all(plan: &Plan, folder: &Path, progress: &mut dyn FnMut(usize, usize)) -> Result<Built, Unbuilt> {
    contiguous(&plan.pieces)?;
    let log = folder.join(FOLDER);
    fs::create_dir_all(&log).map_err(at(&log))?;
    let wanted = wanted(plan);
    std::thread::scope(|scope| {
        let mut objects = Objects {
            read: in_order(scope, &wanted, plan.parallel.clamp(1, 16)),
            done: 0,
            all: wanted.len(),
            progress,
        };
        let base_bytes = write_base(plan, &log, &mut objects)?;
        let built = write_increment(plan, &log, &mut objects)?;
        write_manifest(&log)?;
        Ok(Built { base_bytes, ..built })
    })
}

/// Every object of the plan, in the order in which it is used.
fn wanted(plan: &Plan) -> Vec<Wanted<'_>> {
    let parts = plan.base.parts.iter().map(|(part, url)| Wanted {
        name: &part.name,
        url,
        sha256: &part.sha256,
    });
    let segments = plan.pieces.iter().map(|piece| Wanted {
        name: &piece.name,
        url: &piece.url,
        // `contiguous` has parsed the name.
        sha256: piece
            .name
            .rsplit('-')
            .next()
            .unwrap_or_default()
            .trim_end_matches(".zst"),
    });
    parts.chain(segments).collect()
}

fn at(path: &Path) -> impl Fn(io::Error) -> Unbuilt + use<> {
    let path = path.to_path_buf();
    move |error| Unbuilt::Disk {
        path: path.clone(),
        error,
    }
}

/// Writes the base and returns its bytes.
fn write_base<R: Iterator<Item = Result<Vec<u8>, Unread>>>(
    plan: &Plan,
    log: &Path,
    objects: &mut Objects<'_, R>,
) -> Result<u64, Unbuilt> {
    let base = log.join(Manifest::BASE);
    let mut file = Written::to(File::create_new(&base).map_err(at(&base))?);
    let mut written = 0;
    for (part, _) in &plan.base.parts {
        let object = objects.next(&part.name)?;
        let bytes = unpack(&part.name, &object, part.plain_bytes, |some| {
            file.add(some).map_err(at(&base))
        })?;
        if bytes != part.plain_bytes {
            let what = format!("{bytes} bytes instead of {}", part.plain_bytes);
            return Err(corrupt(&part.name, what));
        }
        written += bytes;
        objects.written();
    }
    let found = file.end().map_err(at(&base))?;
    if found != plan.base.plain_sha256 || written != plan.base.plain_bytes {
        return Err(corrupt("the base", format!("its SHA-256 is {found}")));
    }
    Ok(written)
}

/// Writes the log behind the base, up to the wanted second or to its last whole command.
fn write_increment<R: Iterator<Item = Result<Vec<u8>, Unread>>>(
    plan: &Plan,
    log: &Path,
    objects: &mut Objects<'_, R>,
) -> Result<Built, Unbuilt> {
    let mut built = Built::default();
    let increment = log.join(Manifest::INCREMENT);
    let mut file = BufWriter::with_capacity(1 << 20, File::create_new(&increment).map_err(at(&increment))?);
    let mut scanner = Scanner::at(Boundary {
        offset: 0,
        second: plan.base.second,
    });
    for piece in &plan.pieces {
        let segment = parsed(&piece.name)?;
        let object = objects.next(&piece.name)?;
        let mut at_offset = segment.from;
        unpack(&piece.name, &object, segment.to - segment.from, |some| {
            let left = usize::try_from(piece.up_to.saturating_sub(at_offset)).unwrap_or(usize::MAX);
            at_offset += some.len() as u64;
            let some = &some[..some.len().min(left)];
            if !built.cut {
                file.write_all(some).map_err(at(&increment))?;
                let fed = scanner.feed_until(some, plan.until);
                built.cut = fed.map_err(|error| Unbuilt::Malformed {
                    name: piece.name.clone(),
                    error,
                })?;
            }
            Ok(())
        })?;
        if at_offset != segment.to {
            let what = format!("it ends at {at_offset} instead of {}", segment.to);
            return Err(corrupt(&piece.name, what));
        }
        objects.written();
        if built.cut {
            break;
        }
    }
    let end = scanner.boundary();
    if !built.cut {
        built.torn_bytes = scanner.offset() - end.offset;
    }
    built.log_bytes = end.offset;
    built.last_second = end.second;
    let file = file.into_inner().map_err(|error| at(&increment)(error.into_error()))?;
    file.set_len(end.offset).map_err(at(&increment))?;
    file.sync_all().map_err(at(&increment))?;
    Ok(built)
}

/// The manifest is written last. Without it the engine would start empty, and a reader sees that
/// the folder is not whole.
fn write_manifest(log: &Path) -> Result<(), Unbuilt> {
    let manifest = log.join(FILE);
    let mut file = File::create_new(&manifest).map_err(at(&manifest))?;
    file.write_all(Manifest::rebuilt().as_bytes()).map_err(at(&manifest))?;
    file.sync_all().map_err(at(&manifest))?;
    File::open(log).and_then(|log| log.sync_all()).map_err(at(log))
}

/// The pieces follow each other: by their numbers within a timeline, and by their offsets everywhere.
fn contiguous(pieces: &[Piece]) -> Result<(), Unbuilt> {
    let segments = pieces
        .iter()
        .map(|piece| parsed(&piece.name))
        .collect::<Result<Vec<_>, _>>()?;
    for (index, pair) in segments.windows(2).enumerate() {
        let follows = if pair[0].increment == pair[1].increment {
            pair[1].from == pair[0].to.min(pieces[index].up_to)
        } else {
            // The length of an increment is not known, so the numbers must follow each other.
            pair[1].number == pair[0].number + 1 && pair[1].increment == pair[0].increment + 1 && pair[1].from == 0
        };
        if !follows {
            return Err(Unbuilt::Gap {
                before: pieces[index].name.clone(),
                after: pieces[index + 1].name.clone(),
            });
        }
    }
    Ok(())
}

fn parsed(name: &str) -> Result<Segment, Unbuilt> {
    name.parse()
        .map_err(|error: crate::name::Unnamed| corrupt(name, error.to_string()))
}

fn corrupt(name: &str, what: String) -> Unbuilt {
    Unbuilt::Corrupt {
        name: name.into(),
        what,
    }
}

/// Unpacks an object and returns its size. Stops above `most`: a few kilobytes can fill a disk.
fn unpack(
    name: &str,
    object: &[u8],
    most: u64,
    mut sink: impl FnMut(&[u8]) -> Result<(), Unbuilt>,
) -> Result<u64, Unbuilt> {
    let mut decoder =
        zstd::stream::read::Decoder::with_buffer(object).map_err(|error| corrupt(name, error.to_string()))?;
    let mut block = vec![0; 256 << 10];
    let mut bytes = 0;
    loop {
        let read = io::Read::read(&mut decoder, &mut block).map_err(|error| corrupt(name, error.to_string()))?;
        if read == 0 {
            return Ok(bytes);
        }
        bytes += read as u64;
        if bytes > most {
            return Err(corrupt(name, format!("more than {most} bytes")));
        }
        sink(&block[..read])?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(places: &[(u64, u64, u64, u64)]) -> Vec<Piece> {
        let segment = |(number, increment, from, to): (u64, u64, u64, u64)| Segment {
            number,
            increment,
            from,
            to,
            first: 1,
            last: 2,
            until: 1,
            whole: true,
            sha256: "0".repeat(64),
        };
        places
            .iter()
            .map(|place| Piece {
                name: segment(*place).to_string(),
                url: String::new(),
                up_to: place.3,
            })
            .collect()
    }

    #[test]
    fn a_build_that_fails_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let part = Part {
            name: "base.00000.zst".into(),
            sha256: String::new(),
            bytes: 1,
            plain_bytes: 1,
        };
        let plan = Plan {
            base: Base {
                parts: vec![(part, "http://127.0.0.1:1/none".into())],
                plain_sha256: String::new(),
                plain_bytes: 1,
                second: None,
            },
            pieces: Vec::new(),
            until: None,
            parallel: 1,
        };
        assert!(build(&plan, folder.path(), &mut |_, _| {}).is_err());
        assert!(!folder.path().join(FOLDER).exists());
    }

    #[test]
    fn a_hole_is_refused_wherever_it_is() {
        let whole = [
            (1, 1, 0, 10),
            (2, 1, 10, 20),
            (3, 2, 0, 0),
            (4, 2, 0, 30),
            (1, 2, 30, 40),
        ];
        assert!(contiguous(&pieces(&whole)).is_ok());
        for missing in [1, 3] {
            let mut holed = whole.to_vec();
            holed.remove(missing);
            assert!(
                matches!(contiguous(&pieces(&holed)), Err(Unbuilt::Gap { .. })),
                "{missing}"
            );
        }
    }
}
