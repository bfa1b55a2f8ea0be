//! A signal while a cutover runs: it ends waits, and no step half way. The phase decides the rest.

use crate::model::error::{Error, Result};
use crate::model::phase::Command;

pub struct Interrupt {
    signal: crate::effects::interrupt::Interrupt,
    command: Command,
    ignored: bool,
}

impl Interrupt {
    pub fn new(signal: crate::effects::interrupt::Interrupt, command: Command) -> Self {
        Interrupt {
            signal,
            command,
            ignored: false,
        }
    }

    /// Ignores signals from now on, since the way back must not stop half way.
    pub fn ignore(&mut self) {
        self.ignored = true;
    }

    /// Fails if the run was interrupted: before the switch it goes back, later a rerun goes on.
    pub fn check(&self) -> Result<()> {
        if self.signal.requested() && !self.ignored {
            return Err(self.interrupted());
        }
        Ok(())
    }

    /// Does work that may be dropped at any await.
    pub async fn or<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        if self.ignored {
            return work.await;
        }
        tokio::select! {
            result = work => result,
            () = self.signal.wait() => Err(self.interrupted()),
        }
    }

    fn interrupted(&self) -> Error {
        Error::interrupted(format!("finish {}: it was interrupted", self.command))
            .hint("run the same command again to go on")
    }
}
