//! Reads the host's clock, which the engine uses too.

use jiff::Timestamp;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Returns the seconds since 1970.
pub fn now() -> i64 {
    Timestamp::now().as_second()
}

/// Returns a time as RFC 3339, to the second.
pub fn text(moment: Timestamp) -> String {
    moment.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Returns a name that sorts by time: to the millisecond and without colons.
pub fn name(moment: Timestamp) -> String {
    moment.strftime("%Y%m%dT%H%M%S.%3fZ").to_string()
}

/// Returns the time that [`name`] was made from; `None` if it is no such name.
pub fn named(name: &str) -> Option<Timestamp> {
    let civil = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%S%.fZ", name).ok()?;
    Some(civil.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp())
}

/// Says which second is over, so that no write for it can come any more, even if the clock is set.
/// It counts monotonic time, and takes the earliest second that the clock showed within the last
/// `late`: a write of that second may still come.
pub struct Passed {
    late: Duration,
    /// Readings of the clock; the oldest one is from before the last `late`.
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

    /// Notes the clock. Returns the last second that is over; `None` if it is not known yet.
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
        // A clock that was set back shows seconds again that were over.
        let earliest = self.read.iter().map(|(_, second)| *second).min()?;
        Some(earliest.min(second - late))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the clock's second and the second that is over; the clock steps halfway.
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
        let seen = run(0);
        assert!(seen[..6].iter().all(|(_, over)| over.is_none()), "{seen:?}");
        assert!(
            seen[6..].iter().all(|(second, over)| *over == Some(second - 3)),
            "{seen:?}"
        );
    }

    #[test]
    fn a_jump_does_not_make_seconds_pass() {
        // The clock shows 104 and then 110. Each is over three seconds later, as without a jump.
        let seen = run(5);
        let over: Vec<i64> = seen[9..].iter().filter_map(|(_, over)| *over).collect();
        assert_eq!(over, [101, 102, 102, 103, 103, 104, 104, 110, 110, 111, 111]);
        assert_eq!(seen[10].0, 110);
    }

    #[test]
    fn a_second_that_repeats_is_not_over() {
        let seen = run(-5);
        for (second, over) in &seen[10..] {
            assert!(over.is_none_or(|over| over <= second - 3), "{seen:?}");
        }
    }

    #[test]
    fn a_name_can_be_read_back() {
        let moment = Timestamp::from_millisecond(1_764_000_000_123).unwrap();
        assert_eq!(named(&name(moment)), Some(moment));
        assert_eq!(named("last"), None);
    }
}
