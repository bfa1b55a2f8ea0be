//! The host's clock, which is the engine's.

use jiff::Timestamp;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Seconds since 1970.
pub fn now() -> i64 {
    Timestamp::now().as_second()
}

/// RFC 3339, to the second.
pub fn text(moment: Timestamp) -> String {
    moment.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// To the millisecond and without colons: a name that sorts by time.
pub fn name(moment: Timestamp) -> String {
    moment.strftime("%Y%m%dT%H%M%S.%3fZ").to_string()
}

/// What [`name`] was made of; nothing where it is no such name.
pub fn named(name: &str) -> Option<Timestamp> {
    let civil = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%S%.fZ", name).ok()?;
    Some(civil.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp())
}

/// Says which second is over for good, also under a clock that is set: a second is not over because the clock has jumped over it.
///
/// What counts is time that passed, which no clock can be set to, and the earliest second that was in progress in it: what was written then may come late.
pub struct Passed {
    late: Duration,
    /// Seconds as they were read, the oldest before the window that counts.
    read: VecDeque<(Instant, i64)>,
}

impl Passed {
    /// `late`: how long after its second a write may still come.
    pub fn new(late: Duration) -> Self {
        Passed {
            late,
            read: VecDeque::new(),
        }
    }

    /// Takes note of the clock. Gives the last second of which nothing can come any more; nothing while that is not known yet.
    pub fn until(&mut self, at: Instant, second: i64) -> Option<i64> {
        self.read.push_back((at, second));
        let old = |read: Option<&(Instant, i64)>| read.is_some_and(|(then, _)| at.duration_since(*then) >= self.late);
        while old(self.read.get(1)) {
            self.read.pop_front();
        }
        if !old(self.read.front()) {
            return None;
        }
        let late = i64::try_from(self.late.as_secs()).ok()?;
        // A clock that was set back runs through seconds again that were over.
        let earliest = self.read.iter().map(|(_, second)| *second).min()?;
        Some(earliest.min(second - late))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The clock's second and what is over, each half second, with a step in the middle.
    fn run(step: i64) -> Vec<(i64, Option<i64>)> {
        let mut passed = Passed::new(Duration::from_secs(3));
        let begin = Instant::now();
        (0..20)
            .map(|half| {
                let second = 100 + half / 2 + if half < 10 { 0 } else { step };
                let at = begin + Duration::from_millis(u64::try_from(half).unwrap() * 500);
                (second, passed.until(at, second))
            })
            .collect()
    }

    #[test]
    fn a_second_is_over_when_its_time_has_passed() {
        let told = run(0);
        assert!(told[..6].iter().all(|(_, over)| over.is_none()), "{told:?}");
        assert!(
            told[6..].iter().all(|(second, over)| *over == Some(second - 3)),
            "{told:?}"
        );
    }

    #[test]
    fn a_jump_does_not_make_seconds_pass() {
        // The last second before it is 104, the next one 110: each is over three seconds later, as ever.
        let told = run(5);
        let over: Vec<i64> = told[9..].iter().filter_map(|(_, over)| *over).collect();
        assert_eq!(over, [101, 102, 102, 103, 103, 104, 104, 110, 110, 111, 111]);
        assert_eq!(told[10].0, 110);
    }

    #[test]
    fn a_second_that_comes_again_is_not_over() {
        let told = run(-5);
        for (second, over) in &told[10..] {
            assert!(over.is_none_or(|over| over <= second - 3), "{told:?}");
        }
    }

    #[test]
    fn a_name_is_read_back() {
        let moment = Timestamp::from_millisecond(1_764_000_000_123).unwrap();
        assert_eq!(named(&name(moment)), Some(moment));
        assert_eq!(named("last"), None);
    }
}
