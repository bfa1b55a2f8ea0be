//! When a key expires, as absolute time of the server that holds it.

use super::difference::Reason;
use ::redis::Value;
use wire::info::Version;
use wire::reply::integer;

/// How far expiry times may differ with nothing wrong if a server reports only the time left.
pub(super) const TOLERANCE_MS: i64 = 2_000;

/// Redis before 7 replicates relative times, so keys expire later by their wait: at most this.
pub(super) const LONGEST_LAG_MS: i64 = 60 * 60 * 1_000;

/// How far two expiry times may differ and still be the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tolerance {
    /// Largest difference in both directions.
    pub measured_ms: i64,
    /// How much later than that a key may expire on the target.
    pub lag_ms: i64,
}

impl Tolerance {
    pub fn between(source: Clock, target: Clock) -> Self {
        let measured_ms = match (source, target) {
            (Clock::Absolute, Clock::Absolute) => 0,
            _ => TOLERANCE_MS,
        };
        let lag_ms = match source {
            Clock::Absolute => 0,
            Clock::Relative => LONGEST_LAG_MS,
        };
        Tolerance { measured_ms, lag_ms }
    }
}

/// A key that one side dropped and the other drops within this time counts as gone: clocks differ.
const LEEWAY_MS: i64 = 2_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expiry {
    /// No such key, or it has expired.
    Gone,
    Never,
    /// Milliseconds since 1970.
    At(i64),
}

/// How a server reports when a key expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Clock {
    /// PEXPIRETIME, from Redis 7.
    Absolute,
    /// PTTL and the server's own TIME.
    Relative,
}

impl Clock {
    pub fn of(version: Version) -> Self {
        if version >= Version::new(7, 0, 0) {
            Clock::Absolute
        } else {
            Clock::Relative
        }
    }

    /// Returns the command that asks when a key expires.
    pub fn command(self) -> &'static str {
        match self {
            Clock::Absolute => "PEXPIRETIME",
            Clock::Relative => "PTTL",
        }
    }

    /// Reads the answer to that command; `now` is the server's time a moment before.
    pub fn read(self, answer: &Value, now: i64) -> Option<Expiry> {
        Some(match (integer(answer)?, self) {
            (-2, _) => Expiry::Gone,
            (-1, _) => Expiry::Never,
            (at, Clock::Absolute) => Expiry::At(at),
            (left, Clock::Relative) => Expiry::At(now + left),
        })
    }
}

