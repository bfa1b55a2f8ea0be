//! Strings, many at once. MGET gives them by one request, so that the source has to show one request
//! to those who watch it instead of one for each key. Which keys are strings is asked beside the scan,
//! and only now and then where nearly all are, or nearly none. A string that came by DUMP before looks
//! like another value, and is written once more.

use super::reads::{End, Read, Used};
use super::source::UseKind::{Frequency, Idle};
use super::source::{Source, milliseconds, text_of};
use anyhow::Result;
use crc_fast::{CrcAlgorithm, checksum};
use redis::Value;
use wire::reply::integer;

/// The memory that a string takes at most here. A longer one is read by DUMP, which makes it smaller.
pub const SHORT: u64 = 1024;
/// Keys of one request: the source does nothing else meanwhile.
const TOGETHER: usize = 256;
/// Fewer keys than this teach nothing.
const FEW: usize = 32;
/// Steps for which what was learned is believed.
const STEPS: u32 = 64;
/// The format of Redis 5, which every target knows.
const FORMAT: [u8; 2] = [9, 0];

impl Source {
    /// Asks whether SCAN tells strings from others, and whether MGET is allowed: a server in parts refuses it.
    pub(super) fn knows_strings(&mut self) -> Result<bool> {
        let none = Value::Array(vec![Value::Nil, Value::Nil]);
        Ok(self.knows(&[b"SCAN", b"0", b"COUNT", b"1", b"TYPE", b"string"])?
            && self.link.ask(&[b"MGET", b"infra:none", b"infra:nothing"])? == none)
    }

    /// Asks for strings, with their ends or without. [`Source::take_strings`] reads the answers.
    pub fn ask_for_strings(&mut self, keys: &[Vec<u8>], ends: bool) {
        self.link.add(&[b"TIME"]);
        for keys in keys.chunks(TOGETHER) {
            for key in keys {
                self.add_usage(key);
            }
            let mut words: Vec<&[u8]> = vec![b"MGET"];
            words.extend(keys.iter().map(Vec::as_slice));
            self.link.add(&words);
            for key in keys.iter().filter(|_| ends) {
                self.add_end(key);
            }
        }
    }

    /// Hands each key to `take`, with its value as DUMP could give it. The values of one request are
    /// in memory together, and take at most so many bytes.
    pub fn take_strings(
        &mut self,
        keys: &[Vec<u8>],
        ends: bool,
        most: usize,
        take: &mut dyn FnMut(&[u8], Read) -> Result<()>,
    ) -> Result<()> {
        let now = milliseconds(self.link.answer()?);
        for keys in keys.chunks(TOGETHER) {
            let mut used = Vec::with_capacity(keys.len());
            for _ in keys {
                used.push(self.take_usage()?);
            }
            let values = self.values(keys.len(), most)?;
            for ((key, used), value) in keys.iter().zip(used).zip(values) {
                let end = self.take_end(ends, now)?;
                take(key, value.read(end, used))?;
            }
        }
        Ok(())
    }

    /// Reads an answer to MGET: one value for each key.
    fn values(&mut self, keys: usize, most: usize) -> Result<Vec<Found>> {
        let count = match self.link.begin_many()? {
            Ok(count) if count == keys => count,
            answer => {
                // An array of another length is read to its end.
                for _ in 0..answer.as_ref().copied().unwrap_or(0) {
                    self.link.answer_within(0)?;
                }
                if std::mem::take(&mut self.says_strings) {
                    let said = match &answer {
                        Ok(count) => format!("{count} values for {keys} keys"),
                        Err(answer) => text_of(answer),
                    };
                    eprintln!("infra-agent: copy: the source gives no strings together: {said}");
                }
                return Ok((0..keys).map(|_| Found::Else).collect());
            }
        };
        let mut left = most;
        let mut values = Vec::with_capacity(count);
        for _ in 0..count {
            values.push(match self.link.answer_within(left)? {
                Some(Value::BulkString(value)) => {
                    left = left.saturating_sub(value.len());
                    Found::String(value)
                }
                Some(_) => Found::Else,
                None => Found::Long,
            });
        }
        Ok(values)
    }

    /// Asks how a key was used. A read counts as use, so it comes after this.
    pub(super) fn add_usage(&mut self, key: &[u8]) {
        match self.usage {
            Some(Idle) => self.link.add(&[b"OBJECT", b"IDLETIME", key]),
            Some(Frequency) => self.link.add(&[b"OBJECT", b"FREQ", key]),
            None => {}
        }
    }

    pub(super) fn take_usage(&mut self) -> Result<Option<Used>> {
        Ok(match self.usage {
            None => None,
            Some(kind) => integer(&self.link.answer()?).map(|number| Used { kind, number }),
        })
    }
}

