//! The tap: a connection to a server that receives its replication stream, as a replica would, and tells which keys were written since when, and that
//! nothing was.
//!
//! `PSYNC <replid> <offset+1>` continues the stream at a known offset, without a copy of the data set. [`wire`] cuts the bytes into commands and says what each does
//! to which keys; `dirty`, which is pure, remembers a bounded number of them with the offset of their last write. A tap that broke stays broken: whatever happened
//! after is not known, so nothing is proven.
//!
//! Deliberately not here: applying anything. And since the tap keeps no data, it acknowledges offset 0 for ever: an app's WAIT must not count it as
//! a replica that has the write.

#[cfg(test)]
mod commands_tests;
mod dirty;
mod handshake;
#[cfg(test)]
mod tests;

pub use dirty::{DirtyKeys, Seen};
pub use handshake::Dialled;

use super::connection::Connection;
use super::server::Server;
use super::stream::Stream;
use crate::model::clock::Instant;
use crate::model::error::{Error, Result};
use dirty::Record;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use wire::commands::CommandTable;
use wire::info::Info;
use wire::stream::Decoder;
use wire::touched::Effect;

/// Servers ping their replicas every 10 s, and give up those that were silent for 60 s. So do we.
const LONGEST_SILENCE: Duration = Duration::from_secs(60);

/// Says that we are still there.
const ACKNOWLEDGE_EVERY: Duration = Duration::from_secs(1);

/// One command of the stream that is more than a ping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The stream's offset after this command.
    pub offset: u64,
    /// The database that the stream had selected; none until it was told after the tap began.
    pub database: Option<u32>,
    /// In upper case.
    pub command: String,
    pub effect: Effect,
}

/// Asks an engine for its commands. The table is empty if it does not tell, so that every command which is not listed may have written anything.
pub async fn command_table(connection: &mut Connection) -> CommandTable {
    match connection.ask(&::redis::cmd("COMMAND")).await {
        Ok(reply) => CommandTable::parse(reply),
        Err(_) => CommandTable::default(),
    }
}

/// A running tap. It ends when it is dropped.
pub struct Tap {
    place: String,
    replid: String,
    opened_at: u64,
    record: Arc<Mutex<Record>>,
    progress: watch::Receiver<Progress>,
    task: JoinHandle<()>,
}

