//! Reads a base that was written as commands, and writes commands: for some keys, to replace each
//! at once; or for all keys, to keep the remaining life that they had.
//!
//! An engine writes such a base with `aof-use-rdb-preamble no`. All commands of one key stand
//! together, and its expiry comes last, as an absolute time.

use crate::{files, glob};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::path::Path;
use wire::bounds::{LONGEST_BASE_ARGUMENT, LONGEST_LOG_LINE};
use wire::resp::{self, length, write};

/// A key is built under this name and then renamed, so that no client sees half of it. A killed run
/// leaves this one key, which the next run removes.
pub const BUILT_AS: &[u8] = b"infra:restore:building";

/// Which keys to take from a base, and how much longer they live.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Wanted {
    /// The pattern of the keys; `None` for all.
    pub keys: Option<String>,
    /// How much later keys expire.
    pub shift_ms: i64,
    /// Keys that have expired by then are left out; milliseconds since 1970.
    pub now_ms: i64,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
pub struct Picked {
    pub keys: u64,
    /// Keys that were left out because they have expired.
    pub expired: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum Unpicked {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("the base is not written as commands at byte {0}")]
    Malformed(u64),
}

/// Writes commands that replace the wanted keys by those of the base.
pub fn commands(base: &Path, wanted: &Wanted, sink: &mut dyn Write) -> Result<Picked, Unpicked> {
    let pattern = wanted.keys.as_deref().map(str::as_bytes);
    let is_wanted = |name: &[u8]| pattern.is_none_or(|pattern| glob::matches(pattern, name));
    // A key's expiry comes last, so this pass finds the expired keys before any is written.
    let mut gone: HashSet<(Vec<u8>, Vec<u8>)> = HashSet::new();
    let mut database = b"0".to_vec();
    each(base, |command| {
        match Kind::of(command) {
            Kind::Select => database.clone_from(&command[1]),
            Kind::Expiry if is_wanted(&command[1]) && shifted(&command[2], wanted.shift_ms) <= wanted.now_ms => {
                gone.insert((database.clone(), command[1].clone()));
            }
            _ => {}
        }
        Ok(())
    })?;
    let mut sink = BufWriter::with_capacity(1 << 18, sink);
    let mut picked = Picked {
        expired: gone.len() as u64,
        ..Picked::default()
    };
    let (mut database, mut told) = (b"0".to_vec(), None);
    let mut building: Option<Building> = None;
    each(base, |command| {
        let kind = Kind::of(command);
        if kind == Kind::Select {
            building.take().map_or(Ok(()), |built| built.finish(&mut sink))?;
            database.clone_from(&command[1]);
            return Ok(());
        }
        let Some(place) = kind.key() else { return Ok(()) };
        let name = &command[place];
        if !is_wanted(name) || gone.contains(&(database.clone(), name.clone())) {
            return Ok(());
        }
        if building.as_ref().is_none_or(|built| built.name != *name) {
            building.take().map_or(Ok(()), |built| built.finish(&mut sink))?;
            if told.as_ref() != Some(&database) {
                write(&mut sink, &[b"SELECT", &database])?;
                told = Some(database.clone());
            }
            write(&mut sink, &[b"DEL", BUILT_AS])?;
            building = Some(Building {
                name: name.clone(),
                ends: Vec::new(),
            });
            picked.keys += 1;
        }
        if let (true, Some(built)) = (kind.expires(), &mut building) {
            let mut ends = command.to_vec();
            ends[2] = later(&command[2], wanted.shift_ms);
            built.ends.push(ends);
            return Ok(());
        }
        let mut words: Vec<&[u8]> = command.iter().map(Vec::as_slice).collect();
        words[place] = BUILT_AS;
        write(&mut sink, &words)?;
        Ok(())
    })?;
    building.take().map_or(Ok(()), |built| built.finish(&mut sink))?;
    sink.flush()?;
    Ok(picked)
}

/// A key that is being built as [`BUILT_AS`].
struct Building {
    name: Vec<u8>,
    /// The expiry of the key and its fields. It is set after the rename: a key that expired while
    /// it was built could not be renamed.
    ends: Vec<Vec<Vec<u8>>>,
}

