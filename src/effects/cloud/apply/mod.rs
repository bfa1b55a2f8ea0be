//! Carries out a plan.
//!
//! A network ACL that cut a host off goes first. Independent parts run at once: bucket, parameters with the key pair, security group, role with
//! its profile, address. Then come both hosts, and last the address moves to the master. Each call
//! tags what it makes and may be repeated: after a failure the next plan has only the rest.

mod base;
mod hosts;
mod work;

pub use base::make_bucket;

use super::{Cloud, ec2};
use crate::model::cloud::{Address, AddressAction, Change, Found, Instance, Plan, Sections, Wanted};
use crate::model::error::{Error, Result};
use crate::model::role::Role;
use crate::model::secret::Secret;
use crate::model::secrets::Secrets;
use crate::ui::Ui;
use std::collections::BTreeMap;
use work::Work;

/// Values that only the caller can make. Both functions get the secrets that exist by then.
pub struct Inputs<'a> {
    pub parameter: &'a (dyn Fn(&str, &Secrets) -> Result<Secret> + Sync),
    /// Returns a host's user-data as plain text. The same secrets must give the same text.
    pub user_data: &'a (dyn Fn(Role, &Secrets) -> Result<Secret> + Sync),
}

/// The resources after a plan was carried out.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub hosts: BTreeMap<Role, Instance>,
    pub address: Address,
    pub secrets: Secrets,
    /// The changes that were made, as in the plan; empty if there were none.
    pub done: Vec<Change>,
}

impl Outcome {
    pub fn host(&self, role: Role) -> Result<&Instance> {
        self.hosts
            .get(&role)
            .ok_or_else(|| Error::failed(format!("find the {role}")).hint("run `infra up`: it makes it"))
    }

    /// Returns the operator's way to a host: the endpoint's address for the master, else its own.
    pub fn public_address(&self, role: Role) -> Result<&str> {
        let host = self.host(role)?;
        if self.address.instance.as_ref() == Some(&host.id) {
            return Ok(&self.address.public_ip);
        }
        host.public_ip.as_deref().ok_or_else(|| {
            Error::failed(format!("reach the {role} ({}): it has no public address", host.id))
                .hint("put the hosts into a subnet with an internet gateway")
        })
    }
}

/// Carries out the plan. After a failure the error is partial and names the changes that were made.
pub async fn apply(
    cloud: &Cloud,
    wanted: &Wanted,
    found: &Found,
    plan: &Plan,
    inputs: &Inputs<'_>,
    ui: &Ui,
) -> Result<Outcome> {
    let work = Work::new(cloud, wanted, plan, ui);
    match carry_out(&work, found, inputs).await {
        Ok(outcome) => Ok(outcome),
        Err(error) => Err(work.partly(error)),
    }
}

async fn carry_out(work: &Work<'_>, found: &Found, inputs: &Inputs<'_>) -> Result<Outcome> {
    // A section that is added to plans does not compile until it is taken here.
    let Sections {
        bucket,
        parameters,
        key_pair,
        group,
        role,
        hosts,
        address,
        fences,
    } = work.plan.sections();
    for fence in fences {
        let step = work.ui.step(format!("network ACL {}", fence.acl));
        ec2::lift_fence_of_stopped(work.cloud, fence).await?;
        work.did(fence.change());
        step.done("taken back");
    }
    // If one fails, the others still end, so that the report has all that was done.
    let (made, secrets, group, given, endpoint) = tokio::join!(
        Box::pin(base::bucket(work, &bucket)),
        Box::pin(base::parameters_and_key_pair(
            work,
            (&parameters, &key_pair),
            found,
            inputs
        )),
        Box::pin(base::group(work, &group, found)),
        Box::pin(base::role_and_profile(work, &role)),
        Box::pin(base::address(work, found)),
    );
    made?;
    let (secrets, group, mut endpoint) = (secrets?, group?, endpoint?);
    given?;
    let (master, replica) = tokio::join!(
        hosts::host(work, &hosts, found, Role::Master, &group, &secrets, inputs),
        hosts::host(work, &hosts, found, Role::Replica, &group, &secrets, inputs),
    );
    let mut hosts = BTreeMap::from([(Role::Master, master?), (Role::Replica, replica?)]);
    for action in address {
        let (name, role) = match action {
            AddressAction::Associate { name, role, .. } => (name, role),
            // It was allocated while the other things were made.
            AddressAction::Allocate { .. } => continue,
        };
        let step = work.ui.step(format!("address {name}"));
        let instance = hosts[role].id.clone();
        ec2::associate(work.cloud, &endpoint, &instance).await?;
        endpoint.instance = Some(instance);
        work.did(action.change());
        step.done(format!("{} leads to the {role}", endpoint.public_ip));
    }
    for host in hosts
        .values_mut()
        .filter(|host| endpoint.instance.as_ref() == Some(&host.id))
    {
        host.public_ip = Some(endpoint.public_ip.clone());
    }
    Ok(Outcome {
        hosts,
        address: endpoint,
        secrets,
        done: work.done(),
    })
}