/// How the types of keys are known before they are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kinds {
    /// Each step of the scan is asked for twice, the second time for strings alone.
    #[default]
    Shown,
    /// All are taken for strings. The few that are none are found by that, and read again.
    Strings,
    /// None is taken for a string.
    Others,
}

/// Learns of which types the keys are, so that the scan need not show it at each step.
#[derive(Debug)]
pub struct Guess {
    /// False if a wrong guess does harm: the key would look used.
    may_guess: bool,
    kinds: Kinds,
    /// Steps until the scan has to show it again.
    left: u32,
}

impl Guess {
    pub fn new(may_guess: bool) -> Self {
        Guess {
            may_guess,
            kinds: Kinds::Shown,
            left: 0,
        }
    }

    /// Returns how the keys of the next step are known.
    pub fn next(&mut self) -> Kinds {
        if self.left == 0 {
            return Kinds::Shown;
        }
        self.left -= 1;
        self.kinds
    }

    /// Learns from a step of which the scan showed the strings.
    pub fn shown(&mut self, strings: usize, keys: usize) {
        let (kinds, left) = match () {
            () if keys < FEW => (Kinds::Shown, 0),
            () if strings * 10 >= keys * 9 && self.may_guess => (Kinds::Strings, STEPS),
            () if strings * 50 <= keys => (Kinds::Others, STEPS),
            () => (Kinds::Shown, 0),
        };
        (self.kinds, self.left) = (kinds, left);
    }

    /// Learns how many of these keys were taken for strings and are none.
    pub fn missed(&mut self, missed: usize, keys: usize) {
        if missed * 5 > keys {
            self.left = 0;
        }
    }
}

/// A value of an answer to MGET.
enum Found {
    String(Vec<u8>),
    /// The key is of another type, or is not there.
    Else,
    Long,
}

impl Found {
    /// Judges a value by the end of its key, which was asked for after it.
    fn read(self, end: End, used: Option<Used>) -> Read {
        match (self, end) {
            (_, End::Gone) => Read::Gone,
            (_, End::Unknown(why)) => Read::Refused(why),
            (Found::Long, _) => Read::Long,
            (Found::Else, _) => Read::NoString,
            (Found::String(value), End::At(expires)) => Read::Found {
                payload: payload(&value),
                expires,
                used,
            },
        }
    }
}

/// Returns a string in the form of DUMP: its type, its length, itself, the format and a checksum. Pure.
fn payload(value: &[u8]) -> Vec<u8> {
    let mut payload = Vec::with_capacity(value.len() + 16);
    payload.push(0);
    #[expect(
        clippy::cast_possible_truncation,
        reason = "each form is for lengths that fit into it"
    )]
    match value.len() {
        length @ 0..64 => payload.push(length as u8),
        length @ 64..16_384 => payload.extend((0x4000 | length as u16).to_be_bytes()),
        length => {
            payload.push(0x80);
            payload.extend((length as u32).to_be_bytes());
        }
    }
    payload.extend_from_slice(value);
    payload.extend(FORMAT);
    payload.extend(checksum(CrcAlgorithm::Crc64Redis, &payload).to_le_bytes());
    payload
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scan_shows_types_only_now_and_then_where_nearly_all_keys_are_of_one_kind() {
        let steps = |strings, keys| {
            let mut guess = Guess::new(true);
            assert_eq!(guess.next(), Kinds::Shown);
            guess.shown(strings, keys);
            (0..STEPS).map(|_| guess.next()).collect::<Vec<_>>()
        };
        assert_eq!(steps(95, 100), vec![Kinds::Strings; STEPS as usize]);
        assert_eq!(steps(1, 100), vec![Kinds::Others; STEPS as usize]);
        for (strings, keys) in [(50, 100), (5, 5)] {
            assert_eq!(steps(strings, keys), vec![Kinds::Shown; STEPS as usize]);
        }
        let mut guess = Guess::new(false);
        guess.shown(100, 100);
        assert_eq!(guess.next(), Kinds::Shown);
        let mut guess = Guess::new(true);
        guess.shown(100, 100);
        guess.missed(10, 100);
        assert_eq!(guess.next(), Kinds::Strings);
        guess.missed(30, 100);
        assert_eq!(guess.next(), Kinds::Shown);
    }

    #[test]
    fn a_string_is_written_as_an_engine_writes_it() {
        // An engine took these bytes by RESTORE, and has `hello` then.
        assert_eq!(payload(b"hello"), b"\x00\x05hello\x09\x00\xb3\x80\x8e\xba1\xb2C\xbb");
        assert_eq!(payload(&[b'a'; 64])[..4], [0, 0x40, 64, b'a']);
        assert_eq!(payload(&[b'a'; 16_384])[..7], [0, 0x80, 0, 0, 0x40, 0, b'a']);
    }
}
