//! A digest of each key as it was written to the target. A key that is still the same is not written again:
//! every sweep would fill the master's log otherwise.

use super::parts::{Digest, Held};
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

/// Further keys are not remembered, and are written at every sweep. This many take about 26 MB; one more
/// would double that.
const MOST: usize = 900_000;
/// Stands for a key that never ends.
const NEVER: i64 = i64::MAX;

#[derive(Clone, Copy)]
struct Value {
    digest: u64,
    /// When it expires, milliseconds since 1970, or [`NEVER`].
    expires: i64,
}

#[derive(Default)]
pub struct Remembered {
    values: HashMap<u64, Value>,
    /// The name goes into both hashes, so that two keys with one hash are taken for changed.
    names: RandomState,
    contents: RandomState,
    /// Large streams that are followed by their entries.
    streams: HashMap<(u32, Vec<u8>), Held>,
    /// The functions that the target got.
    pub functions: Option<Vec<u8>>,
    /// How far two ends of one key may lie apart and still be the same.
    pub near_ms: u64,
}

impl Remembered {
    /// Returns true if the target got this value of the key, and nothing else since.
    pub fn has(&self, database: u32, key: &[u8], payload: &[u8], expires: Option<i64>) -> bool {
        self.is(database, key, self.contents.hash_one(payload), expires)
    }

    /// As `has`, by the digest of the value.
    pub fn is(&self, database: u32, key: &[u8], digest: u64, expires: Option<i64>) -> bool {
        let Some(value) = self.values.get(&self.names.hash_one((database, key))) else {
            return false;
        };
        let near = match (value.expires, expires) {
            (NEVER, None) => true,
            (NEVER, _) | (_, None) => false,
            (one, Some(other)) => one.abs_diff(other) <= self.near_ms,
        };
        near && value.digest == self.contents.hash_one((database, key, digest))
    }

    /// Returns true if the target got some value of the key.
    pub fn knows(&self, database: u32, key: &[u8]) -> bool {
        self.values.contains_key(&self.names.hash_one((database, key)))
    }

    /// Begins the digest of a value that is read in parts.
    pub fn digest(&self) -> Digest {
        Digest::new(self.contents.clone())
    }

    /// Notes what the target got.
    pub fn wrote(&mut self, database: u32, key: &[u8], payload: &[u8], expires: Option<i64>) {
        self.note(database, key, self.contents.hash_one(payload), expires);
    }

    /// As `wrote`, by the digest of the value.
    pub fn note(&mut self, database: u32, key: &[u8], digest: u64, expires: Option<i64>) {
        self.take_held(database, key);
        let name = self.names.hash_one((database, key));
        if self.values.len() >= MOST && !self.values.contains_key(&name) {
            return;
        }
        let digest = self.contents.hash_one((database, key, digest));
        let expires = expires.unwrap_or(NEVER);
        self.values.insert(name, Value { digest, expires });
    }

    /// Notes what the target has of a stream, until it gets another value.
    pub fn hold(&mut self, database: u32, key: &[u8], held: Held) {
        self.streams.insert((database, key.to_vec()), held);
    }

    /// Returns what the target has of a stream, and forgets it.
    pub fn take_held(&mut self, database: u32, key: &[u8]) -> Option<Held> {
        // A list of all keys must not be slowed down by the few that are streams.
        if self.streams.is_empty() {
            return None;
        }
        self.streams.remove(&(database, key.to_vec()))
    }

    /// Forgets a key before it is written: the answer may never come.
    pub fn forget(&mut self, database: u32, key: &[u8]) {
        self.take_held(database, key);
        self.values.remove(&self.names.hash_one((database, key)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_written_again_once_its_value_or_its_end_is_another() {
        let mut remembered = Remembered::default();
        remembered.wrote(0, b"a", b"one", Some(10_000));
        // A lease that was renewed soon after.
        assert!(!remembered.has(0, b"a", b"one", Some(10_001)));
        remembered.near_ms = 500;
        assert!(remembered.has(0, b"a", b"one", Some(10_400)));
        for (database, key, value, expires) in [
            (0, &b"a"[..], &b"two"[..], Some(10_000)),
            (0, b"a", b"one", Some(11_000)),
            (0, b"a", b"one", None),
            (1, b"a", b"one", Some(10_000)),
            (0, b"b", b"one", Some(10_000)),
        ] {
            assert!(!remembered.has(database, key, value, expires));
        }
        remembered.forget(0, b"a");
        assert!(!remembered.has(0, b"a", b"one", Some(10_000)));
    }
}
