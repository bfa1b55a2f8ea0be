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
/// The bit of a digest that stands for a key that the walk has met.
const MET: u64 = 1;
/// The bit of a digest that stands for a key that was read from the source since the sweep began.
const READ: u64 = 2;
const SIGNS: u64 = MET | READ;
/// A key that ends so soon may be gone on the target already: the clocks are not quite the same.
const SOON_MS: i64 = 2_000;

#[derive(Clone, Copy)]
struct Value {
    /// Its last two bits are signs: [`MET`] and [`READ`].
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
    /// Notes that the source has this value of the key. Returns true if the target got it, and nothing else since.
    pub fn saw(&mut self, database: u32, key: &[u8], payload: &[u8], expires: Option<i64>) -> bool {
        self.saw_digest(database, key, self.contents.hash_one(payload), expires)
    }

    /// As `saw`, by the digest of the value.
    pub fn saw_digest(&mut self, database: u32, key: &[u8], digest: u64, expires: Option<i64>) -> bool {
        let Some(value) = self.values.get_mut(&self.names.hash_one((database, key))) else {
            return false;
        };
        let near = match (value.expires, expires) {
            (NEVER, None) => true,
            (NEVER, _) | (_, None) => false,
            (one, Some(other)) => one.abs_diff(other) <= self.near_ms,
        };
        let is_it = near && value.digest | SIGNS == self.contents.hash_one((database, key, digest)) | SIGNS;
        if is_it {
            value.digest |= READ;
        }
        is_it
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
        // A key that is written during a walk need not be met by it.
        let digest = self.contents.hash_one((database, key, digest)) | SIGNS;
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

    /// A sweep begins.
    pub fn sweep_begins(&mut self) {
        for value in self.values.values_mut() {
            value.digest &= !READ;
        }
    }

    /// A walk through all keys of the target begins.
    pub fn walk_begins(&mut self) {
        for value in self.values.values_mut() {
            value.digest &= !MET;
        }
    }

    /// The walk has met a key. Returns true if the key was read from the source since the sweep began.
    pub fn met(&mut self, database: u32, key: &[u8]) -> bool {
        let Some(value) = self.values.get_mut(&self.names.hash_one((database, key))) else {
            return false;
        };
        value.digest |= MET;
        value.digest & READ != 0
    }

    /// The walk has come to its end: forgets what the target no longer has. Returns how many keys
    /// somebody else removed there; those that have expired are not counted.
    pub fn walk_ended(&mut self, now_ms: i64) -> u64 {
        let mut removed = 0;
        self.values.retain(|_, value| {
            let is_there = value.digest & MET != 0;
            if !is_there && value.expires > now_ms + SOON_MS {
                removed += 1;
            }
            is_there
        });
        let (values, names) = (&self.values, &self.names);
        self.streams
            .retain(|(database, key), _| values.contains_key(&names.hash_one((database, key.as_slice()))));
        removed
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
        assert!(!remembered.saw(0, b"a", b"one", Some(10_001)));
        remembered.near_ms = 500;
        assert!(remembered.saw(0, b"a", b"one", Some(10_400)));
        for (database, key, value, expires) in [
            (0, &b"a"[..], &b"two"[..], Some(10_000)),
            (0, b"a", b"one", Some(11_000)),
            (0, b"a", b"one", None),
            (1, b"a", b"one", Some(10_000)),
            (0, b"b", b"one", Some(10_000)),
        ] {
            assert!(!remembered.saw(database, key, value, expires));
        }
        remembered.forget(0, b"a");
        assert!(!remembered.saw(0, b"a", b"one", Some(10_000)));
    }

    #[test]
    fn what_somebody_removed_from_the_target_is_forgotten_and_counted() {
        let mut remembered = Remembered::default();
        for key in [&b"stays"[..], b"removed"] {
            remembered.wrote(0, key, b"one", None);
        }
        remembered.wrote(0, b"expired", b"one", Some(10_000));
        remembered.walk_begins();
        remembered.met(0, b"stays");
        remembered.met(1, b"removed");
        remembered.met(0, b"never written");
        remembered.wrote(0, b"written meanwhile", b"one", None);
        assert_eq!(remembered.walk_ended(10_000), 1);
        for (key, is_known) in [
            (&b"stays"[..], true),
            (b"written meanwhile", true),
            (b"removed", false),
            (b"expired", false),
        ] {
            assert_eq!(remembered.saw(0, key, b"one", None), is_known, "{key:?}");
        }
        remembered.walk_begins();
        assert_eq!(remembered.walk_ended(10_000), 2);
    }
}
