//! Collects the written keys, each with the offset of its last write. Their number is bounded.
//! Pure.

use super::super::key::{Key, printable};
use super::Event;
use std::collections::HashMap;
use std::sync::Arc;
use wire::commands::CommandTable;
use wire::effect::effect;
use wire::stream::Command;
use wire::touched::{Effect, Place, Touched};

/// With more keys than this, or more bytes of names, single keys are no longer remembered.
const MOST_KEYS: usize = 1_000_000;
const MOST_BYTES: usize = 128 << 20;

/// Counts of all that passed through a tap; they only grow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Commands that wrote keys, or may have; those of `removals` are not in it.
    pub writes: u64,
    /// DEL, UNLINK and HDEL: a client's, or of keys and fields that expired.
    pub removals: u64,
    /// PUBLISH and the like, which change no key.
    pub messages: u64,
    /// The last write or removal, in words, and its offset.
    pub last: Option<(u64, String)>,
}

/// Keys that were written since some offset.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DirtyKeys {
    /// Any key may have been written: too many were, or by a command that does not say which.
    pub everything: bool,
    pub keys: Vec<Key>,
    /// Written in a database that the stream had not told yet: one of those that exist.
    pub in_some_database: Vec<Vec<u8>>,
}

impl DirtyKeys {
    pub fn is_empty(&self) -> bool {
        !self.everything && self.keys.is_empty() && self.in_some_database.is_empty()
    }

    /// All keys to be looked at, given the databases that exist on either side now; none when that is all of them.
    pub fn within(&self, databases: &[u32]) -> Option<Vec<Key>> {
        if self.everything {
            return None;
        }
        let mut keys = self.keys.clone();
        for name in &self.in_some_database {
            keys.extend(databases.iter().map(|database| Key {
                database: *database,
                name: name.clone(),
            }));
        }
        keys.sort_unstable();
        keys.dedup();
        Some(keys)
    }
}

#[derive(Debug)]
pub(super) struct Record {
    database: Option<u32>,
    /// The offset of each key's last write.
    last_write: HashMap<(Option<u32>, Vec<u8>), u64>,
    bytes: usize,
    /// Up to this offset any key may have been written.
    everything_until: u64,
    most_keys: usize,
    seen: Seen,
    /// The keys of commands that `effect` does not list.
    table: Arc<CommandTable>,
}

impl Record {
    pub fn new(offset: u64, table: Arc<CommandTable>) -> Record {
        Record {
            database: None,
            last_write: HashMap::new(),
            bytes: 0,
            everything_until: offset,
            most_keys: MOST_KEYS,
            seen: Seen::default(),
            table,
        }
    }

    pub fn seen(&self) -> &Seen {
        &self.seen
    }

    /// Takes one command; gives it as an event if it is more than a ping.
    pub fn take(&mut self, command: &Command) -> Result<Option<Event>, String> {
        let effect = effect(&command.arguments, &self.table)?;
        match &effect {
            Effect::Nothing => return Ok(None),
            Effect::Select(database) => {
                self.database = Some(*database);
                return Ok(None);
            }
            Effect::Message => self.seen.messages += 1,
            Effect::Removal(keys) => {
                self.seen.removals += 1;
                self.touch(keys, command.offset);
            }
            Effect::FieldRemoval(key, _) => {
                self.seen.removals += 1;
                self.touch(std::slice::from_ref(key), command.offset);
            }
            Effect::Write(keys) => {
                self.seen.writes += 1;
                self.touch(keys, command.offset);
            }
            Effect::Everything => {
                self.seen.writes += 1;
                self.everything(command.offset);
            }
        }
        let name = command
            .arguments
            .first()
            .and_then(|name| name.bytes())
            .unwrap_or_default();
        let event = Event {
            offset: command.offset,
            database: self.database,
            command: printable(&name.to_ascii_uppercase()),
            effect,
        };
        let first = match &event.effect {
            Effect::Removal(keys) | Effect::Write(keys) => keys.first(),
            Effect::FieldRemoval(key, _) => Some(key),
            Effect::Everything => None,
            Effect::Nothing | Effect::Select(_) | Effect::Message => return Ok(Some(event)),
        };
        let last = match first {
            Some(key) => format!("{} {}", event.command, printable(&key.name)),
            None => event.command.clone(),
        };
        self.seen.last = Some((event.offset, last));
        Ok(Some(event))
    }

