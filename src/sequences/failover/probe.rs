//! A connection to the old master from before anything was cut: it shows whether a write still gets there.

use crate::effects::redis::Server;
use crate::effects::redis::connection::{Connection, is_broken, is_unanswered};
use crate::model::clock::Instant;
use crate::model::error::Error;
use Seen::{Answered, Broken, Silent};
use std::time::Duration;

/// A server that is well answers within this.
const ANSWER: Duration = Duration::from_secs(1);
/// A write that is not answered for so long does not get there.
pub const SILENCE: Duration = Duration::from_secs(5);

pub struct Probe(Connection);

/// The outcome of a write over the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// The engine took it or refused it: either way it got there.
    Answered,
    Silent,
    /// The connection was closed, so that it proves nothing any more.
    Broken,
}

impl Probe {
    /// Returns a connection over which a write was answered; `None` if there is none.
    pub async fn find(server: &Server) -> Option<Self> {
        let connecting = tokio::time::timeout(3 * ANSWER, server.connect(0)).await;
        let mut connection = connecting.ok()?.ok()?;
        connection.answer_within(ANSWER);
        let mut probe = Probe(connection);
        (probe.write().await == Answered).then_some(probe)
    }

    /// Tries a write that leaves no trace: the removal of a key that nobody has.
    pub async fn write(&mut self) -> Seen {
        let mut removal = ::redis::cmd("DEL");
        removal.arg("infra:fence:nobody-has-this");
        seen(self.0.ask(&removal).await.err().as_ref())
    }

    /// Returns once no write was answered for [`SILENCE`], or with what was seen at the deadline.
    pub async fn is_silenced(&mut self, deadline: Duration) -> Seen {
        let begun = Instant::now();
        let mut silent: Option<Instant> = None;
        loop {
            match self.write().await {
                Answered => {
                    silent = None;
                    if begun.elapsed() >= deadline {
                        return Answered;
                    }
                    tokio::time::sleep(ANSWER / 4).await;
                }
                Silent => {
                    let since = *silent.get_or_insert_with(Instant::now);
                    // The first write was sent its whole time before.
                    if since.elapsed() + ANSWER >= SILENCE {
                        return Silent;
                    }
                }
                Broken => return Broken,
            }
        }
    }
}

fn seen(error: Option<&Error>) -> Seen {
    match error {
        None => Answered,
        Some(error) if is_unanswered(error) => Silent,
        Some(error) if is_broken(error) => Broken,
        // An error of the engine's own is an answer.
        Some(_) => Answered,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effects::redis::testing::TestServer;

    #[tokio::test]
    async fn silence_is_told_from_an_answer_and_from_a_connection_that_is_closed() {
        let mut server = TestServer::start(&[]).await;
        let mut probe = Probe::find(&server.server()).await.unwrap();
        assert_eq!(probe.write().await, Answered);
        assert_eq!(probe.is_silenced(Duration::from_millis(300)).await, Answered);
        // The kernel goes on taking bytes for it, as a network does that drops them.
        server.halt();
        let begun = Instant::now();
        assert_eq!(probe.is_silenced(Duration::ZERO).await, Silent);
        assert!(begun.elapsed() >= SILENCE - ANSWER, "{:?}", begun.elapsed());
        assert!(Probe::find(&server.server()).await.is_none());
        server.resume();
        assert_eq!(probe.write().await, Answered);
        server.kill();
        assert_eq!(probe.is_silenced(Duration::ZERO).await, Broken);
        assert!(Probe::find(&server.server()).await.is_none());
    }

    #[tokio::test]
    async fn a_refused_write_is_an_answer_and_a_paused_one_is_none() {
        let server = TestServer::start(&[]).await;
        let mut probe = Probe::find(&server.server()).await.unwrap();
        server.run::<String>("REPLICAOF 127.0.0.1 1").await;
        assert_eq!(probe.write().await, Answered);
        server.run::<String>("REPLICAOF NO ONE").await;
        server.run::<String>("CLIENT PAUSE 60000 WRITE").await;
        assert!(Probe::find(&server.server()).await.is_none());
    }
}
