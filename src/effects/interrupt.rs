//! SIGINT, SIGTERM and the end of `--timeout` as a value that a command can ask for and wait on.
//!
//! The first of them asks the command to stop at the next safe place; a second signal ends the process at once, as whoever sends it means it.

use crate::model::error::{Doing, Error, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

#[derive(Clone, Debug)]
pub struct Interrupt {
    requested: watch::Receiver<bool>,
    sender: Arc<watch::Sender<bool>>,
    /// SIGINT is somebody else's.
    deaf: Arc<AtomicBool>,
}

impl Interrupt {
    /// Listens for the signals from now on.
    pub fn listen() -> Result<Self> {
        let mut interrupt = signal(SignalKind::interrupt()).doing(|| "listen for SIGINT".into())?;
        let mut terminate = signal(SignalKind::terminate()).doing(|| "listen for SIGTERM".into())?;
        let listening = Self::never();
        let sender = listening.sender.clone();
        let deaf = listening.deaf.clone();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => if deaf.load(Ordering::Relaxed) { continue },
                    _ = terminate.recv() => {}
                }
                if *sender.borrow() {
                    std::process::exit(crate::model::error::ExitCode::Interrupted as i32);
                }
                eprintln!("stopping at the next safe place; once more to stop at once");
                sender.send_replace(true);
            }
        });
        Ok(listening)
    }

    /// One that no signal brings.
    pub fn never() -> Self {
        let (sender, requested) = watch::channel(false);
        Interrupt {
            requested,
            sender: Arc::new(sender),
            deaf: Arc::default(),
        }
    }

    /// Leaves SIGINT to a program that has the terminal now: Ctrl-C reaches both of us, and is meant for it.
    pub fn leave_terminal_to_another(&self) {
        self.deaf.store(true, Ordering::Relaxed);
    }

    /// Asks to stop, as a signal would.
    pub fn request(&self) {
        self.sender.send_replace(true);
    }

    pub fn requested(&self) -> bool {
        *self.requested.borrow()
    }

    /// Waits until a signal came.
    pub async fn wait(&self) {
        let mut receiver = self.requested.clone();
        if receiver.wait_for(|requested| *requested).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Runs `work` until it ends or a signal comes; in the latter case `work` is dropped where it stands.
    pub async fn or<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            result = work => result,
            () = self.wait() => Err(Error::interrupted("finish: it was asked to stop").hint("run the same command again: it goes on where it stopped")),
        }
    }
}
