//! Asks the engine for the state of the log that is followed.

use crate::engine::Look;
use crate::follow::Follow;
use crate::force::{self, Force};
use crate::shipper::Shipper;
use std::time::{Duration, Instant};

/// How long it may be unclear whether the log is in force before that is reported.
const UNCLEAR: Duration = Duration::from_secs(60);

/// The state of the followed log, as the engine reports it.
pub enum Standing {
    /// The setting is in force, and all writes so far are in its file.
    Sure,
    /// The bytes in the file are right, but any second may still get writes.
    Unsure,
    /// The engine restarted, changed its role, loads or does not answer.
    Changed,
    /// The setting is not in force any more.
    Stopped(String),
}

impl Shipper {
    /// Asks the engine, and notes how long it has been unclear whether its log is in force.
    pub fn standing(&mut self, follow: &Follow) -> Standing {
        let Ok(look) = self.engine.look() else {
            return Standing::Changed;
        };
        if look.run_id != follow.run_id {
            return Standing::Changed;
        }
        let force = self.force(&look);
        if let Force::Stopped(why) = force {
            return Standing::Stopped(why);
        }
        if look.role != follow.role || look.loading {
            return Standing::Changed;
        }
        if force == Force::Held {
            self.unsure_since = None;
        }
        let trouble = if !look.log_written {
            Some("the engine cannot write its append-only log, and holds writes back in memory: see its log and the room on its disk".into())
        } else if force == Force::Unclear && self.unsure_since.get_or_insert_with(Instant::now).elapsed() > UNCLEAR {
            Some(
                "the engine's rewrite does not end: no second is claimed until it is known whether its log is in force"
                    .into(),
            )
        } else {
            None
        };
        self.shared.trouble("log", trouble);
        if force == Force::Held && look.log_written {
            Standing::Sure
        } else {
            Standing::Unsure
        }
    }

    /// Decides whether the log is in force, after that answer of the engine.
    pub fn force(&self, look: &Look) -> Force {
        force::judge(look, force::mark(&self.folder()), self.memory.temporary())
    }
}