#[derive(Clone, Debug, Default)]
struct Progress {
    position: u64,
    broken: Option<String>,
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Tap {
    /// Continues the server's stream at the offset that `info` was read at, without a table of commands.
    pub async fn open(server: &Server, info: &Info) -> Result<Tap> {
        Self::observed(server, info, Arc::default(), |_| {}).await
    }

    /// As `open`, with the table for commands that are not listed here, and shows every command that is more than a ping to `observer`, which must be
    /// quick.
    pub async fn observed(
        server: &Server,
        info: &Info,
        table: Arc<CommandTable>,
        observer: impl FnMut(&Event) + Send + 'static,
    ) -> Result<Tap> {
        Tap::over(None, server, info, table, observer).await
    }

    /// The same over a connection that was dialled before, while nobody waited.
    pub async fn over(
        open: Option<Dialled>,
        server: &Server,
        info: &Info,
        table: Arc<CommandTable>,
        observer: impl FnMut(&Event) + Send + 'static,
    ) -> Result<Tap> {
        let (stream, replid) = handshake::continued(server, info, open).await?;
        let position = info.master_repl_offset;
        let record = Arc::new(Mutex::new(Record::new(position, table)));
        let (sender, progress) = watch::channel(Progress { position, broken: None });
        let listener = Listener {
            decoder: Decoder::at(position),
            record: record.clone(),
            sender,
            observer,
        };
        Ok(Tap {
            place: server.to_string(),
            replid,
            opened_at: position,
            record,
            progress,
            task: tokio::spawn(listener.run(stream)),
        })
    }

    /// The replication id whose stream this is.
    pub fn replid(&self) -> &str {
        &self.replid
    }

    /// The offset at which the tap began: what was written before is not known.
    pub fn opened_at(&self) -> u64 {
        self.opened_at
    }

    /// The offset up to which the stream was received and understood.
    pub fn position(&self) -> u64 {
        self.progress.borrow().position
    }

    /// Returns the reason why the stream ended; `None` if it goes on.
    pub fn broken(&self) -> Option<String> {
        self.progress.borrow().broken.clone()
    }

    /// Returns counts of what was seen so far: two of these show whether anything was written in between.
    pub fn seen(&self) -> Seen {
        self.record().seen().clone()
    }

    /// The keys that were written after this offset. An error when the tap broke, or began later.
    pub fn dirty_since(&self, mark: u64) -> Result<DirtyKeys> {
        self.whole()?;
        if mark < self.opened_at {
            return Err(Error::unproven(format!(
                "tell what was written on {} since offset {mark}: the tap began at {}",
                self.place, self.opened_at
            )));
        }
        Ok(self.record().since(mark))
    }

    /// Forgets keys whose last write was at or before this offset, since they are known to be equal: frees their memory.
    pub fn forget(&self, mark: u64) {
        self.record().forget(mark);
    }

    /// Waits until the stream was received up to this offset. The server has reported it after the
    /// writes that should be seen.
    pub async fn reach(&self, offset: u64, within: Duration) -> Result<()> {
        let mut progress = self.progress.clone();
        let end = Instant::now().after(within);
        loop {
            self.whole()?;
            let position = progress.borrow_and_update().position;
            if position >= offset {
                return Ok(());
            }
            if tokio::time::timeout(end.remaining(), progress.changed()).await.is_err() {
                return Err(Error::unproven(format!(
                    "follow the stream of {} to offset {offset}: it is at {position} after {} ms",
                    self.place,
                    within.as_millis()
                ))
                .hint("see whether the source is overloaded, and try again"));
            }
        }
    }

    fn whole(&self) -> Result<()> {
        match self.broken() {
            None => Ok(()),
            Some(reason) => Err(
                Error::unproven(format!("follow the stream of {}: {reason}", self.place))
                    .hint("what was written since is not known: compare everything again"),
            ),
        }
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Receives until something breaks.
struct Listener<F> {
    decoder: Decoder,
    record: Arc<Mutex<Record>>,
    sender: watch::Sender<Progress>,
    observer: F,
}

impl<F: FnMut(&Event)> Listener<F> {
    async fn run(mut self, stream: Stream) {
        let reason = self.listen(stream).await;
        self.sender.send_modify(|progress| progress.broken = Some(reason));
    }

    /// Gives the reason why it ended.
    async fn listen(&mut self, stream: Stream) -> String {
        let (mut reader, mut writer) = tokio::io::split(stream);
        let mut bytes = vec![0; 64 * 1024];
        let mut acknowledge = tokio::time::interval(ACKNOWLEDGE_EVERY);
        acknowledge.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut heard = Instant::now();
        loop {
            tokio::select! {
                read = reader.read(&mut bytes) => match read {
                    Ok(0) => return "the server closed the connection".into(),
                    Ok(many) => {
                        heard = Instant::now();
                        if let Err(reason) = self.take(&bytes[..many]) {
                            return reason;
                        }
                    }
                    Err(cause) => return format!("the connection broke: {cause}"),
                },
                _ = acknowledge.tick() => {
                    if heard.elapsed() > LONGEST_SILENCE {
                        return format!("the server was silent for {} s", LONGEST_SILENCE.as_secs());
                    }
                    let sending = writer.write_all(b"*3\r\n$8\r\nREPLCONF\r\n$3\r\nACK\r\n$1\r\n0\r\n");
                    match tokio::time::timeout(LONGEST_SILENCE, sending).await {
                        Ok(Ok(())) => {}
                        Ok(Err(cause)) => return format!("the connection broke: {cause}"),
                        Err(_) => return "the server takes nothing from us any more".into(),
                    }
                }
            }
        }
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), String> {
        let (decoder, observer) = (&mut self.decoder, &mut self.observer);
        {
            let mut record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
            decoder.feed(bytes, |command| {
                if let Some(event) = record.take(&command)? {
                    observer(&event);
                }
                Ok(())
            })?;
        }
        let position = decoder.position();
        self.sender.send_modify(|progress| progress.position = position);
        Ok(())
    }
}