impl Building {
    fn finish(self, sink: &mut dyn Write) -> io::Result<()> {
        write(sink, &[b"RENAME", BUILT_AS, &self.name])?;
        for ends in &self.ends {
            write(sink, &ends.iter().map(Vec::as_slice).collect::<Vec<_>>())?;
        }
        Ok(())
    }
}

/// Writes the whole base again with later expiry times. Returns how many keys expire.
pub fn shift(base: &Path, shift_ms: i64, sink: &mut dyn Write) -> Result<u64, Unpicked> {
    let mut sink = BufWriter::with_capacity(1 << 18, sink);
    let mut keys = 0;
    each(base, |command| {
        let kind = Kind::of(command);
        keys += u64::from(kind == Kind::Expiry);
        let mut words: Vec<&[u8]> = command.iter().map(Vec::as_slice).collect();
        let later = kind.expires().then(|| later(&command[2], shift_ms));
        if let Some(later) = &later {
            words[2] = later;
        }
        write(&mut sink, &words)?;
        Ok(())
    })?;
    sink.flush()?;
    Ok(keys)
}

/// As [`shift`], in the place of the base itself; a failure leaves it as it was.
pub fn shift_in_place(base: &Path, shift_ms: i64) -> Result<(), Unpicked> {
    files::replace_by(base, |file| shift(base, shift_ms, file).map(drop))
}

/// The effect of a command of a base.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Select,
    /// Sets the expiry of a key: PEXPIREAT key milliseconds.
    Expiry,
    /// Sets the expiry of fields: HPEXPIREAT key milliseconds FIELDS ….
    FieldExpiry,
    /// Any other command; the key is at this place.
    Key(usize),
    /// Functions and the like.
    Other,
}

impl Kind {
    fn of(command: &[Vec<u8>]) -> Kind {
        let is = |name: &str| command[0].eq_ignore_ascii_case(name.as_bytes());
        match command.len() {
            2 if is("SELECT") => Kind::Select,
            3 if is("PEXPIREAT") => Kind::Expiry,
            3.. if is("HPEXPIREAT") => Kind::FieldExpiry,
            3.. if is("XGROUP") => Kind::Key(2),
            _ if is("FUNCTION") || is("MULTI") || is("EXEC") => Kind::Other,
            2.. => Kind::Key(1),
            _ => Kind::Other,
        }
    }

    fn key(self) -> Option<usize> {
        match self {
            Kind::Expiry | Kind::FieldExpiry => Some(1),
            Kind::Key(place) => Some(place),
            Kind::Select | Kind::Other => None,
        }
    }

    fn expires(self) -> bool {
        matches!(self, Kind::Expiry | Kind::FieldExpiry)
    }
}

fn shifted(text: &[u8], shift_ms: i64) -> i64 {
    resp::number::<i64>(text).map_or(i64::MAX, |at| at.saturating_add(shift_ms))
}

fn later(text: &[u8], shift_ms: i64) -> Vec<u8> {
    shifted(text, shift_ms).to_string().into_bytes()
}

/// Calls for each command of a log, in order.
fn each(base: &Path, mut see: impl FnMut(&[Vec<u8>]) -> Result<(), Unpicked>) -> Result<(), Unpicked> {
    let mut reader = BufReader::with_capacity(1 << 18, File::open(base)?);
    let (mut offset, mut line) = (0_u64, Vec::new());
    loop {
        let begun = offset;
        let malformed = || Unpicked::Malformed(begun);
        if !read_line(&mut reader, &mut line, &mut offset)? {
            return Ok(());
        }
        let count = match line.split_first() {
            Some((b'#', _)) => continue,
            Some((b'*', count)) => length(count).filter(|count| *count > 0).ok_or_else(malformed)?,
            _ => return Err(malformed()),
        };
        let mut command = Vec::with_capacity(usize::try_from(count).unwrap_or(usize::MAX).min(1024));
        for _ in 0..count {
            let length = match (read_line(&mut reader, &mut line, &mut offset)?, line.split_first()) {
                (true, Some((b'$', digits))) => length(digits).filter(|length| *length <= LONGEST_BASE_ARGUMENT),
                _ => None,
            };
            let length = length.ok_or_else(malformed)?;
            let mut word = Vec::with_capacity(usize::try_from(length).unwrap_or(usize::MAX).min(1 << 20));
            (&mut reader).take(length).read_to_end(&mut word)?;
            let mut end = [0; 2];
            reader.read_exact(&mut end).map_err(|_| malformed())?;
            if word.len() as u64 != length || end != *b"\r\n" {
                return Err(malformed());
            }
            offset += length + 2;
            command.push(word);
        }
        see(&command)?;
    }
}

