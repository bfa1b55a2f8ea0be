//! How values are read from the source: as DUMP gives them, and what is to be known about them before.

use super::kind::Kind;
use super::source::{Source, UseKind, milliseconds, text_of};
use anyhow::Result;
use redis::Value;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::time::Duration;
use wire::reply::{integer, pairs, text_lossy};

/// A larger value is read in parts. The source says sizes by an estimate, so it is looked at again
/// once the value comes.
pub const LONGEST_DUMP: usize = 8 << 20;
/// Computed ends of one key may differ by this much, since two clocks were read for each.
const NEAR_MS: u64 = 500;
/// The engine counts idle time in whole seconds of a clock of its own.
const IDLE_CLOCK: Duration = Duration::from_secs(2);

/// A key as it was read in one batch.
pub enum Read {
    Found {
        payload: Vec<u8>,
        /// Milliseconds since 1970; `None` for never.
        expires: Option<i64>,
        used: Option<Used>,
    },
    /// The key was deleted, or has expired.
    Gone,
    /// It is too long to be read at once.
    Long,
    /// It was taken for a string, and is none, or is gone.
    NoString,
    /// The source does not give it; holds its words.
    Refused(String),
}

/// How a key was used, as the source told it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Used {
    pub kind: UseKind,
    /// Seconds, or a frequency.
    pub number: i64,
}

/// A key with all that is known before its value is read.
pub struct Weighed {
    pub key: Vec<u8>,
    /// Its bytes, by the source's estimate or by our own guess.
    pub size: u64,
    /// The name of its type; `None` if it was not asked for.
    pub kind: Option<String>,
    /// Strings are read many at once.
    pub is_string: bool,
    /// The step of the scan that gave it; 0 for keys of no scan.
    pub step: u64,
}

/// A key as the scan found it.
pub struct Scanned {
    pub key: Vec<u8>,
    pub is_string: bool,
    /// The number of the step.
    pub step: u64,
}

/// The signs of a change that are cheap to look at.
#[derive(Debug)]
pub struct Shape {
    pub kind: String,
    pub length: u64,
    /// Bytes; 0 if the source does not say.
    pub size: u64,
    /// Milliseconds since 1970; `None` for never.
    pub expires: Option<i64>,
    /// How far two of these may lie apart and still be the same.
    near_ms: u64,
    /// Seconds since it was used last, where the source says it.
    idle: Option<u64>,
    /// A digest of the counters of a stream; 0 for other types.
    counters: u64,
}

impl Shape {
    /// Returns false if the value is another one for sure.
    pub fn is_like(&self, other: &Shape) -> bool {
        let near = match (self.expires, other.expires) {
            (None, None) => true,
            (Some(one), Some(other)) => one.abs_diff(other) <= self.near_ms,
            _ => false,
        };
        near && (&self.kind, self.length, self.counters) == (&other.kind, other.length, other.counters)
    }

    /// Returns true if the source says that nobody used the key for so long.
    pub fn unused_for(&self, length: Duration) -> bool {
        self.idle
            .is_some_and(|idle| Duration::from_secs(idle) >= length + IDLE_CLOCK)
    }
}

impl Source {
    /// Returns the sizes of keys, and their types if they are to be read by them.
    pub fn weigh(&mut self, keys: Vec<Vec<u8>>, by_type: bool) -> Result<Vec<Weighed>> {
        for key in &keys {
            if self.says_sizes {
                self.link.add(&[b"MEMORY", b"USAGE", key]);
            }
            if by_type {
                self.link.add(&[b"TYPE", key]);
            }
        }
        self.link.send()?;
        let mut weighed = Vec::with_capacity(keys.len());
        for key in keys {
            let size = if self.says_sizes {
                natural(&self.link.answer()?)
            } else {
                0
            };
            let kind = if by_type {
                text_lossy(&self.link.answer()?)
            } else {
                None
            };
            weighed.push(Weighed {
                key,
                size,
                kind,
                is_string: false,
                step: 0,
            });
        }
        if !self.says_sizes {
            self.guess(&mut weighed)?;
        }
        Ok(weighed)
    }

    /// Asks for sizes alone. [`Source::take_sizes`] reads the answers.
    pub fn ask_sizes(&mut self, keys: &[Scanned]) {
        for scanned in keys {
            self.link.add(&[b"MEMORY", b"USAGE", &scanned.key]);
        }
    }

