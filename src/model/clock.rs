//! The clock for measuring how long something takes.

use std::time::Duration;

/// A moment on the clock that continues while a laptop sleeps (`CLOCK_BOOTTIME`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instant(Duration);

impl Instant {
    pub fn now() -> Self {
        match nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME) {
            Ok(time) => Instant(time.into()),
            // Only a kernel without this clock fails; the monotonic clock is then the best one.
            Err(_) => Instant(
                nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Into::into),
            ),
        }
    }

    pub fn elapsed(self) -> Duration {
        Self::now().0.saturating_sub(self.0)
    }

    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Instant(self.0.saturating_add(duration))
    }

    pub fn has_passed(self) -> bool {
        Self::now() >= self
    }

    /// Returns the time left until this moment; zero if it has passed.
    pub fn remaining(self) -> Duration {
        self.0.saturating_sub(Self::now().0)
    }

    pub fn since(self, earlier: Instant) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// Returns a span in whole milliseconds, as Redis takes them.
pub fn milliseconds(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
