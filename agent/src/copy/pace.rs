//! How fast the source is read: so many bytes a second, and slower while the source is slow itself.

use std::time::{Duration, Instant};

/// A request is slow if it takes this much longer than the quickest one.
const SLOW: Duration = Duration::from_millis(20);
/// The longest pause that one slow answer adds.
const LONGEST: Duration = Duration::from_secs(2);
/// Each batch costs at least this many bytes, so that many empty values do not come for nothing.
const LEAST: u64 = 4 << 10;

pub struct Pace {
    /// Bytes a second; `None` for as fast as it goes.
    rate: Option<u64>,
    quickest: Option<Duration>,
    /// When the next batch may begin.
    due: Instant,
}

impl Pace {
    pub fn new(rate: Option<u64>) -> Self {
        Pace {
            rate,
            quickest: None,
            due: Instant::now(),
        }
    }

    /// Returns true if the source is asked with care, so that its latency is worth a PING.
    pub fn is_gentle(&self) -> bool {
        self.rate.is_some()
    }

    /// Returns how long to wait after a batch of so many bytes, before which a PING took `latency`.
    pub fn after(&mut self, bytes: u64, latency: Duration) -> Duration {
        let Some(rate) = self.rate else {
            return Duration::ZERO;
        };
        let quickest = self.quickest.map_or(latency, |quickest| quickest.min(latency));
        self.quickest = Some(quickest);
        let spent = Duration::from_secs_f64(bytes.max(LEAST) as f64 / rate.max(1) as f64);
        // The source has other work. It gets ten times as long as it was slow.
        let late = latency.saturating_sub(quickest);
        let slow = if late > SLOW {
            (late * 10).min(LONGEST)
        } else {
            Duration::ZERO
        };
        let now = Instant::now();
        self.due = self.due.max(now.checked_sub(spent).unwrap_or(now)) + spent;
        self.due.saturating_duration_since(now) + slow
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_costs_the_time_that_its_bytes_may_take() {
        let mut pace = Pace::new(Some(1 << 20));
        let mut waited = Duration::ZERO;
        for _ in 0..4 {
            waited = pace.after(1 << 19, Duration::ZERO);
        }
        // The first batch begins at once, so four halves of a second are due after the last.
        assert!(
            waited > Duration::from_millis(1400) && waited <= Duration::from_secs(2),
            "{waited:?}"
        );
        assert_eq!(Pace::new(None).after(1 << 30, SLOW * 2), Duration::ZERO);
    }

    #[test]
    fn a_source_that_answers_late_is_left_alone_for_longer() {
        let mut pace = Pace::new(Some(1 << 30));
        let quick = pace.after(0, Duration::from_millis(1));
        let late = pace.after(0, Duration::from_millis(101));
        assert!(late >= quick + Duration::from_millis(900), "{quick:?} {late:?}");
        assert!(pace.after(0, Duration::from_secs(60)) <= LONGEST + Duration::from_millis(10));
    }
}
