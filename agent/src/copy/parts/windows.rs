//! Reads one value of the source window by window, so that no request holds the source up.

use super::part::Part;
use crate::copy::source::{Source, text_of};
use redis::Value;
use std::collections::BTreeMap;
use wire::reply::{array, bytes, integer};

/// Bytes that a window should have.
const WINDOW: u64 = 512 << 10;
/// A window that turns out longer is read again with fewer elements.
pub const LONGEST: usize = 6 << 20;
/// A single element can only be read whole, and is in memory three times until it is on its way. A longer one
/// is refused: the service may use 384 MB.
const LONGEST_ELEMENT: usize = 100 << 20;
/// Elements of a window if nothing is known of their sizes.
const UNKNOWN: u64 = 100;
const MOST: u64 = 2000;
/// How much smaller a window becomes after one that was too long.
const SMALLER: u64 = 8;

/// The reason why a key was not read.
pub enum Trouble {
    /// It was deleted, or is of another type by now.
    Moved,
    /// It is of a type that has no parts.
    OtherType,
    /// The source does not give it; holds its words.
    Refused(String),
    /// The connection is of no use any more.
    Broken(anyhow::Error),
}

impl From<anyhow::Error> for Trouble {
    fn from(error: anyhow::Error) -> Self {
        Trouble::Broken(error)
    }
}

pub type Outcome<T> = Result<T, Trouble>;

/// Takes the parts as they come.
pub type Take<'a> = &'a mut dyn FnMut(Part) -> anyhow::Result<()>;

/// Returns the part for members with scores behind them.
pub fn scored(mut members: Vec<Vec<u8>>) -> Part {
    for pair in members.chunks_exact_mut(2) {
        pair.reverse();
    }
    Part::any_order(&[b"ZADD"], 2, members)
}

/// Returns the parts for the moments at which fields end.
pub fn field_ends<'a>(fields: impl Iterator<Item = &'a Vec<u8>>, answer: Value) -> Vec<Part> {
    let mut ends: BTreeMap<i64, Vec<Vec<u8>>> = BTreeMap::new();
    for (field, end) in fields.zip(array(answer).unwrap_or_default()) {
        // Below zero: it does not end, or is gone.
        if let Some(end) = integer(&end).filter(|end| *end >= 0) {
            ends.entry(end).or_default().push(field.clone());
        }
    }
    let ends = ends.into_iter();
    ends.map(|(end, fields)| Part::field_ends(end, fields)).collect()
}

pub struct Windows<'a> {
    pub source: &'a mut Source,
    pub key: &'a [u8],
    /// Elements that are asked for at once.
    pub count: u64,
    pub usual: u64,
    /// Bytes that were read.
    pub read: u64,
}