    fn touch(&mut self, keys: &[Touched], offset: u64) {
        for key in keys {
            let database = match key.place {
                Place::Selected => self.database,
                Place::Database(number) => Some(number),
            };
            if self.last_write.insert((database, key.name.clone()), offset).is_none() {
                self.bytes += key.name.len();
            }
        }
        if self.last_write.len() > self.most_keys || self.bytes > MOST_BYTES {
            self.everything(offset);
        }
    }

    fn everything(&mut self, offset: u64) {
        self.last_write = HashMap::new();
        self.bytes = 0;
        self.everything_until = offset;
    }

    pub fn since(&self, mark: u64) -> DirtyKeys {
        let mut dirty = DirtyKeys {
            everything: mark < self.everything_until,
            ..DirtyKeys::default()
        };
        for ((database, name), offset) in &self.last_write {
            match (*offset > mark, database) {
                (false, _) => {}
                (true, Some(database)) => dirty.keys.push(Key {
                    database: *database,
                    name: name.clone(),
                }),
                (true, None) => dirty.in_some_database.push(name.clone()),
            }
        }
        dirty.keys.sort_unstable();
        dirty.in_some_database.sort_unstable();
        dirty
    }

    pub fn forget(&mut self, mark: u64) {
        let bytes = &mut self.bytes;
        self.last_write.retain(|(_, name), offset| {
            let stays = *offset > mark;
            *bytes -= if stays { 0 } else { name.len() };
            stays
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::stream::Argument;

    fn taken(record: &mut Record, offset: u64, words: &str) -> Option<Event> {
        let arguments = words.split(' ').map(|word| Argument::Kept(word.into())).collect();
        record.take(&Command { arguments, offset }).unwrap()
    }

    fn record(offset: u64) -> Record {
        Record::new(offset, Arc::default())
    }

    fn key(database: u32, name: &str) -> Key {
        Key {
            database,
            name: name.into(),
        }
    }

    #[test]
    fn a_key_is_dirty_since_any_mark_before_its_last_write() {
        let mut record = record(10);
        for (offset, words) in [(20, "SELECT 3"), (30, "SET a 1"), (40, "SET b 1"), (50, "SET a 2")] {
            taken(&mut record, offset, words);
        }
        assert_eq!(record.since(10).keys, [key(3, "a"), key(3, "b")]);
        assert_eq!(record.since(40).keys, [key(3, "a")]);
        assert!(record.since(50).is_empty());
        record.forget(40);
        assert_eq!(record.since(10).keys, [key(3, "a")]);
    }

    #[test]
    fn before_the_stream_tells_its_database_a_key_may_be_in_any_that_exists() {
        let mut record = record(0);
        taken(&mut record, 1, "SET a 1");
        taken(&mut record, 2, "SELECT 5");
        taken(&mut record, 3, "SET b 1");
        let dirty = record.since(0);
        assert_eq!(
            (dirty.keys.as_slice(), dirty.in_some_database.as_slice()),
            (&[key(5, "b")][..], &[b"a".to_vec()][..])
        );
        assert_eq!(dirty.within(&[0, 5]).unwrap(), [key(0, "a"), key(5, "a"), key(5, "b")]);
    }

    #[test]
    fn too_many_keys_and_a_flush_make_everything_dirty_until_then_and_not_after() {
        let mut record = record(0);
        record.most_keys = 3;
        taken(&mut record, 1, "SELECT 0");
        (2..=5).for_each(|offset| drop(taken(&mut record, offset, &format!("SET key:{offset} 1"))));
        assert!(record.since(4).everything && record.since(4).within(&[0]).is_none());
        assert!(record.since(5).is_empty());
        taken(&mut record, 6, "SET a 1");
        assert_eq!(
            (record.since(5).everything, record.since(5).keys.as_slice()),
            (false, &[key(0, "a")][..])
        );
        taken(&mut record, 7, "FLUSHALL");
        assert!(record.since(6).everything && record.since(7).is_empty());
    }

    #[test]
    fn pings_are_no_events_and_leave_the_numbers_as_they_are() {
        let mut record = record(0);
        for words in ["PING", "SELECT 0", "REPLCONF GETACK *", "MULTI", "EXEC"] {
            assert_eq!(taken(&mut record, 9, words), None);
        }
        assert_eq!(record.seen(), &Seen::default());
        taken(&mut record, 10, "DEL a");
        taken(&mut record, 11, "PUBLISH a b");
        let event = taken(&mut record, 12, "incr n").unwrap();
        assert_eq!((event.database, event.command.as_str()), (Some(0), "INCR"));
        let last = Some((12, "INCR n".to_owned()));
        assert_eq!(
            record.seen(),
            &Seen {
                writes: 1,
                removals: 1,
                messages: 1,
                last
            }
        );
    }
}
