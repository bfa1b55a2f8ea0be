//! A write on each side, as the app would make it.

use crate::sides::Sides;
use sandbox::connect::Target;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A paused source lets a write wait: one that is not answered within this is not taken.
const PATIENCE: Duration = Duration::from_millis(700);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppAccess {
    Open,
    Shut,
    /// The way in is not tried: a write from now on is a late write, and is reported as one.
    Left,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Writable {
    pub source: AppAccess,
    pub endpoint: AppAccess,
}

impl Writable {
    pub fn both_open(self) -> bool {
        self.source == AppAccess::Open && self.endpoint == AppAccess::Open
    }
}

impl fmt::Display for Writable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |open| match open {
            AppAccess::Open => "open",
            AppAccess::Shut => "shut",
            AppAccess::Left => "left",
        };
        write!(f, "{}/{}", word(self.source), word(self.endpoint))
    }
}

/// The write to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// A key, which stays.
    Kept,
    /// The removal of a key that is not there: a write to whoever has to allow it, and nothing in the stream of writes.
    WithoutTrace,
}

/// Tries the endpoint first: nothing opens it while no command runs, while the source's pause may end at any moment.
pub fn try_both(sides: &Sides, write: Write, source_too: bool) -> Writable {
    let open = |target: &Target| {
        if sides.pair.runtime.block_on(takes(target, write)) {
            AppAccess::Open
        } else {
            AppAccess::Shut
        }
    };
    Writable {
        endpoint: open(&sides.endpoint),
        source: if source_too {
            open(&sides.source)
        } else {
            AppAccess::Left
        },
    }
}

async fn takes(target: &Target, write: Write) -> bool {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let key = format!("scratch:{}", COUNT.fetch_add(1, Ordering::Relaxed));
    let attempt = async {
        let mut connection = target.connect(0, PATIENCE).await?;
        let command = match write {
            Write::Kept => redis::cmd("SET").arg(&key).arg(1).to_owned(),
            Write::WithoutTrace => redis::cmd("DEL").arg("nobody:has:this").to_owned(),
        };
        command.exec_async(&mut connection.commands).await
    };
    matches!(tokio::time::timeout(2 * PATIENCE, attempt).await, Ok(Ok(())))
}
