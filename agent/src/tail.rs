//! The keys that the last seconds of an append-only log wrote: they are what only a master had that
//! was replaced while its replica was behind.

use anyhow::{Context, Result};
use infra_agent::manifest::{FOLDER, Manifest};
use redis::{ConnectionAddr, IntoConnectionInfo};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use wire::commands::CommandTable;
use wire::effect::effect;
use wire::resp;
use wire::stream::{Argument, Command, Decoder};
use wire::touched::{Effect, Place};

const BLOCK: usize = 1 << 18;

/// Keys by database and name.
type Keys = BTreeSet<(u32, Vec<u8>)>;

#[derive(Debug, Default, PartialEq, Eq)]
struct Tail {
    keys: Keys,
    /// A command may have written other keys too.
    more: bool,
}

/// Prints the keys as lines of database and name, quoted as the engine's client reads them. A last
/// line `more` says that not all are known. `socket` is an engine without users that has loaded the
/// data of `folder`; it says where the keys of commands stand.
pub fn print(folder: &Path, socket: &Path, seconds: i64) -> Result<()> {
    let mut connection = ConnectionAddr::Unix(socket.into())
        .into_connection_info()
        .and_then(redis::Client::open)
        .and_then(|client| client.get_connection())
        .context("connect to the engine")?;
    let table = CommandTable::parse(redis::cmd("COMMAND").query(&mut connection)?);
    let tail = read(folder, seconds, &table)?;
    let mut out = std::io::stdout().lock();
    for (database, name) in &tail.keys {
        writeln!(out, "{database} {}", quoted(name))?;
    }
    if tail.more {
        writeln!(out, "more")?;
    }
    Ok(())
}

/// Reads the increments twice: for the last second, and for what was written since some before it.
fn read(folder: &Path, seconds: i64, table: &CommandTable) -> Result<Tail> {
    let manifest = Manifest::read(folder).with_context(|| format!("read the manifest in {}", folder.display()))?;
    let mut last = None;
    each(folder, &manifest, |second, _| {
        last = last.max(second);
        Ok(())
    })?;
    let first = last.map(|last| last - seconds);
    let (mut tail, mut database) = (Tail::default(), 0);
    each(folder, &manifest, |second, command| {
        match effect(&command.arguments, table)? {
            Effect::Select(number) => database = number,
            _ if second < first => {}
            Effect::Nothing | Effect::Message => {}
            Effect::Everything => tail.more = true,
            Effect::FieldRemoval(key, _) => tail.add(database, [key]),
            Effect::Removal(keys) | Effect::Write(keys) => tail.add(database, keys),
        }
        Ok(())
    })?;
    Ok(tail)
}

impl Tail {
    fn add(&mut self, selected: u32, keys: impl IntoIterator<Item = wire::touched::Touched>) {
        self.keys.extend(keys.into_iter().map(|key| match key.place {
            Place::Selected => (selected, key.name),
            Place::Database(number) => (number, key.name),
        }));
    }
}

/// Gives every command of the increments, with the second that the engine noted before it. A torn
/// end is left out, as the engine leaves it out.
fn each(
    folder: &Path,
    manifest: &Manifest,
    mut give: impl FnMut(Option<i64>, Command) -> Result<(), String>,
) -> Result<()> {
    let mut second = None;
    for file in &manifest.increments {
        let path = folder.join(FOLDER).join(&file.name);
        let doing = || format!("read {}", path.display());
        let (mut reader, mut decoder) = (File::open(&path).with_context(doing)?, Decoder::at(0));
        let mut block = vec![0; BLOCK];
        loop {
            let length = reader.read(&mut block).with_context(doing)?;
            if length == 0 {
                break;
            }
            let fed = decoder.feed(&block[..length], |command| match noted(&command) {
                Some(noted) => {
                    second = Some(noted);
                    Ok(())
                }
                None => give(second, command),
            });
            fed.map_err(anyhow::Error::msg).with_context(doing)?;
        }
    }
    Ok(())
}

