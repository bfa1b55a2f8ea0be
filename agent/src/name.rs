//! Names objects under `backups/<env>/`, so that a listing alone shows what is covered.
//!
//! | key | what |
//! |---|---|
//! | `log/<timeline>/timeline.json` | where a timeline begins, and from what it continues |
//! | `log/<timeline>/<segment>.zst` | some seconds of the log; see [`Segment`] |
//! | `<class>/<timeline>/<base id>/base.<n>.zst` | part of a base |
//! | `<class>/<timeline>/<base id>/commit.json` | written last: the base is whole |

use std::fmt;
use std::str::FromStr;

pub const TIMELINE: &str = "timeline.json";
pub const COMMIT: &str = "commit.json";
/// The folder of all logs; it expires with the hourly bases.
pub const LOG: &str = "log";

/// How long a base stays. Fixed at the upload, since a host may not touch the base later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    Hourly,
    Daily,
    Monthly,
    /// Never expires: the base from before the number of keys fell.
    Kept,
}

impl Class {
    pub fn name(self) -> &'static str {
        match self {
            Class::Hourly => "hourly",
            Class::Daily => "daily",
            Class::Monthly => "monthly",
            Class::Kept => "kept",
        }
    }
}

/// A part of one increment, named by all that a restore has to know of it. An empty segment says
/// that nothing was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Counts from 1 within a timeline, without a hole.
    pub number: u64,
    /// The engine's number of the increment.
    pub increment: u64,
    /// Uncompressed bytes of the increment; `to` is exclusive.
    pub from: u64,
    pub to: u64,
    /// Newest annotated seconds before its first byte and before its end; 0 if there is none.
    pub first: i64,
    pub last: i64,
    /// The log up to here has every write until the end of this second.
    pub until: i64,
    /// True if it ends at a boundary; a command larger than a segment takes several.
    pub whole: bool,
    /// The SHA-256 of the object, in hexadecimal.
    pub sha256: String,
}

impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Segment {
            number,
            increment,
            from,
            to,
            first,
            last,
            until,
            whole,
            sha256,
        } = self;
        let end = if *whole { 'w' } else { 'p' };
        write!(
            f,
            "{number:010}-{increment:06}-{from:012}-{to:012}-{first:010}-{last:010}-{until:010}-{end}-{sha256}.zst"
        )
    }
}

/// No log has so many bytes or segments, and sums of lower numbers do not overflow.
const HIGHEST: u64 = 1 << 60;
/// In the year 9999, the last that a timestamp can hold.
const LAST_SECOND: i64 = 253_402_207_200;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no name of a segment of the log")]
pub struct Unnamed(String);

impl FromStr for Segment {
    type Err = Unnamed;

    fn from_str(name: &str) -> Result<Self, Unnamed> {
        let parse = || {
            let fields: Vec<&str> = name.strip_suffix(".zst")?.split('-').collect();
            let [number, increment, from, to, first, last, until, end, sha256] = fields.as_slice() else {
                return None;
            };
            let segment = Segment {
                number: number.parse().ok()?,
                increment: increment.parse().ok()?,
                from: from.parse().ok()?,
                to: to.parse().ok()?,
                first: first.parse().ok()?,
                last: last.parse().ok()?,
                until: until.parse().ok()?,
                whole: match *end {
                    "w" => true,
                    "p" => false,
                    _ => return None,
                },
                sha256: (*sha256).to_string(),
            };
            let hexadecimal = sha256.len() == 64 && sha256.bytes().all(|byte| byte.is_ascii_hexdigit());
            let seconds = [segment.first, segment.last, segment.until]
                .iter()
                .all(|second| (0..=LAST_SECOND).contains(second));
            let numbers = [segment.number, segment.increment, segment.to]
                .iter()
                .all(|number| *number <= HIGHEST);
            (hexadecimal && seconds && numbers && segment.from <= segment.to).then_some(segment)
        };
        parse().ok_or_else(|| Unnamed(name.into()))
    }
}

pub fn part(number: usize) -> String {
    format!("base.{number:05}.zst")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_can_be_read_from_its_name() {
        let segment = Segment {
            number: 7,
            increment: 12,
            from: 100,
            to: 4_000_000_000,
            first: 1_700_000_000,
            last: 1_700_000_005,
            until: 1_700_000_004,
            whole: true,
            sha256: "ab".repeat(32),
        };
        assert_eq!(segment.to_string().parse(), Ok(segment.clone()));
        assert!(segment.to_string().len() < 200);
        for wrong in [
            "",
            "timeline.json",
            "1-2-3.zst",
            &segment.to_string().replace("-w-", "-x-"),
        ] {
            assert!(wrong.parse::<Segment>().is_err(), "{wrong}");
        }
    }
}
