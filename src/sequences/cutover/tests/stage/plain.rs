//! The pair of a stage, whose roles are changed by Redis itself.

use super::super::super::fence::Fence;
use super::super::super::gate::Proof;
use super::super::super::logs::Logs;
use super::super::super::pair::Pair;
use crate::effects::host::copy::Asked;
use crate::effects::redis::testing::{TestServer, command};
use crate::effects::redis::{Server, control};
use crate::model::error::{Error, Result};
use ::redis::Value;
use infra_agent::copy::{Request, Wish};
use infra_agent::record::SweepReport;
use std::path::PathBuf;
use std::time::Duration;

/// Returns the file that an engine writes to after a full copy, until its log is in force.
pub fn unfinished_log(server: &TestServer) -> PathBuf {
    server.folder().join("appendonlydir/temp-appendonly.aof.incr")
}

/// Changes roles by Redis's own commands.
pub struct Plain {
    pub(super) master: Server,
    pub(super) replica: Server,
    pub(super) source_port: u16,
    pub(super) unfinished: [PathBuf; 2],
    /// A command that somebody sends to the master right after its promotion.
    pub(super) sneaks: Option<String>,
    /// The socket of the copy, if there is one.
    pub(super) control: Option<PathBuf>,
    /// The source that closes MONITOR as soon as the marked keys are copied inside the fence.
    pub(super) closes_monitor: Option<Server>,
}

impl Plain {
    async fn say(&self, server: &Server, words: &str) -> Result<()> {
        server
            .connect(0)
            .await?
            .query::<Value>(&command(words))
            .await
            .map(|_| ())
    }
}

/// Disconnects who reads MONITOR, and waits until that is noticed.
async fn close_monitor(source: &Server) {
    let mut source = source.connect(0).await.unwrap();
    let clients = control::clients(&mut source).await.unwrap();
    let readers: Vec<u64> = clients
        .iter()
        .filter(|client| client.cmd == "monitor")
        .map(|client| client.id)
        .collect();
    assert_eq!(control::kill_clients(&mut source, &readers).await.unwrap(), 1);
    tokio::time::sleep(Duration::from_millis(50)).await;
}

impl Logs for Plain {
    async fn logs_in_force(&mut self) -> Result<bool> {
        Ok(!self.unfinished.iter().any(|file| file.exists()))
    }
}

impl Pair for Plain {
    async fn ready(&mut self) -> Result<()> {
        Ok(())
    }

    async fn promote(&mut self, _proof: &Proof, _fence: &Fence) -> Result<()> {
        assert!(!self.unfinished[0].exists(), "promoted without a log that is in force");
        self.say(&self.master, "REPLICAOF NO ONE").await?;
        if self.control.is_some() {
            self.say(&self.master, "ACL SETUSER copy off").await?;
            self.say(&self.master, "CLIENT KILL USER copy").await?;
        }
        match &self.sneaks {
            Some(words) => self.say(&self.master, words).await,
            None => Ok(()),
        }
    }

    async fn set_app_access(&mut self, open: bool) -> Result<()> {
        for server in [&self.master, &self.replica] {
            if open {
                self.say(server, "ACL SETUSER app on").await?
            } else {
                self.say(server, "ACL SETUSER app off").await?;
                self.say(server, "CLIENT KILL USER app").await?;
            }
        }
        Ok(())
    }

    async fn sweep(&mut self, asked: Asked) -> Result<SweepReport> {
        let control = self.control.clone().expect("the master copies nobody");
        let request = Request {
            wish: asked.wish,
            record: asked.record,
            hold: asked.hold,
            accept_deletions: asked.accept_deletions,
        };
        let asking = tokio::task::spawn_blocking(move || infra_agent::copy::ask(&control, request));
        let answer = asking
            .await
            .unwrap()
            .map_err(|error| Error::failed(format!("{error:#}")));
        if let Some(source) = &self.closes_monitor
            && asked.wish == Wish::Marked
            && !asked.hold.is_zero()
        {
            close_monitor(source).await;
        }
        answer
    }

    async fn end_copy(&mut self) -> Result<()> {
        Ok(())
    }

    async fn follow_source(&mut self) -> Result<()> {
        if self.control.is_some() {
            return self.say(&self.master, "ACL SETUSER copy on").await;
        }
        let words = format!("REPLICAOF 127.0.0.1 {}", self.source_port);
        self.say(&self.master, &words).await
    }
}