    pub fn take_sizes(&mut self, keys: Vec<Scanned>) -> Result<Vec<Weighed>> {
        let weigh = |Scanned { key, is_string, step }| {
            let size = natural(&self.link.answer()?);
            Ok(Weighed {
                key,
                size,
                kind: None,
                is_string,
                step,
            })
        };
        keys.into_iter().map(weigh).collect()
    }

    /// Guesses sizes by numbers of elements.
    fn guess(&mut self, keys: &mut [Weighed]) -> Result<()> {
        let kind = |key: &Weighed| Kind::named(key.kind.as_deref()?);
        for key in keys.iter() {
            if let Some(kind) = kind(key) {
                self.link.add(&[kind.length_command(), &key.key]);
            }
        }
        self.link.send()?;
        for key in keys.iter_mut() {
            if let Some(kind) = kind(key) {
                key.size = kind.guess(natural(&self.link.answer()?));
            }
        }
        Ok(())
    }

    /// Asks for keys, with their ends or without. [`Source::take`] reads the answers.
    pub fn ask_for(&mut self, keys: &[Vec<u8>], ends: bool) {
        self.link.add(&[b"TIME"]);
        for key in keys {
            self.add_usage(key);
            self.link.add(&[b"DUMP", key]);
            if ends {
                self.add_end(key);
            }
        }
    }

    /// Asks when a key ends. [`Source::end`] reads the answer.
    pub(super) fn add_end(&mut self, key: &[u8]) {
        let end: &[u8] = if self.says_ends { b"PEXPIRETIME" } else { b"PTTL" };
        self.link.add(&[end, key]);
    }

    /// Hands each key to `take` as its answer comes: one value of at most so many bytes is in memory.
    pub fn take(
        &mut self,
        keys: &[Vec<u8>],
        ends: bool,
        most: usize,
        take: &mut dyn FnMut(&[u8], Read) -> Result<()>,
    ) -> Result<()> {
        let now = milliseconds(self.link.answer()?);
        for key in keys {
            let used = self.take_usage()?;
            let payload = self.link.answer_within(most)?;
            let end = self.take_end(ends, now)?;
            take(key, judge(payload, end, used))?;
        }
        Ok(())
    }

    /// Returns how far two ends of one key may lie apart and still be the same.
    pub fn near_ms(&self) -> u64 {
        if self.says_ends { 0 } else { NEAR_MS }
    }

    /// Takes the answer about one key's end, if it was asked for.
    pub(super) fn take_end(&mut self, ends: bool, now: Option<i64>) -> Result<End> {
        if !ends {
            return Ok(End::At(None));
        }
        let end = self.link.answer()?;
        Ok(self.end(&end, now))
    }

    /// Reads when a key ends from the answer to PEXPIRETIME or PTTL.
    pub fn end(&self, end: &Value, now: Option<i64>) -> End {
        end_of(self.says_ends, end, now)
    }

    /// Returns the shape of a key; `None` if it is not there.
    pub fn shape(&mut self, key: &[u8]) -> Result<Option<Shape>> {
        let end: &[u8] = if self.says_ends { b"PEXPIRETIME" } else { b"PTTL" };
        for words in [
            &[&b"OBJECT"[..], b"IDLETIME", key][..],
            &[b"TIME"],
            &[b"MEMORY", b"USAGE", key],
            &[end, key],
            &[b"TYPE", key],
        ] {
            self.link.add(words);
        }
        let answers = self.link.answers()?;
        let [idle, now, size, end, kind] = answers.as_slice() else {
            return Ok(None);
        };
        let End::At(expires) = self.end(end, milliseconds(now.clone())) else {
            return Ok(None);
        };
        let kind = text_lossy(kind).unwrap_or_default();
        let (mut length, mut counters) = (0, 0);
        match Kind::named(&kind) {
            None if kind == "none" => return Ok(None),
            None => {}
            Some(known) => {
                length = natural(&self.link.ask(&[known.length_command(), key])?);
                if known == Kind::Stream {
                    counters = digest_of(self.link.ask(&[b"XINFO", b"STREAM", key])?);
                }
            }
        }
        Ok(Some(Shape {
            kind,
            length,
            size: natural(size),
            expires,
            near_ms: self.near_ms(),
            idle: integer(idle).and_then(|idle| u64::try_from(idle).ok()),
            counters,
        }))
    }

