//! SIGINT and SIGTERM as a value that a command can ask for and wait on.
//!
//! The first signal asks the command to stop at the next safe place; a second one ends the process at once, as whoever sends it means it.

use crate::error::{Doing, Error, Result};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

#[derive(Clone, Debug)]
pub struct Interrupt(watch::Receiver<bool>);

impl Interrupt {
    /// Listens for the signals from now on.
    pub fn listen() -> Result<Self> {
        let mut interrupt = signal(SignalKind::interrupt()).doing(|| "listen for SIGINT".into())?;
        let mut terminate = signal(SignalKind::terminate()).doing(|| "listen for SIGTERM".into())?;
        let (sender, receiver) = watch::channel(false);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                if *sender.borrow() {
                    std::process::exit(crate::error::ExitCode::Interrupted as i32);
                }
                eprintln!("stopping at the next safe place; once more to stop at once");
                let _ = sender.send(true);
            }
        });
        Ok(Interrupt(receiver))
    }

    /// One that never comes, for tests.
    pub fn never() -> Self {
        let (sender, receiver) = watch::channel(false);
        std::mem::forget(sender);
        Interrupt(receiver)
    }

    pub fn requested(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until a signal came.
    pub async fn wait(&self) {
        let mut receiver = self.0.clone();
        if receiver.wait_for(|requested| *requested).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Runs `work` until it ends or a signal comes; in the latter case `work` is dropped where it stands.
    pub async fn or<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            result = work => result,
            () = self.wait() => Err(Error::interrupted("finish: a signal asked to stop").hint("run the same command again: it goes on where it stopped")),
        }
    }
}