impl<'a> Windows<'a> {
    /// Begins to read a key of the selected database. `size` is its bytes and `length` its elements,
    /// as far as the source says.
    pub fn begin(source: &'a mut Source, key: &'a [u8], size: u64, length: u64) -> Windows<'a> {
        let count = match size / length.max(1) {
            0 => UNKNOWN,
            each => (WINDOW / each).clamp(1, MOST),
        };
        Windows::of(source, key, count)
    }

    /// Begins to read a key, so many elements at once.
    pub fn of(source: &'a mut Source, key: &'a [u8], count: u64) -> Windows<'a> {
        Windows {
            source,
            key,
            count,
            usual: count,
            read: 0,
        }
    }

    /// Asks for a window of at most so many elements, and for fewer if it is too long.
    pub fn ask(&mut self, words: &dyn Fn(u64) -> Vec<Vec<u8>>) -> Outcome<Value> {
        loop {
            let words = words(self.count);
            let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
            let longest = if self.count == 1 { LONGEST_ELEMENT } else { LONGEST };
            match self.source.ask_within(&words, longest)? {
                None if self.count == 1 => {
                    return Err(Trouble::Refused(format!(
                        "elements of it that cannot be read apart have more than {} MB",
                        LONGEST_ELEMENT >> 20
                    )));
                }
                None => self.count = (self.count / SMALLER).max(1),
                Some(answer @ Value::ServerError(_)) => return Err(refusal(&answer)),
                Some(answer) => {
                    self.count = (self.count * 2).min(self.usual);
                    return Ok(answer);
                }
            }
        }
    }

    /// Hands the parts over, and leaves the source alone for as long as their bytes cost.
    pub fn give(&mut self, parts: Vec<Part>, take: Take) -> Outcome<()> {
        let mut read = 0;
        for part in parts {
            read += part.bytes();
            take(part)?;
        }
        self.read += read;
        Ok(self.source.rest(read)?)
    }

    pub fn string(&mut self, length: u64, take: Take) -> Outcome<()> {
        if length <= WINDOW {
            let value = bytes(self.range(0)?).ok_or(Trouble::Moved)?;
            return self.give(vec![Part::in_order(&[b"SET"], vec![value])], take);
        }
        let set = |at: u64, bytes| Part::in_order(&[b"SETRANGE"], vec![at.to_string().into_bytes(), bytes]);
        // The target makes room once, not again for each window.
        take(set(length - 1, vec![0]))?;
        let mut at = 0;
        loop {
            let window = bytes(self.range(at)?).ok_or(Trouble::Moved)?;
            let read = window.len() as u64;
            if read > 0 {
                self.give(vec![set(at, window)], take)?;
            }
            if read < WINDOW {
                return Ok(());
            }
            at += read;
        }
    }

    fn range(&mut self, at: u64) -> Outcome<Value> {
        let (start, end) = (at.to_string(), (at + WINDOW - 1).to_string());
        let key = self.key;
        self.ask(&|_| {
            vec![
                b"GETRANGE".to_vec(),
                key.to_vec(),
                start.clone().into(),
                end.clone().into(),
            ]
        })
    }

    pub fn list(&mut self, take: Take) -> Outcome<()> {
        let mut at = 0_u64;
        loop {
            let key = self.key;
            let answer = self.ask(&|count| {
                let (start, end) = (at.to_string(), (at + count - 1).to_string());
                vec![b"LRANGE".to_vec(), key.to_vec(), start.into(), end.into()]
            })?;
            let elements = all_bytes(answer)?;
            if elements.is_empty() {
                return Ok(());
            }
            at += elements.len() as u64;
            self.give(vec![Part::each_in_order(&[b"RPUSH"], elements)], take)?;
        }
    }

    /// Scans the key; `parts` makes parts of the elements of each answer.
    pub fn scan<F>(&mut self, command: &[u8], take: Take, parts: &mut F) -> Outcome<()>
    where
        F: FnMut(&mut Self, Vec<Vec<u8>>) -> Outcome<Vec<Part>>,
    {
        let mut cursor = b"0".to_vec();
        loop {
            let key = self.key;
            let answer = self.ask(&|count| {
                let count = count.to_string().into_bytes();
                vec![command.to_vec(), key.to_vec(), cursor.clone(), b"COUNT".to_vec(), count]
            })?;
            let mut answer = array(answer).unwrap_or_default().into_iter();
            let (Some(next), Some(elements)) = (answer.next().and_then(bytes), answer.next()) else {
                return Err(Trouble::Refused("the answer to a scan is not understood".into()));
            };
            let elements = all_bytes(elements)?;
            if !elements.is_empty() {
                let parts = parts(self, elements)?;
                self.give(parts, take)?;
            }
            if next == b"0" {
                return Ok(());
            }
            cursor = next;
        }
    }

    /// Returns the parts of fields and values, with the moments at which fields end.
    pub fn hash(&mut self, pairs: Vec<Vec<u8>>) -> Outcome<Vec<Part>> {
        let ends = if self.source.says_field_ends {
            let fields: Vec<&Vec<u8>> = pairs.iter().step_by(2).collect();
            let answer = self.source.field_ends(self.key, &fields)?;
            if matches!(answer, Value::ServerError(_)) {
                return Err(refusal(&answer));
            }
            field_ends(fields.into_iter(), answer)
        } else {
            Vec::new()
        };
        let mut parts = vec![Part::any_order(&[b"HSET"], 2, pairs)];
        parts.extend(ends);
        Ok(parts)
    }
}

/// Returns the elements of an answer.
pub fn all_bytes(answer: Value) -> Outcome<Vec<Vec<u8>>> {
    let elements = array(answer).ok_or(Trouble::Moved)?;
    Ok(elements.into_iter().filter_map(bytes).collect())
}

pub fn refusal(answer: &Value) -> Trouble {
    let why = text_of(answer);
    if why.contains("WRONGTYPE") || why.contains("no such key") || why.contains("NOGROUP") {
        Trouble::Moved
    } else {
        Trouble::Refused(why)
    }
}
