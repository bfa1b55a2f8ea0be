//! Changes the roles of our two hosts. A promotion needs its proof and the fence that still stands.

use super::fence::Fence;
use super::gate::Proof;
use super::logs::Logs;
use crate::effects::host::copy::{self, Asked};
use crate::effects::host::role;
use crate::effects::host::settings::AppAccess;
use crate::effects::remote::{Session, Target};
use crate::model::error::{Error, Result};
use infra_agent::record::SweepReport;
use std::time::Duration;

/// How long a host may take to let us in.
const LOGIN: Duration = Duration::from_secs(30);

/// Changes roles and app access of the pair. A host's files change before the change is in force.
pub trait Pair: Logs + Send {
    /// Prepares what makes a promotion short: sessions and settings. May be called again.
    fn ready(&mut self) -> impl Future<Output = Result<()>> + Send;
    /// Makes the master follow nobody.
    fn promote(&mut self, proof: &Proof, fence: &Fence) -> impl Future<Output = Result<()>> + Send;
    /// Sets whether the app may log in, on both hosts.
    fn set_app_access(&mut self, open: bool) -> impl Future<Output = Result<()>> + Send;
    /// Makes the copy go through all keys once more, and returns what it found.
    fn sweep(&mut self, asked: Asked) -> impl Future<Output = Result<SweepReport>> + Send;
    /// Ends the copy that a promotion has shut out, and with it the watch of the source.
    fn end_copy(&mut self) -> impl Future<Output = Result<()>> + Send;
    /// Makes the master follow the source again. Its own writes are lost: the caller proved none.
    fn follow_source(&mut self) -> impl Future<Output = Result<()>> + Send;
}

/// The pair as it stands in the cloud, reached by ssh.
pub struct Hosts {
    master: Target,
    replica: Target,
    /// The epoch of the lock under which roles are changed; `None` for a look without changes.
    epoch: Option<u64>,
    sessions: Option<(Session, Session)>,
}

impl Hosts {
    pub fn new(master: Target, replica: Target, epoch: Option<u64>) -> Self {
        Hosts {
            master,
            replica,
            epoch,
            sessions: None,
        }
    }

    async fn drop_broken_sessions(&mut self) {
        if let Some((master, replica)) = &self.sessions
            && tokio::try_join!(role::observe(master), role::observe(replica)).is_err()
        {
            self.sessions = None;
        }
    }

    async fn sessions(&mut self) -> Result<&(Session, Session)> {
        if self.sessions.is_none() {
            let both = tokio::try_join!(
                Session::connect(&self.master, LOGIN),
                Session::connect(&self.replica, LOGIN)
            )?;
            self.sessions = Some(both);
        }
        self.sessions
            .as_ref()
            .ok_or_else(|| Error::failed("keep the sessions to the hosts"))
    }
}

impl Logs for Hosts {
    async fn logs_in_force(&mut self) -> Result<bool> {
        let (master, replica) = self.sessions().await?;
        let (master, replica) = tokio::try_join!(role::log_is_in_force(master), role::log_is_in_force(replica))?;
        Ok(master && replica)
    }
}

impl Pair for Hosts {
    async fn ready(&mut self) -> Result<()> {
        // This finds a broken session here, and not inside the fence.
        self.drop_broken_sessions().await;
        let epoch = self.epoch;
        let (master, replica) = self.sessions().await?;
        // The first line of a conversation takes three round trips, and the next ones take one.
        let tell_replica = async {
            match epoch {
                Some(epoch) => role::raise_epoch(replica, epoch).await,
                None => role::observe(replica).await.map(drop),
            }
        };
        tokio::try_join!(role::prepare_promotion(master, epoch), tell_replica)?;
        Ok(())
    }

    async fn promote(&mut self, proof: &Proof, _fence: &Fence) -> Result<()> {
        let epoch = self.epoch;
        let (master, _) = self.sessions().await?;
        let proven = role::Proven {
            replication_id: proof.replication_id(),
            offset: proof.offset(),
        };
        role::promote(master, &proven, epoch).await?;
        Ok(())
    }

    async fn set_app_access(&mut self, open: bool) -> Result<()> {
        let access = if open { AppAccess::Open } else { AppAccess::Closed };
        if !open {
            self.drop_broken_sessions().await;
        }
        let epoch = self.epoch;
        let (master, replica) = self.sessions().await?;
        tokio::try_join!(
            role::set_app_access(master, access, epoch),
            role::set_app_access(replica, access, epoch)
        )?;
        Ok(())
    }

    async fn sweep(&mut self, asked: Asked) -> Result<SweepReport> {
        let (master, _) = self.sessions().await?;
        copy::sweep(master, asked).await
    }

    async fn end_copy(&mut self) -> Result<()> {
        self.drop_broken_sessions().await;
        let epoch = self.epoch;
        let (master, _) = self.sessions().await?;
        role::end_copy(master, epoch).await
    }

    async fn follow_source(&mut self) -> Result<()> {
        self.drop_broken_sessions().await;
        let epoch = self.epoch;
        let (master, _) = self.sessions().await?;
        role::follow_source(master, epoch).await?;
        Ok(())
    }
}