/// Reads a line without its end; false at the end of the file.
fn read_line(reader: &mut impl BufRead, line: &mut Vec<u8>, offset: &mut u64) -> Result<bool, Unpicked> {
    line.clear();
    let read = reader.take(LONGEST_LOG_LINE as u64).read_until(b'\n', line)?;
    if read == 0 {
        return Ok(false);
    }
    if !line.ends_with(b"\r\n") {
        return Err(Unpicked::Malformed(*offset));
    }
    *offset += read as u64;
    line.truncate(read - 2);
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(lines: &[&str]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for line in lines {
            let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
            write(&mut bytes, &words).unwrap();
        }
        bytes
    }

    fn base(bytes: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        file
    }

    #[test]
    fn each_wanted_key_is_built_aside_and_expired_ones_are_left_out() {
        let file = base(&log(&[
            "SELECT 0",
            "SET a 1",
            "SET user:1 x",
            "PEXPIREAT user:1 1000",
            "SET user:2 y",
            "PEXPIREAT user:2 5000",
            "SELECT 3",
            "XADD user:s 1-1 f v",
            "XGROUP CREATE user:s g 1-1",
        ]));
        let wanted = Wanted {
            keys: Some("user:*".into()),
            shift_ms: 10,
            now_ms: 2_000,
        };
        let mut out = Vec::new();
        let picked = commands(file.path(), &wanted, &mut out).unwrap();
        assert_eq!(picked, Picked { keys: 2, expired: 1 });
        let expected = log(&[
            "SELECT 0",
            "DEL infra:restore:building",
            "SET infra:restore:building y",
            "RENAME infra:restore:building user:2",
            "PEXPIREAT user:2 5010",
            "SELECT 3",
            "DEL infra:restore:building",
            "XADD infra:restore:building 1-1 f v",
            "XGROUP CREATE infra:restore:building g 1-1",
            "RENAME infra:restore:building user:s",
        ]);
        assert_eq!(String::from_utf8(out).unwrap(), String::from_utf8(expected).unwrap());
    }

    #[test]
    fn a_shifted_base_keeps_everything_but_expires_later() {
        let file = base(&log(&[
            "SELECT 0",
            "HMSET h f v",
            "HPEXPIREAT h 7 FIELDS 1 f",
            "PEXPIREAT h 9",
        ]));
        let mut out = Vec::new();
        assert_eq!(shift(file.path(), 100, &mut out).unwrap(), 1);
        assert_eq!(
            out,
            log(&[
                "SELECT 0",
                "HMSET h f v",
                "HPEXPIREAT h 107 FIELDS 1 f",
                "PEXPIREAT h 109"
            ])
        );
    }

    #[test]
    fn a_file_that_is_no_log_of_commands_is_refused() {
        let whole = log(&["SET a 1", "SET b 2"]);
        for cut in 1..whole.len() {
            if cut == log(&["SET a 1"]).len() {
                continue;
            }
            let file = base(&whole[..cut]);
            assert!(shift(file.path(), 0, &mut Vec::new()).is_err(), "{cut}");
        }
        for wrong in [
            &b"REDIS0011\xfa"[..],
            b"*0\r\n",
            b"*1\r\n$99999999999\r\n",
            b"*1\r\n$-1\r\n",
        ] {
            assert!(shift(base(wrong).path(), 0, &mut Vec::new()).is_err());
        }
    }
}
