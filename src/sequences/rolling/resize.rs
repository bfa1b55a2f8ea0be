//! `infra resize`: another instance type, and larger disks.
//!
//! infra.yml says what is wanted. A size that is given on the command line is written there before
//! anything else is done, so that a command that was killed goes on, and `infra up` agrees.

use super::{
    Outcome, Work, answer, data_fits, instance, look, one_after_the_other, preview, serves, under_way, wanted_of,
};
use crate::decide::resize;
use crate::decide::rolling::Needs;
use crate::effects::cloud::ec2;
use crate::effects::fault;
use crate::effects::host::{self, disk};
use crate::effects::state::Held;
use crate::effects::wait::{Look, Wait};
use crate::model::cloud::{Found, Wanted, price};
use crate::model::config::{self, Config};
use crate::model::error::{Error, ExitCode, Result};
use crate::model::role::Role;
use crate::model::size;
use crate::sequences::arguments::Resize;
use crate::sequences::context::{Context, Environment, KnownPair};
use crate::sequences::up;
use serde_json::json;
use std::time::Duration;

/// How long EC2 may take until a larger disk has its size.
const DISK: Duration = Duration::from_secs(600);

pub async fn run(context: &Context, arguments: &Resize) -> Result<ExitCode> {
    let context = &context.with_config(asked(&context.config, arguments)?);
    let environment = context.environment().await?;
    let pair = environment.pair().await?;
    let serves = serves(context, &environment, &pair.state).await?;
    let mut resizing = Resizing {
        context,
        environment: &environment,
        wanted: wanted_of(context, &environment, &pair.state),
    };
    let found = resizing.look().await?;
    answer(context, &environment).await?;
    let steps = resizing.plan(&found, &pair, serves).await?;
    if arguments.confirmed.dry_run {
        context.ui.report(json!({ "steps": steps }), &steps);
        return Ok(ExitCode::Done);
    }
    if steps.is_empty() {
        write(context).await?;
        let lines = ["nothing to change: both hosts are of the size in infra.yml"];
        context.ui.report(json!({ "done": [], "failovers": [] }), lines);
        return Ok(ExitCode::Done);
    }
    context.ui.announce(&steps);
    let hosts = &context.config.hosts;
    context.ui.note(price::line(&hosts.instance_type, hosts.disk_gb, None));
    context.confirm(
        arguments.confirmed.confirm.as_deref(),
        "This gives both hosts another size, one after the other.",
    )?;
    write(context).await?;
    let work = async |lock: &Held| {
        let outcome = one_after_the_other(context, &environment, lock, serves, &mut resizing).await?;
        context.interrupt.or(resizing.grow_disks()).await?;
        Ok(outcome)
    };
    let outcome: Outcome = context.locked(&environment, "infra resize", work).await?;
    context.ui.report(json!(outcome), outcome.lines());
    Ok(ExitCode::Done)
}

/// Returns the settings with what the command line asks for.
fn asked(config: &Config, arguments: &Resize) -> Result<Config> {
    let mut config = config.clone();
    if let Some(instance_type) = &arguments.instance_type {
        config.hosts.instance_type.clone_from(instance_type);
    }
    if let Some(disk_gb) = arguments.disk_gb {
        config.hosts.disk_gb = disk_gb;
    }
    Ok(config)
}

/// Writes the wanted size into infra.yml, where a killed command finds it again.
async fn write(context: &Context) -> Result<()> {
    let hosts = &context.config.hosts;
    let writing = async { config::write_hosts(&context.common.config, &hosts.instance_type, hosts.disk_gb) };
    fault::around("resize write infra.yml", writing).await
}

struct Resizing<'a> {
    context: &'a Context,
    environment: &'a Environment,
    wanted: Wanted,
}