    /// Asks when fields of a hash end.
    pub fn field_ends(&mut self, key: &[u8], fields: &[&Vec<u8>]) -> Result<Value> {
        self.add_field_ends(key, fields);
        self.link.send()?;
        self.link.answer()
    }

    /// Adds the question when fields of a hash end.
    pub fn add_field_ends(&mut self, key: &[u8], fields: &[&Vec<u8>]) {
        let count = fields.len().to_string();
        let mut words: Vec<&[u8]> = vec![b"HPEXPIRETIME", key, b"FIELDS", count.as_bytes()];
        words.extend(fields.iter().map(|field| field.as_slice()));
        self.link.add(&words);
    }

    /// Asks for single entries of a stream.
    pub fn entries(&mut self, key: &[u8], ids: &[Vec<u8>]) -> Result<Vec<Value>> {
        for id in ids {
            self.link.add(&[b"XRANGE", key, id, id]);
        }
        self.link.answers()
    }
}

/// When a key ends.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// The key is not there any more.
    Gone,
    /// Milliseconds since 1970; `None` for never.
    At(Option<i64>),
    Unknown(String),
}

/// Judges the answer to DUMP by the end of the key, which was asked for after it. Pure.
fn judge(payload: Option<Value>, end: End, used: Option<Used>) -> Read {
    let payload = match payload {
        None => return Read::Long,
        Some(Value::BulkString(payload)) => payload,
        Some(Value::Nil) => return Read::Gone,
        Some(other) => return Read::Refused(text_of(&other)),
    };
    match end {
        End::Gone => Read::Gone,
        End::At(expires) => Read::Found { payload, expires, used },
        End::Unknown(why) => Read::Refused(why),
    }
}

/// Reads an end that is absolute, or what is left at the time `now`. Pure.
fn end_of(is_absolute: bool, end: &Value, now: Option<i64>) -> End {
    match (integer(end), now) {
        // It was deleted, or expired, after its value was read.
        (Some(-2), _) => End::Gone,
        (Some(-1), _) => End::At(None),
        (Some(end), _) if is_absolute => End::At(Some(end)),
        (Some(left), Some(now)) => End::At(Some(now.saturating_add(left))),
        _ => End::Unknown(format!("the end of a key is not told: {}", text_of(end))),
    }
}

/// Returns a digest of the fields of XINFO STREAM that a write changes.
fn digest_of(stream: Value) -> u64 {
    let fields = pairs(stream).unwrap_or_default();
    let field = |name: &str| fields.get(name).and_then(text_lossy);
    let counted = ["last-generated-id", "entries-added", "max-deleted-entry-id"].map(field);
    BuildHasherDefault::<DefaultHasher>::default().hash_one(counted)
}

fn natural(answer: &Value) -> u64 {
    integer(answer)
        .and_then(|number| u64::try_from(number).ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_vanished_after_its_value_was_read_is_gone_and_not_for_ever() {
        for is_absolute in [true, false] {
            assert_eq!(end_of(is_absolute, &Value::Int(-2), Some(5)), End::Gone);
            assert_eq!(end_of(is_absolute, &Value::Int(-1), Some(5)), End::At(None));
            let value = Some(Value::BulkString(b"value".to_vec()));
            assert!(matches!(judge(value, End::Gone, None), Read::Gone));
        }
        assert_eq!(end_of(true, &Value::Int(700), Some(5)), End::At(Some(700)));
        assert_eq!(end_of(false, &Value::Int(700), Some(5)), End::At(Some(705)));
        assert!(matches!(end_of(false, &Value::Int(700), None), End::Unknown(_)));
    }

    #[test]
    fn a_key_that_was_used_during_a_reading_is_not_taken_for_unused() {
        let shape = |idle| Shape {
            kind: "hash".into(),
            length: 1,
            size: 1,
            expires: None,
            near_ms: 0,
            idle,
            counters: 0,
        };
        assert!(shape(Some(7)).unused_for(Duration::from_secs(5)));
        assert!(!shape(Some(6)).unused_for(Duration::from_secs(5)));
        assert!(!shape(None).unused_for(Duration::ZERO));
        assert!(shape(None).is_like(&shape(Some(3))));
        let other = Shape {
            expires: Some(5),
            ..shape(None)
        };
        assert!(!shape(None).is_like(&other));
    }
}
