//! A signal while a cutover runs: it ends waits, and no step half way. The phase decides the rest.

use crate::model::error::{Error, Result};
use crate::model::phase::Command;

pub struct Interrupt {
    signal: crate::effects::interrupt::Interrupt,
    ignored: bool,
}

impl Interrupt {
    pub fn new(signal: crate::effects::interrupt::Interrupt) -> Self {
        Interrupt { signal, ignored: false }
    }

    /// Ignores signals from now on, since the way back must not stop half way.
    pub fn ignore(&mut self) {
        self.ignored = true;
    }

    pub fn check(&self, command: Command) -> Result<()> {
        if self.signal.requested() && !self.ignored {
            return Err(interrupted(command));
        }
        Ok(())
    }

    /// Does work that may be dropped at any await.
    pub async fn or<T>(&self, command: Command, work: impl Future<Output = Result<T>>) -> Result<T> {
        if self.ignored {
            return work.await;
        }
        tokio::select! {
            result = work => result,
            () = self.signal.wait() => Err(interrupted(command)),
        }
    }
}

fn interrupted(command: Command) -> Error {
    Error::interrupted(format!("finish {command}: it was interrupted")).hint("run the same command again to go on")
}
