//! Waiting for a state: by asking again and again, with an end.

use std::time::{Duration, Instant};

/// Asks until the answer is true; panics after half a minute.
#[track_caller]
pub fn until(what: &str, holds: impl FnMut() -> bool) {
    within(Duration::from_secs(30), what, holds);
}

/// Asks until the answer is true; panics after this long.
#[track_caller]
pub fn within(patience: Duration, what: &str, holds: impl FnMut() -> bool) {
    every(Duration::from_millis(20), patience, what, holds);
}

/// Asks until the answer is true, with a pause after each time; panics after this long.
#[track_caller]
pub fn every(pause: Duration, patience: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + patience;
    while !holds() {
        assert!(Instant::now() < end, "waited {patience:?} in vain: {what}");
        std::thread::sleep(pause);
    }
}