/// Returns the second of a line `#TS:<seconds>`, which reads as a command of one word.
fn noted(command: &Command) -> Option<i64> {
    match command.arguments.as_slice() {
        [Argument::Kept(word)] => resp::number(word.strip_prefix(b"#TS:")?),
        _ => None,
    }
}

/// Returns a word as the engine's client reads it: quoted, with other bytes than plain ones escaped.
fn quoted(word: &[u8]) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_:./{}".contains(&byte);
    let escaped = word.iter().map(|byte| {
        if plain(*byte) {
            char::from(*byte).to_string()
        } else {
            format!("\\x{byte:02x}")
        }
    });
    format!("\"{}\"", escaped.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(increments: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join(FOLDER)).unwrap();
        let mut manifest = "file appendonly.aof.1.base.rdb seq 1 type b\n".to_string();
        for (at, lines) in increments.iter().enumerate() {
            let name = format!("appendonly.aof.{}.incr.aof", at + 1);
            manifest += &format!("file {name} seq {} type i\n", at + 1);
            let mut bytes = Vec::new();
            for line in lines.split(';') {
                if line.starts_with('#') {
                    bytes.extend_from_slice(format!("{line}\r\n").as_bytes());
                } else {
                    let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
                    resp::encode(&mut bytes, &words);
                }
            }
            std::fs::write(folder.path().join(FOLDER).join(name), bytes).unwrap();
        }
        let path = folder.path().join(FOLDER).join("appendonly.aof.manifest");
        std::fs::write(path, manifest).unwrap();
        folder
    }

    fn tail(increments: &[&str], seconds: i64) -> (Vec<String>, bool) {
        let tail = read(folder(increments).path(), seconds, &CommandTable::default()).unwrap();
        let named = tail
            .keys
            .iter()
            .map(|(database, name)| format!("{database} {}", quoted(name)));
        (named.collect(), tail.more)
    }

    #[test]
    fn the_keys_of_the_last_seconds_are_named_with_their_database() {
        let log = "#TS:100;SELECT 0;SET old 1;#TS:110;SELECT 3;INCR c;#TS:111;MOVE d 5;DEL e f";
        let named = |seconds| tail(&[log], seconds).0;
        assert_eq!(named(0), ["3 \"d\"", "3 \"e\"", "3 \"f\"", "5 \"d\""]);
        assert_eq!(named(1).len(), 5);
        assert_eq!(named(60).len(), 6);
    }

    #[test]
    fn a_log_in_two_increments_is_one_and_a_torn_end_is_left_out() {
        let made = folder(&["#TS:100;SELECT 0;SET a 1", "#TS:102;SELECT 1;SET b 2"]);
        let last = made.path().join(FOLDER).join("appendonly.aof.2.incr.aof");
        let mut bytes = std::fs::read(&last).unwrap();
        bytes.extend_from_slice(b"*3\r\n$3\r\nSET\r\n$1\r\nc");
        std::fs::write(&last, bytes).unwrap();
        let tail = read(made.path(), 2, &CommandTable::default()).unwrap();
        assert_eq!(tail.keys, Keys::from([(0, b"a".to_vec()), (1, b"b".to_vec())]));
        assert!(!tail.more);
    }

    #[test]
    fn a_command_that_may_write_anything_is_said() {
        let (keys, more) = tail(&["#TS:100;SELECT 0;SET a 1;FLUSHALL"], 5);
        assert_eq!((keys, more), (vec!["0 \"a\"".to_string()], true));
        assert!(!tail(&["#TS:100;SELECT 0;FLUSHALL;#TS:200;SET a 1"], 5).1);
    }

    #[test]
    fn a_log_that_notes_no_seconds_is_read_whole() {
        assert_eq!(tail(&["SELECT 0;SET a 1;SET b 1"], 1).0.len(), 2);
    }

    #[test]
    fn names_of_any_bytes_are_quoted() {
        assert_eq!(quoted(b"demo:counter:{3}"), "\"demo:counter:{3}\"");
        assert_eq!(quoted(b"a \"\\\r\n\xff"), "\"a\\x20\\x22\\x5c\\x0d\\x0a\\xff\"");
    }
}
