//! SIGINT, SIGTERM and the end of `--timeout`, as a value that a command can ask and wait for.
//!
//! The first one asks for a stop at the next safe place. A second signal ends the process at once.

use crate::model::error::{Doing, Error, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

#[derive(Clone, Debug)]
pub struct Interrupt {
    requested: watch::Receiver<bool>,
    sender: Arc<watch::Sender<bool>>,
    /// True while another program has the terminal, and SIGINT is ignored.
    deaf: Arc<AtomicBool>,
}

impl Interrupt {
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

    /// Returns one that no signal sets.
    pub fn never() -> Self {
        let (sender, requested) = watch::channel(false);
        Interrupt {
            requested,
            sender: Arc::new(sender),
            deaf: Arc::default(),
        }
    }

    /// Ignores SIGINT from now on, since Ctrl-C is meant for the program that has the terminal.
    pub fn leave_terminal_to_another(&self) {
        self.deaf.store(true, Ordering::Relaxed);
    }

    /// Asks to stop, as a signal does.
    pub fn request(&self) {
        self.sender.send_replace(true);
    }

    pub fn requested(&self) -> bool {
        *self.requested.borrow()
    }

    pub async fn wait(&self) {
        let mut receiver = self.requested.clone();
        if receiver.wait_for(|requested| *requested).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Runs `work` until it ends or a signal comes, which drops `work` at once.
    pub async fn or<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            result = work => result,
            () = self.wait() => Err(Error::interrupted("finish: it was asked to stop").hint("run the same command again: it goes on where it stopped")),
        }
    }
}
