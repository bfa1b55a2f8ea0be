//! SIGINT and SIGTERM while a cutover runs: a step is not cut off in the middle, waits are, and what comes then depends on the phase.

use super::phase::Command;
use crate::error::{Error, Result};
use std::future::Future;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub struct Interrupt {
    asked: watch::Receiver<bool>,
    listening: Option<JoinHandle<()>>,
    ignored: bool,
}

impl Interrupt {
    /// Listens from now on.
    pub fn listen() -> Self {
        let (ask, asked) = watch::channel(false);
        let listening = tokio::spawn(async move {
            let (Ok(mut interrupt), Ok(mut terminate)) =
                (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
            else {
                return;
            };
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            let _ = ask.send(true);
            // Whoever asks again is told the same; the sender stays, so that nobody takes its end for an answer.
            std::future::pending::<()>().await;
        });
        Interrupt {
            asked,
            listening: Some(listening),
            ignored: false,
        }
    }

    /// On the way back nothing is stopped half way.
    pub fn ignore(&mut self) {
        self.ignored = true;
    }

    pub fn check(&self, command: Command) -> Result<()> {
        if *self.asked.borrow() && !self.ignored {
            return Err(interrupted(command));
        }
        Ok(())
    }

    /// Does some work that may be dropped at any await.
    pub async fn or<T>(&self, command: Command, work: impl Future<Output = Result<T>>) -> Result<T> {
        if self.ignored {
            return work.await;
        }
        let mut asked = self.asked.clone();
        tokio::select! {
            result = work => result,
            Ok(_) = asked.wait_for(|asked| *asked) => Err(interrupted(command)),
        }
    }
}

impl Drop for Interrupt {
    fn drop(&mut self) {
        if let Some(listening) = self.listening.take() {
            listening.abort();
        }
    }
}

fn interrupted(command: Command) -> Error {
    Error::interrupted(format!("finish {command}: it was interrupted")).hint("run the same command again to go on")
}
