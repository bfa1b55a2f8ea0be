//! The two machines.

use super::Inputs;
use super::work::Work;
use crate::effects::cloud::ec2;
use crate::effects::cloud::ec2::Run;
use crate::effects::wait::{Look, Wait};
use crate::model::cloud::{Found, HostAction, HostSpec, Instance};
use crate::model::error::{Error, Result};
use crate::model::role::Role;
use crate::model::secrets::Secrets;
use crate::ui::Step;
use std::time::Duration;

/// How long EC2 may take to see a new profile, group or key.
const SEEN: Duration = Duration::from_secs(90);
/// How long a machine may take to run, or to stop before a start.
const RUNNING: Duration = Duration::from_secs(300);

/// Returns the running host of this role; makes or starts it if the plan says so.
pub(super) async fn host(
    work: &Work<'_>,
    actions: &[&HostAction],
    found: &Found,
    role: Role,
    group: &str,
    secrets: &Secrets,
    inputs: &Inputs<'_>,
) -> Result<Instance> {
    let there = found.instances.iter().find(|instance| instance.role == role);
    let Some(action) = actions.iter().find(|action| action.role() == role) else {
        let there =
            there.ok_or_else(|| Error::failed(format!("find the {role}")).hint("run the same command again"))?;
        if there.state == "running" && there.private_ip.is_some() {
            return Ok(there.clone());
        }
        let step = work.ui.step(format!("{role} {}", there.id));
        return running(work, &step, &there.id).await;
    };
    let step = work.ui.step(format!("{role} {}", work.wanted.names.host(role)));
    let id = match action {
        HostAction::Start { id, .. } => {
            stopped(work, &step, id).await?;
            ec2::start(work.cloud, id).await?;
            id.clone()
        }
        HostAction::Create(host) => {
            let standing = found.instances.iter().map(|instance| instance.id.clone()).collect();
            make(work, &step, host, group, secrets, inputs, standing).await?
        }
    };
    work.did(action.change());
    step.update(&id);
    running(work, &step, &id).await
}

async fn make(
    work: &Work<'_>,
    step: &Step,
    host: &HostSpec,
    group: &str,
    secrets: &Secrets,
    inputs: &Inputs<'_>,
    standing: Vec<String>,
) -> Result<String> {
    let user_data = &(inputs.user_data)(host.role, secrets)?;
    let what = format!("EC2 to take the {}", host.role);
    let mut wait = Wait::new(&what, SEEN, "run the same command again");
    wait.first_pause = Duration::from_millis(500);
    wait.until(step, || async {
        Ok(
            match ec2::run(work.cloud, &work.wanted.names, host, group, user_data, &standing).await? {
                Run::Made(id) => Look::Ready(id),
                Run::NotYet(seen) => Look::NotYet(seen),
            },
        )
    })
    .await
}

async fn running(work: &Work<'_>, step: &Step, id: &str) -> Result<Instance> {
    let what = format!("{id} to run");
    let hint = format!("see what EC2 says about it with `aws ec2 describe-instance-status --instance-ids {id}`");
    let instance = Wait::new(&what, RUNNING, &hint)
        .until(step, || async {
            Ok(match ec2::instance(work.cloud, id).await? {
                Some(instance) if instance.state == "running" && instance.private_ip.is_some() => Look::Ready(instance),
                Some(instance) if matches!(instance.state.as_str(), "pending" | "running") => {
                    Look::NotYet(format!("{id} is {}", instance.state))
                }
                Some(instance) => {
                    let why = instance.reason.unwrap_or_else(|| "EC2 does not say why".into());
                    return Err(ec2::ended(id, &format!("{}: {why}", instance.state)));
                }
                None => Look::NotYet(format!("{id} is not listed yet")),
            })
        })
        .await?;
    step.done(format!("{id} runs in {}", instance.zone));
    Ok(instance)
}

/// Waits for a machine that is stopping, since it cannot be started yet.
async fn stopped(work: &Work<'_>, step: &Step, id: &str) -> Result<()> {
    let what = format!("{id} to stop before it is started again");
    let hint = format!("stop it hard with `aws ec2 stop-instances --force --instance-ids {id}`");
    Wait::new(&what, RUNNING, &hint)
        .until(step, || async {
            Ok(match ec2::instance(work.cloud, id).await? {
                Some(instance) if instance.state == "stopping" => Look::NotYet(format!("{id} is stopping")),
                _ => Look::Ready(()),
            })
        })
        .await
}
