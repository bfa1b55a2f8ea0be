//! The pauses between attempts. Every retry of the agent uses them.

use std::thread::sleep;
use std::time::{Duration, Instant};

/// Pauses that double up to the longest one. They end with a deadline, if there is one.
pub struct Pauses {
    next: Duration,
    longest: Duration,
    end: Option<Instant>,
    attempt: u32,
}

impl Pauses {
    /// Pauses of equal length.
    pub fn even(pause: Duration) -> Self {
        Self::doubling(pause, pause)
    }

    pub fn doubling(first: Duration, longest: Duration) -> Self {
        Pauses {
            next: first,
            longest,
            end: None,
            attempt: 1,
        }
    }

    /// Sets the time after which no attempt begins.
    #[must_use]
    pub fn until(mut self, end: Instant) -> Self {
        self.end = Some(end);
        self
    }

    /// Returns the number of this attempt; that of the first one is 1.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Sleeps until the next attempt. Returns false at once if it would begin too late.
    pub fn again(&mut self) -> bool {
        if self.end.is_some_and(|end| Instant::now() + self.next > end) {
            return false;
        }
        sleep(self.next);
        self.next = (self.next * 2).min(self.longest);
        self.attempt += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let mut pauses = Pauses::doubling(Duration::from_millis(1), Duration::from_millis(3));
        let mut lengths = Vec::new();
        for _ in 0..4 {
            lengths.push(pauses.next.as_millis());
            assert!(pauses.again());
        }
        assert_eq!((lengths, pauses.attempt()), (vec![1, 2, 3, 3], 5));
    }

    #[test]
    fn no_attempt_begins_after_the_end() {
        let end = Instant::now() + Duration::from_millis(50);
        let mut pauses = Pauses::even(Duration::from_millis(20)).until(end);
        while pauses.again() {
            assert!(Instant::now() < end + Duration::from_secs(5));
        }
        assert!((1..=3).contains(&pauses.attempt()), "{}", pauses.attempt());
    }
}
