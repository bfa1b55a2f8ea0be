//! The fence of a forced failover: what proves that the old master takes no more writes.
//!
//! EC2's word that the instance is stopped or terminated is a proof. If it does not come, a network
//! ACL cuts the instance off, provided that nobody else is in its subnet. The ACL by itself proves
//! nothing; a write over a connection from before it, which is not answered any more, does. Without
//! such a connection no ACL is set, and nothing is promoted.

use super::probe::{Probe, SILENCE, Seen};
use crate::effects::cloud::{Cloud, ec2};
use crate::effects::redis::Server;
use crate::effects::wait::Pauses;
use crate::model::clock::Instant;
use crate::model::cloud::NetworkFence;
use crate::model::error::{Error, Result};
use crate::model::names::Names;
use crate::ui::Step;
use serde::Serialize;
use std::time::Duration;

const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// An ACL is in force within this, or something is wrong with it.
const IN_FORCE: Duration = Duration::from_secs(30);

/// How the old master was kept from taking writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum By {
    #[default]
    Stop,
    NetworkAcl,
}

/// A fence that holds.
#[derive(Debug)]
pub(super) struct Fenced {
    pub by: By,
    /// Why the old master takes no more writes.
    pub proof: String,
}

/// The old master, and how long the proof may take.
pub(super) struct Fencing<'a> {
    pub cloud: &'a Cloud,
    pub names: &'a Names,
    pub instance: &'a str,
    pub master: &'a Server,
    pub patience: Duration,
}

impl Fencing<'_> {
    /// Returns once the fence is proven. `earlier` is the proof of an earlier run by a network ACL.
    pub async fn prove(&self, earlier: Option<&str>, step: &Step) -> Result<Fenced> {
        if let Some(fenced) = self.still_cut_off(earlier).await? {
            return Ok(fenced);
        }
        let begun = Instant::now();
        let mut pauses = Pauses::even(self.patience, LOOK_AGAIN);
        // The connection for the proof, how it was asked to stop, and why it was not cut off.
        let (mut probe, mut asked, mut objection): (Option<Probe>, Option<bool>, Option<Error>) = (None, None, None);
        loop {
            // EC2 forgets an instance some time after its end.
            let state = ec2::state_of(self.cloud, self.instance).await?;
            let state = state.as_deref().unwrap_or("terminated");
            if matches!(state, "stopped" | "terminated") {
                return Ok(Fenced {
                    by: By::Stop,
                    proof: format!("EC2 says that it is {state}"),
                });
            }
            step.update(format!("EC2 says that it is {state}"));
            // One that is stopped already is not waited for.
            if asked.is_none() {
                probe = Probe::find(self.master).await;
            }
            let hard = begun.elapsed() >= hard_after(self.patience);
            if asked.is_none_or(|asked| hard && !asked) {
                // One that is on its way down, or up, refuses; EC2 is asked again.
                if let Err(error) = ec2::stop(self.cloud, self.instance, hard).await {
                    step.update(format!("{error:#}"));
                }
                asked = Some(hard);
            }
            if objection.is_none() && begun.elapsed() >= cut_after(self.patience) {
                match self.cut_off(probe.take(), step).await {
                    Ok(fenced) => return Ok(fenced),
                    Err(error) => objection = Some(error),
                }
            }
            if !pauses.again().await {
                return Err(self.unproven(state, begun.elapsed(), objection));
            }
        }
    }

    /// Returns the fence of an earlier run that still holds. One without a proof is taken back: a
    /// proof needs a connection from before it.
    async fn still_cut_off(&self, earlier: Option<&str>) -> Result<Option<Fenced>> {
        for fence in self.standing().await? {
            match earlier {
                Some(proof) if fence.association.is_some() => {
                    return Ok(Some(Fenced {
                        by: By::NetworkAcl,
                        proof: proof.into(),
                    }));
                }
                _ => ec2::lift_fence(self.cloud, &fence).await?,
            }
        }
        Ok(None)
    }

    async fn standing(&self) -> Result<Vec<NetworkFence>> {
        let mut fences = ec2::network_fences(self.cloud, self.names).await?;
        fences.retain(|fence| fence.instance == self.instance);
        Ok(fences)
    }

    /// Cuts the instance off. After a failure its subnet is as it was.
    async fn cut_off(&self, probe: Option<Probe>, step: &Step) -> Result<Fenced> {
        let refused = |why: String| Error::failed("cut it off by a network ACL").because(why);
        let place = ec2::place_of(self.cloud, self.instance).await?;
        if let Some(objection) = place.objection() {
            return Err(refused(objection));
        }
        // A connection that was silent before proves nothing by its silence after.
        let mut probe = self.answered(probe).await.ok_or_else(|| {
            refused("no connection to its Redis answers, so no write over it can be seen to be cut off".into())
        })?;
        step.update(format!("cut off its subnet {} by a network ACL", place.subnet));
        let fence = ec2::cut_off(self.cloud, self.names, self.instance, &place).await?;
        let seen = probe.is_silenced(IN_FORCE).await;
        if seen == Seen::Silent {
            return Ok(Fenced {
                by: By::NetworkAcl,
                proof: format!(
                    "the network ACL {} cuts it off: writes over a connection from before were not answered for {} s",
                    fence.acl,
                    SILENCE.as_secs()
                ),
            });
        }
        ec2::lift_fence(self.cloud, &fence).await?;
        Err(refused(match seen {
            Seen::Answered => format!(
                "a write over a connection from before was still answered after {} s, and the ACL was taken back",
                IN_FORCE.as_secs()
            ),
            Seen::Silent | Seen::Broken => {
                "the connection from before broke instead of falling silent, and the ACL was taken back".into()
            }
        }))
    }

    async fn answered(&self, probe: Option<Probe>) -> Option<Probe> {
        if let Some(mut probe) = probe
            && probe.write().await == Seen::Answered
        {
            return Some(probe);
        }
        Probe::find(self.master).await
    }

    fn unproven(&self, state: &str, after: Duration, objection: Option<Error>) -> Error {
        let id = self.instance;
        let more = objection.map_or_else(String::new, |error| format!("; {error:#}"));
        Error::unproven(format!(
            "fence the old master: EC2 still says that {id} is {state} after {} s",
            after.as_secs()
        ))
        .because(format!("it may still take writes, so the replica was not promoted{more}"))
        .hint(format!(
            "stop it hard with `aws ec2 stop-instances --force --instance-ids {id}`, or end it with `terminate-instances`, and run the same command again once EC2 says `stopped`"
        ))
    }
}

/// An instance that has not stopped by itself by then is stopped hard: after a minute of the five.
fn hard_after(patience: Duration) -> Duration {
    patience / 5
}

/// One that has not stopped by then is cut off: after a minute and a half of the five.
fn cut_after(patience: Duration) -> Duration {
    patience * 3 / 10
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hard_stop_comes_before_the_network_acl_and_both_before_the_end() {
        for seconds in [10, 60, 300, 3600] {
            let patience = Duration::from_secs(seconds);
            assert!(hard_after(patience) < cut_after(patience));
            assert!(cut_after(patience) + SILENCE < patience);
        }
        assert_eq!(hard_after(Duration::from_secs(300)), Duration::from_secs(60));
        assert_eq!(cut_after(Duration::from_secs(300)), Duration::from_secs(90));
    }
}
