//! A key that differs, and the reason.

use super::super::key::Key;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DifferenceKind {
    Missing,
    Extra,
    Different,
    Uncomparable,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// On the source only.
    Missing,
    /// On the target only.
    Extra,
    Type {
        source: String,
        target: String,
    },
    /// In milliseconds since 1970; `None`: never.
    Expiry {
        source: Option<i64>,
        target: Option<i64>,
    },
    /// As `Expiry`, for one field of a hash.
    FieldExpiry {
        field: String,
        source: Option<i64>,
        target: Option<i64>,
    },
    /// Bytes of a string, elements of anything else.
    Length {
        source: u64,
        target: u64,
    },
    /// The values differ at this place, in words.
    Content(String),
    /// The key changed its type or vanished during the look.
    Moving,
    /// A type whose values cannot be compared.
    Uncomparable(String),
}

impl Reason {
    pub fn kind(&self) -> DifferenceKind {
        match self {
            Reason::Missing => DifferenceKind::Missing,
            Reason::Extra => DifferenceKind::Extra,
            Reason::Uncomparable(_) => DifferenceKind::Uncomparable,
            _ => DifferenceKind::Different,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let moment = |at: &Option<i64>| match at {
            None => "never".to_owned(),
            Some(at) => match jiff::Timestamp::from_millisecond(*at) {
                Ok(time) => time.to_string(),
                Err(_) => format!("{at} ms"),
            },
        };
        match self {
            Reason::Missing => f.write_str("not on the target"),
            Reason::Extra => f.write_str("not on the source"),
            Reason::Type { source, target } => write!(f, "a {source} on the source, a {target} on the target"),
            Reason::Expiry { source, target } => {
                write!(
                    f,
                    "expires {} on the source, {} on the target",
                    moment(source),
                    moment(target)
                )
            }
            Reason::FieldExpiry { field, source, target } => {
                write!(
                    f,
                    "field {field} expires {} on the source, {} on the target",
                    moment(source),
                    moment(target)
                )
            }
            Reason::Length { source, target } => write!(f, "length {source} on the source, {target} on the target"),
            Reason::Content(place) => write!(f, "differs in {place}"),
            Reason::Moving => f.write_str("changed while it was looked at"),
            Reason::Uncomparable(kind) => write!(f, "type {kind} cannot be looked into"),
        }
    }
}

/// Holds the differing keys of one round. All are counted; a limited number is kept with reasons.
#[derive(Debug, Default)]
pub(super) struct Findings {
    kept: HashMap<Key, Reason>,
    kept_bytes: usize,
    /// Counts of keys found after the limit was reached; the same key may be counted twice.
    beyond: BTreeMap<DifferenceKind, u64>,
    pub compared: u64,
    pub expired: u64,
    pub later: Later,
}

/// Keys that expire later on the target because their source sends relative times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Later {
    pub keys: u64,
    /// The largest of these delays.
    pub most_ms: u64,
}

impl Later {
    pub fn add(&mut self, more: Later) {
        self.keys += more.keys;
        self.most_ms = self.most_ms.max(more.most_ms);
    }
}

/// Names may be long, so kept names take at most 64 MiB.
const MOST_BYTES: usize = 64 << 20;

impl Findings {
    pub fn add(&mut self, key: Key, reason: Reason, keep: usize) {
        if self.kept.contains_key(&key) {
            return;
        }
        if self.kept.len() < keep && self.kept_bytes < MOST_BYTES {
            self.kept_bytes += key.name.len();
            self.kept.insert(key, reason);
        } else {
            *self.beyond.entry(reason.kind()).or_default() += 1;
        }
    }

    pub fn count(&self, kind: DifferenceKind) -> u64 {
        let kept = self.kept.values().filter(|reason| reason.kind() == kind).count();
        kept as u64 + self.beyond.get(&kind).copied().unwrap_or(0)
    }

    pub fn differing(&self) -> u64 {
        self.kept.len() as u64 + self.beyond.values().sum::<u64>()
    }

    /// Returns true if keys were found that are not kept: only a full round finds them again.
    pub fn overflowed(&self) -> bool {
        !self.beyond.is_empty()
    }

    pub fn keys(&self) -> Vec<Key> {
        self.kept.keys().cloned().collect()
    }

    pub fn first(&self, many: usize) -> Vec<(&Key, &Reason)> {
        let mut all: Vec<_> = self.kept.iter().collect();
        all.sort_unstable_by(|a, b| a.0.cmp(b.0));
        all.truncate(many);
        all
    }
}