impl Resizing<'_> {
    async fn look(&self) -> Result<Found> {
        look(self.environment, &self.wanted).await
    }

    /// Returns what is ahead; empty if nothing is. Fails if the hosts cannot get the wanted size.
    async fn plan(&self, found: &Found, pair: &KnownPair, serves: bool) -> Result<Vec<String>> {
        if let Some(architecture) = resize::other_architecture(found) {
            // Without them the way that the refusal names is not open either.
            host::programs::find(self.context.agent.as_deref(), architecture)
                .map_err(|error| error.while_doing(format!("resize the pair to {}", self.wanted.instance_type)))?;
        }
        resize::machine(&self.wanted, found)?;
        let disks = resize::disks(&self.wanted, found)?;
        let needs = resize::needs(&self.wanted, found)?;
        let mut steps = under_way(&pair.state);
        if !steps.is_empty() {
            // Until the roles are clear again, nobody can say what belongs to which host.
            return Ok(steps);
        }
        if needs != Needs::default() {
            self.data_fits(found, pair).await?;
            let name = &self.wanted.instance_type;
            steps.extend(preview(&pair.state, needs, serves, |role, id| {
                format!("{role} {id}: stop it, make it a {name}, start it, and wait until it is in sync again")
            })?);
        }
        for (role, gb) in disks {
            steps.push(format!(
                "{role} {}: let the disk grow from {gb} to {} GB, and its file system with it",
                resize::host(found, role)?.id,
                self.wanted.disk_gb
            ));
        }
        steps.extend(self.small_file_systems(found, pair).await?);
        // A command that was killed has left a host that does not run, or has its old settings.
        let pending = up::pending(self.context, self.environment).await?;
        steps.extend(pending.iter().map(|line| format!("as `infra up`: {line}")));
        Ok(steps)
    }

    /// Fails with figures if the data would not fit on the wanted type.
    async fn data_fits(&self, found: &Found, pair: &KnownPair) -> Result<()> {
        let machine = resize::machine(&self.wanted, found)?;
        let doing = format!("resize the pair to {}", self.wanted.instance_type);
        data_fits(self.context, &doing, machine, pair).await
    }

    /// Returns a step for each running host whose file system has not all of its disk.
    async fn small_file_systems(&self, found: &Found, pair: &KnownPair) -> Result<Vec<String>> {
        let mut steps = Vec::new();
        for role in [Role::Replica, Role::Master] {
            let host = resize::host(found, role)?;
            if host.state == "running" && disk::is_small(&pair.log_in(role).await?).await? {
                steps.push(format!("{role} {}: let the file system take all of its disk", host.id));
            }
        }
        Ok(steps)
    }

    /// Lets both disks grow while they are in use.
    async fn grow_disks(&self) -> Result<()> {
        let cloud = &self.environment.cloud;
        let found = self.look().await?;
        let growing = resize::disks(&self.wanted, &found)?;
        let disks = ec2::disks(cloud, &self.environment.names).await?;
        for (role, gb) in growing {
            let step = self.context.ui.step(format!("disk of the {role}"));
            let id = &resize::host(&found, role)?.id;
            let disk = disks.get(id).ok_or_else(|| {
                Error::failed(format!("find the disk of the {role} ({id})")).hint("run the same command again")
            })?;
            ec2::grow_disk(cloud, &disk.volume, self.wanted.disk_gb).await?;
            self.await_disk(&disk.volume, &step).await?;
            step.done(format!("{gb} GB became {}", self.wanted.disk_gb));
        }
        self.grow_file_systems(&found).await
    }

    async fn await_disk(&self, volume: &str, step: &crate::ui::Step) -> Result<()> {
        let cloud = &self.environment.cloud;
        let what = format!("{volume} to have its new size");
        let hint = "see how far it is with `aws ec2 describe-volumes-modifications`, then run the same command again";
        Wait::new(&what, DISK, hint)
            .until(step, || async {
                let state = ec2::disk_change(cloud, volume).await?;
                Ok(match state.as_deref() {
                    Some("optimizing" | "completed") | None => Look::Ready(()),
                    Some("failed") => {
                        return Err(
                            Error::failed(format!("let the disk {volume} grow: EC2 says that it failed"))
                                .hint("run the same command again"),
                        );
                    }
                    Some(state) => Look::NotYet(format!("{volume} is {state}")),
                })
            })
            .await
    }

    /// Lets the file systems of running hosts take all of their disks. One that is started later
    /// does so at its boot.
    async fn grow_file_systems(&self, found: &Found) -> Result<()> {
        let pair = self.environment.pair().await?;
        for role in [Role::Replica, Role::Master] {
            if resize::host(found, role)?.state != "running" {
                continue;
            }
            let step = self.context.ui.step(format!("file system of the {role}"));
            let session = pair.log_in(role).await?;
            match disk::grow(&session).await? {
                Some(grown) => step.done(format!("grown to {}", size::bytes(grown))),
                None => step.unchanged("as large as its disk"),
            }
        }
        Ok(())
    }
}

impl Work for Resizing<'_> {
    async fn needs(&mut self) -> Result<Needs> {
        resize::needs(&self.wanted, &self.look().await?)
    }

    async fn perform(&mut self, role: Role) -> Result<()> {
        let found = self.look().await?;
        // A run that went on with a failover has not looked at the data before.
        self.data_fits(&found, &self.environment.pair().await?).await?;
        let (cloud, id, name) = (
            &self.environment.cloud,
            &resize::host(&found, role)?.id,
            &self.wanted.instance_type,
        );
        let step = self.context.ui.step(format!("{role} {id}"));
        instance::stop(cloud, &step, id).await?;
        ec2::set_type(cloud, id, name).await?;
        step.done(format!("is a {name}"));
        Ok(())
    }
}
