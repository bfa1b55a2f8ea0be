//! PostgreSQL's times in ISO style and UTC, such as `2026-01-31 10:15:00.5+00`.

use crate::model::import::TimeKind;
use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;

/// A point in time as a column has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    At(Timestamp),
    /// `-infinity`.
    Always,
    /// `infinity`.
    Never,
}

/// Reads a time; the error says why it has no such form.
pub fn parse(text: &str, kind: TimeKind) -> Result<Moment, String> {
    match text {
        "infinity" => return Ok(Moment::Never),
        "-infinity" => return Ok(Moment::Always),
        _ => {}
    }
    let outside = || format!("the time {text} is outside of the years 1 to 9999");
    let civil: Option<DateTime> = match kind {
        TimeKind::Date => text.parse::<Date>().ok().map(|date| date.at(0, 0, 0, 0)),
        TimeKind::Timestamp => text.parse().ok(),
        TimeKind::TimestampTz => text.strip_suffix("+00").and_then(|civil| civil.parse().ok()),
    };
    let zoned = civil.ok_or_else(outside)?.to_zoned(TimeZone::UTC);
    zoned.map(|zoned| Moment::At(zoned.timestamp())).map_err(|_| outside())
}

/// Returns a time in the form of RFC 3339; without a zone if the column has none.
pub fn iso8601(text: &str, kind: TimeKind) -> Result<String, String> {
    match parse(text, kind)? {
        Moment::Always | Moment::Never => Ok(text.to_owned()),
        Moment::At(_) => Ok(match kind {
            TimeKind::Date => text.to_owned(),
            TimeKind::Timestamp => text.replacen(' ', "T", 1),
            TimeKind::TimestampTz => {
                let civil = text.strip_suffix("+00").unwrap_or(text);
                format!("{}Z", civil.replacen(' ', "T", 1))
            }
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_utc_and_others_are_refused_by_name() {
        let parsed = parse("2026-01-31 10:15:00.25+00", TimeKind::TimestampTz);
        let expected: Timestamp = "2026-01-31T10:15:00.25Z".parse().unwrap();
        assert_eq!(parsed, Ok(Moment::At(expected)));
        assert_eq!(parse("infinity", TimeKind::Date), Ok(Moment::Never));
        let date = parse("2026-01-31", TimeKind::Date);
        assert_eq!(date, Ok(Moment::At("2026-01-31T00:00:00Z".parse().unwrap())));
        for outside in ["0044-03-15 BC", "10000-01-01"] {
            assert!(parse(outside, TimeKind::Date).unwrap_err().contains(outside));
        }
    }

    #[test]
    fn a_time_without_a_zone_gets_none() {
        let iso = |text, kind| iso8601(text, kind).unwrap();
        assert_eq!(iso("2026-01-31 10:15:00", TimeKind::Timestamp), "2026-01-31T10:15:00");
        assert_eq!(
            iso("2026-01-31 10:15:00+00", TimeKind::TimestampTz),
            "2026-01-31T10:15:00Z"
        );
        assert_eq!(iso("infinity", TimeKind::Timestamp), "infinity");
    }
}
