//! A write on each side, as the app would make it.

use crate::sides::Sides;
use sandbox::connect::Target;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A paused source lets a write wait: one that is not answered within this is not taken.
const PATIENCE: Duration = Duration::from_millis(700);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    Open,
    Shut,
    /// Not tried: whatever is written there from now on is a late write, and is reported as one.
    Left,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Doors {
    pub source: Door,
    pub endpoint: Door,
}

impl Doors {
    pub fn both_open(self) -> bool {
        self.source == Door::Open && self.endpoint == Door::Open
    }
}

impl fmt::Display for Doors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |door| match door {
            Door::Open => "open",
            Door::Shut => "shut",
            Door::Left => "left",
        };
        write!(f, "{}/{}", word(self.source), word(self.endpoint))
    }
}

/// Tries the endpoint first: nothing opens it while no command runs, while the source's pause may end at any moment.
pub fn try_both(sides: &Sides, source_too: bool) -> Doors {
    let open = |target: &Target| match sides.runtime.block_on(takes_a_write(target)) {
        true => Door::Open,
        false => Door::Shut,
    };
    Doors {
        endpoint: open(&sides.endpoint),
        source: if source_too { open(&sides.source) } else { Door::Left },
    }
}

async fn takes_a_write(target: &Target) -> bool {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let key = format!("scratch:{}", COUNT.fetch_add(1, Ordering::Relaxed));
    let attempt = async {
        let mut connection = target.connect(0, PATIENCE).await?;
        redis::cmd("SET")
            .arg(&key)
            .arg(1)
            .exec_async(&mut connection.commands)
            .await
    };
    matches!(tokio::time::timeout(2 * PATIENCE, attempt).await, Ok(Ok(())))
}