/// Reads the answer to TIME, as milliseconds since 1970.
pub(super) fn time(answer: &Value) -> Option<i64> {
    match answer {
        Value::Array(parts) => match parts.as_slice() {
            [seconds, microseconds] => Some(integer(seconds)? * 1000 + integer(microseconds)? / 1000),
            _ => None,
        },
        _ => None,
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Both sides have the key and agree on when it expires, so its value is compared.
    Both,
    /// As `Both`, but later on the target by these milliseconds: a relative time waited on its way.
    Later(i64),
    /// The key is on neither side.
    Neither,
    /// The key is gone on one side and expires soon on the other.
    Expiring,
    Differs(Reason),
}

/// Compares the expiry of one key on both sides; each `now` is that side's own time.
pub(super) fn standing(
    source: Expiry,
    target: Expiry,
    source_now: i64,
    target_now: i64,
    tolerance: Tolerance,
) -> Standing {
    let going = |expiry, now: i64| matches!(expiry, Expiry::At(at) if at <= now + LEEWAY_MS);
    match (source, target) {
        (Expiry::Gone, Expiry::Gone) => Standing::Neither,
        (Expiry::Gone, there) if going(there, target_now) => Standing::Expiring,
        (there, Expiry::Gone) if going(there, source_now) => Standing::Expiring,
        (Expiry::Gone, _) => Standing::Differs(Reason::Extra),
        (_, Expiry::Gone) => Standing::Differs(Reason::Missing),
        (Expiry::At(source), Expiry::At(target)) if (target - source).abs() <= tolerance.measured_ms => Standing::Both,
        (Expiry::At(source), Expiry::At(target)) if (0..=tolerance.lag_ms).contains(&(target - source)) => {
            Standing::Later(target - source)
        }
        (source, target) if source == target => Standing::Both,
        (source, target) => Standing::Differs(Reason::Expiry {
            source: moment(source),
            target: moment(target),
        }),
    }
}

fn moment(expiry: Expiry) -> Option<i64> {
    match expiry {
        Expiry::At(at) => Some(at),
        Expiry::Never | Expiry::Gone => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_700_000_000_000;
    const EXACT: Tolerance = Tolerance {
        measured_ms: 0,
        lag_ms: 0,
    };

    /// A tolerance for a target that reports only the time left.
    fn told() -> Tolerance {
        Tolerance::between(Clock::Absolute, Clock::Relative)
    }

    #[test]
    fn a_source_before_redis_7_may_expire_earlier_than_its_target_and_not_later() {
        let lagging = Tolerance::between(Clock::Relative, Clock::Absolute);
        let stands = |by: i64| {
            let (source, target) = (Expiry::At(NOW + 60_000), Expiry::At(NOW + 60_000 + by));
            standing(source, target, NOW, NOW, lagging)
        };
        for by in [0, TOLERANCE_MS, -TOLERANCE_MS] {
            assert_eq!(stands(by), Standing::Both);
        }
        for by in [TOLERANCE_MS + 1, 600_000, LONGEST_LAG_MS] {
            assert_eq!(stands(by), Standing::Later(by));
        }
        for by in [-TOLERANCE_MS - 1, -600_000, LONGEST_LAG_MS + 1] {
            assert!(matches!(stands(by), Standing::Differs(Reason::Expiry { .. })), "{by}");
        }
        let exact = Tolerance::between(Clock::Absolute, Clock::Absolute);
        assert_eq!(exact, EXACT);
    }

    fn stands(source: Expiry, target: Expiry) -> Standing {
        standing(source, target, NOW, NOW, EXACT)
    }

    #[test]
    fn keys_that_expire_soon_are_left_out_on_either_side() {
        for at in [NOW - 5_000, NOW, NOW + LEEWAY_MS] {
            assert_eq!(stands(Expiry::At(at), Expiry::Gone), Standing::Expiring);
            assert_eq!(stands(Expiry::Gone, Expiry::At(at)), Standing::Expiring);
        }
        let later = Expiry::At(NOW + LEEWAY_MS + 1);
        assert_eq!(stands(later, Expiry::Gone), Standing::Differs(Reason::Missing));
        assert_eq!(stands(Expiry::Gone, later), Standing::Differs(Reason::Extra));
        assert_eq!(stands(Expiry::Gone, Expiry::Never), Standing::Differs(Reason::Extra));
        assert_eq!(stands(Expiry::Never, Expiry::Gone), Standing::Differs(Reason::Missing));
    }

    #[test]
    fn absolute_times_must_agree_to_the_millisecond_and_relative_ones_within_the_tolerance() {
        let (a, b) = (Expiry::At(NOW + 60_000), Expiry::At(NOW + 60_001));
        assert!(matches!(stands(a, b), Standing::Differs(Reason::Expiry { .. })));
        assert_eq!(standing(a, b, NOW, NOW, told()), Standing::Both);
        let far = Expiry::At(NOW + 60_000 + TOLERANCE_MS + 1);
        assert!(matches!(standing(a, far, NOW, NOW, told()), Standing::Differs(_)));
    }

    #[test]
    fn a_key_that_lives_for_ever_on_one_side_only_differs_whatever_the_tolerance() {
        let reason = Reason::Expiry {
            source: None,
            target: Some(NOW + 1),
        };
        assert_eq!(
            standing(Expiry::Never, Expiry::At(NOW + 1), NOW, NOW, told()),
            Standing::Differs(reason)
        );
    }

    #[test]
    fn time_left_becomes_a_time_by_the_server_s_own_clock() {
        let time = Value::Array(vec![
            Value::BulkString(b"1700000000".to_vec()),
            Value::BulkString(b"250000".to_vec()),
        ]);
        let now = super::time(&time).unwrap();
        assert_eq!(now, NOW + 250);
        for (left, expiry) in [(-2, Expiry::Gone), (-1, Expiry::Never), (500, Expiry::At(NOW + 750))] {
            assert_eq!(Clock::Relative.read(&Value::Int(left), now), Some(expiry));
        }
        assert_eq!(Clock::Absolute.read(&Value::Int(NOW), now), Some(Expiry::At(NOW)));
    }
}
