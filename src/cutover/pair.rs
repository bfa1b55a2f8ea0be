//! Changing the roles of our two hosts. The decision is made elsewhere: a promotion wants its proof and the fence that still stands.

use super::fence::Fence;
use super::gate::Proof;
use crate::error::{Error, Result};
use crate::host::role;
use crate::host::settings::Door;
use crate::remote::{Session, Target};
use std::time::Duration;

/// How long a host may take to let us in.
const LOGIN: Duration = Duration::from_secs(30);

/// The roles and the door of the pair. Every change is in the host's files before it is in force.
pub trait Pair: Send {
    /// Whatever makes a promotion short: sessions open, settings prepared. May be called again.
    fn ready(&mut self) -> impl Future<Output = Result<()>> + Send;
    /// The master follows nobody from here on.
    fn promote(&mut self, proof: &Proof, fence: &Fence) -> impl Future<Output = Result<()>> + Send;
    /// Whether the app may log in, on both hosts.
    fn set_door(&mut self, open: bool) -> impl Future<Output = Result<()>> + Send;
    /// The master follows the source again. What was written to it since is gone: the caller has proven that nothing was.
    fn follow_source(&mut self) -> impl Future<Output = Result<()>> + Send;
}

/// The pair as it stands in the cloud, reached by ssh.
pub struct Hosts {
    master: Target,
    replica: Target,
    sessions: Option<(Session, Session)>,
}

impl Hosts {
    pub fn new(master: Target, replica: Target) -> Self {
        Hosts {
            master,
            replica,
            sessions: None,
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

impl Pair for Hosts {
    async fn ready(&mut self) -> Result<()> {
        // A session that broke since is found out here, and not inside the fence.
        if let Some((master, replica)) = &self.sessions
            && tokio::try_join!(role::observe(master), role::observe(replica)).is_err()
        {
            self.sessions = None;
        }
        let (master, _) = self.sessions().await?;
        role::prepare_promotion(master).await?;
        Ok(())
    }

    async fn promote(&mut self, _proof: &Proof, _fence: &Fence) -> Result<()> {
        let (master, _) = self.sessions().await?;
        role::promote(master).await?;
        Ok(())
    }

    async fn set_door(&mut self, open: bool) -> Result<()> {
        let door = if open { Door::Open } else { Door::Closed };
        let (master, replica) = self.sessions().await?;
        tokio::try_join!(role::set_door(master, door), role::set_door(replica, door))?;
        Ok(())
    }

    async fn follow_source(&mut self) -> Result<()> {
        let (master, _) = self.sessions().await?;
        role::follow_source(master).await?;
        Ok(())
    }
}
