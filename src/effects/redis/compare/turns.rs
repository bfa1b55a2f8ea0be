//! Spreads the requests to a source that is watched by MONITOR.
//!
//! MONITOR shows every request, and a burst of them waits in the source until its reader has caught up. A
//! server with TLS may close a connection for which more than 64 KB wait to be sent, and that is the end of
//! the watch. Seen on Redis 7.0.15 and 8.0.2; Valkey has mended it (<https://github.com/valkey-io/valkey/pull/1737>).

use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};

/// Keys that are asked for at once. A look at one takes up to seven requests, of some 70 bytes in MONITOR.
pub(super) const FEW: usize = 100;
/// The time that one request is given: 200,000 a second.
const REQUEST: Duration = Duration::from_micros(5);

/// Whose turn it is; clones share it.
#[derive(Clone, Debug)]
pub(super) struct Turns(Arc<Mutex<Instant>>);

impl Turns {
    pub fn new() -> Self {
        Turns(Arc::new(Mutex::new(Instant::now())))
    }

    /// Waits until so many requests may be sent.
    pub async fn wait(&self, requests: usize) {
        let mut next = self.0.lock().await;
        let turn = (*next).max(Instant::now());
        *next = turn + REQUEST * u32::try_from(requests).unwrap_or(u32::MAX);
        drop(next);
        sleep_until(turn).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn requests_are_spread_whoever_sends_them() {
        let (turns, begun) = (Turns::new(), Instant::now());
        let send = || async {
            for _ in 0..5 {
                turns.wait(2000).await;
            }
        };
        tokio::join!(send(), send());
        // The first goes at once, and nine wait for the one before them.
        assert!(begun.elapsed() >= Duration::from_millis(90), "{:?}", begun.elapsed());
    }
}
