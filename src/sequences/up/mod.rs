//! `infra up`: look, plan, show, ask, apply, wait for data, prove the backup, write the inventory.

mod ahead;
mod apply;
mod empty_master;
mod show;

use crate::decide::cloud::plan;
use crate::decide::preflight::reach;
use crate::effects::host::programs::Programs;
use crate::effects::host::upkeep;
use crate::effects::inventory::{Host, Inventory};
use crate::effects::redis::Server;
use crate::effects::state::Held;
use crate::effects::{backup, cloud, host};
use crate::model::cloud::price::{self, Monthly};
use crate::model::cloud::{Action, Found, HostAction, Instance, Plan, Wanted};
use crate::model::error::{Error, ExitCode, Result};
use crate::model::follow::Follower;
use crate::model::role::Role;
use crate::model::state::{HostRecord, State};
use crate::sequences::arguments::Up;
use crate::sequences::check;
use crate::sequences::context::{Context, Environment, host_server};
use crate::sequences::cutover::Phase;
use crate::sequences::setup::hosts::{LOGIN, Looked, Pair};
use crate::sequences::setup::source::Known;
use crate::sequences::setup::{access, copied, wanted};
use crate::ui::Step;
pub use ahead::{needs, pending};
use apply::apply;
pub use apply::{make_whole, prove_backup};
use jiff::Timestamp;
use show::{Made, host_lines, report, show_plan};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// A host that was set up answers at once, or is in trouble; after a reboot it may take a moment.
const ANSWER: Duration = Duration::from_secs(20);

/// How much is to be changed, or was. Setting up a new host counts as one, however many steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Changes {
    cloud: usize,
    new_hosts: usize,
    /// On hosts that were set up before.
    host_steps: usize,
}

impl Changes {
    fn all(self) -> usize {
        self.cloud + self.new_hosts + self.host_steps
    }
}

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = [
            (self.cloud, "in the cloud"),
            (self.new_hosts, "hosts to set up"),
            (self.host_steps, "on the hosts"),
        ];
        let named: Vec<String> = named
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} {what}"))
            .collect();
        write!(f, "{} changes", self.all())?;
        if named.is_empty() {
            return Ok(());
        }
        write!(f, " ({})", named.join(", "))
    }
}

/// The finds before anything is done.
struct Seen {
    state: State,
    phase: Option<Phase>,
    source: Known,
    /// Warnings of who may come in.
    warnings: Vec<String>,
    wanted: Wanted,
    found: Found,
    plan: Plan,
    /// By the architecture of each host.
    programs: BTreeMap<Role, Programs>,
    /// `None` unless the cloud is as it should be: otherwise there is no lasting host to log in to.
    hosts: Option<BTreeMap<Role, Looked>>,
}

impl Seen {
    fn changes(&self) -> Changes {
        let (new_hosts, host_steps) = match &self.hosts {
            Some(hosts) => (0, hosts.values().map(|looked| looked.plan.steps.len()).sum()),
            None => (self.unknown_hosts().count(), 0),
        };
        Changes {
            cloud: self.plan.actions.len(),
            new_hosts,
            host_steps,
        }
    }

    /// Returns the hosts whose first contact has not come to its end.
    fn unknown_hosts(&self) -> impl Iterator<Item = Role> {
        let is_known = |role: &Role| is_known(self.state.hosts.get(role), *role, &self.found.instances);
        Role::ALL.into_iter().filter(move |role| !is_known(role))
    }
}

/// Returns true if a host's first contact has come to its end. A run that was killed may have made
/// another instance in this role since: what is known belongs to the one that is gone.
fn is_known(record: Option<&HostRecord>, role: Role, instances: &[Instance]) -> bool {
    let Some(record) = record.filter(|record| record.is_known()) else {
        return false;
    };
    let stands = instances.iter().find(|instance| instance.role == role);
    stands.is_none_or(|instance| instance.id == record.instance_id)
}

pub async fn run(context: &Context, arguments: &Up) -> Result<ExitCode> {
    let environment = context.environment().await?;
    let seen = context.interrupt.or(look(context, &environment)).await?;
    seen.state.refuse_failover()?;
    if !arguments.empty_master {
        seen.refuse_empty_master(context, &environment).await?;
    }
    let changes = seen.changes().all();
    seen.warnings.iter().for_each(|warning| context.ui.warn(warning));
    if changes > 0 || arguments.change.dry_run {
        let cost = cost(context, &seen).await;
        show_plan(context, &seen, cost, arguments.change.dry_run);
    }
    if arguments.change.dry_run {
        let pending = arguments.detailed_exitcode && changes > 0;
        return Ok(if pending {
            ExitCode::ChangesPending
        } else {
            ExitCode::Done
        });
    }
    if changes > 0 {
        if seen.phase.is_none_or(|phase| phase < Phase::Promoted) && !context.config.source.none {
            let app = context.platform.known().await;
            let findings = check::findings(context, &environment, app.as_ref(), check::BRIEFLY).await?;
            check::refuse_blockers(&findings)?;
        }
        context.agree(arguments.change.yes, "Make these changes?")?;
    }
    if changes == 0
        && let Some(hosts) = &seen.hosts
        && complete(context, &environment, &seen, hosts).await?
    {
        return Ok(ExitCode::Done);
    }
    apply(context, &environment, seen).await
}

/// Returns a line on what new hosts will cost, beside the hosted plan; `None` if there are none.
async fn cost(context: &Context, seen: &Seen) -> Option<String> {
    let creates = |action: &Action| matches!(action, Action::Host(HostAction::Create(_)));
    if !seen.plan.actions.iter().any(creates) {
        return None;
    }
    // The price only informs: without an answer the plan is shown all the same.
    let hosted = match context.platform.heroku() {
        Some(heroku) => heroku.plan_of(&context.config.app.config_var).await.ok().flatten(),
        None => None,
    };
    let hosted = hosted.map(|(plan, cents)| (plan, Monthly(cents as f64 / 100.0)));
    let hosted = hosted.as_ref().map(|(plan, price)| (plan.as_str(), *price));
    Some(price::line(&seen.wanted.instance_type, seen.wanted.disk_gb, hosted))
}

/// Looks at what is there and at the difference to what should be. Changes nothing.
async fn look(context: &Context, environment: &Environment) -> Result<Seen> {
    look_from(context, environment, None).await
}

/// As `look`, with the source that the caller has looked up already.
async fn look_from(
    context: &Context,
    environment: &Environment,
    source: Option<Result<&Server, &Error>>,
) -> Result<Seen> {
    let step = context.ui.step("look at what is there");
    let stored = environment.store.state().await?.map(|stored| stored.value);
    let is_new = stored.is_none();
    let state = stored.unwrap_or_else(|| State::begin(Timestamp::now()));
    let access = access::access(&context.config, &environment.cloud, &context.apps()?).await?;
    let wanted = wanted::wanted(
        &context.config,
        &environment.names,
        state.generation,
        environment.cloud.s3_over_tls(),
        &access,
    );
    let (phase, found) = tokio::try_join!(
        async {
            if is_new {
                Ok(None)
            } else {
                context.phase(environment).await
            }
        },
        cloud::find::find(&environment.cloud, &wanted)
    )?;
    let mut found = found;
    for instance in &mut found.instances {
        instance.role = state.role_of(&instance.id, instance.role);
    }
    let source = match (phase, source) {
        (Some(phase), _) if phase >= Phase::Promoted => Known::remembered(&state.source),
        _ if context.config.source.none => Known::remembered(&state.source),
        (_, Some(source)) => Known::ask(source.map_err(Error::repeated)?, context.config.source.follow, None).await?,
        (_, None) => Known::ask(&context.source().await?, context.config.source.follow, None).await?,
    };
    let plan = plan(&wanted, &found)?;
    let programs_of = |role| host::programs::find(context.agent.as_deref(), found.architecture_of(role));
    let programs = Role::ALL
        .into_iter()
        .map(|role| Ok((role, programs_of(role)?)))
        .collect::<Result<_>>()?;
    let mut seen = Seen {
        state,
        phase,
        source,
        warnings: reach::warnings(&access),
        wanted,
        found,
        plan,
        programs,
        hosts: None,
    };
    if seen.plan.actions.is_empty() {
        let hosts = hosts_of(&seen.found)?;
        if seen.unknown_hosts().next().is_none() {
            let looked = look_at_hosts(context, environment, &seen, &hosts).await?;
            seen.hosts = Some(looked);
        }
    }
    step.done(format!(
        "{} resources as they should be, {}",
        seen.plan.unchanged.len(),
        seen.changes()
    ));
    Ok(seen)
}

/// The hosts as instances with the addresses at which the operator reaches them.
struct Reached {
    instances: BTreeMap<Role, Instance>,
    addresses: BTreeMap<Role, String>,
}

fn hosts_of(found: &Found) -> Result<Reached> {
    let instances: BTreeMap<Role, Instance> = found
        .instances
        .iter()
        .map(|instance| (instance.role, instance.clone()))
        .collect();
    let mut addresses = BTreeMap::new();
    for (role, instance) in &instances {
        let elastic = found
            .addresses
            .iter()
            .find(|address| address.instance.as_deref() == Some(&instance.id))
            .map(|address| &address.public_ip);
        let address = elastic.or(instance.public_ip.as_ref()).ok_or_else(|| {
            Error::failed(format!("reach the {role} ({}): it has no public address", instance.id))
                .hint("put the hosts into a subnet with an internet gateway")
        })?;
        addresses.insert(*role, address.clone());
    }
    Ok(Reached { instances, addresses })
}

async fn look_at_hosts(
    context: &Context,
    environment: &Environment,
    seen: &Seen,
    reached: &Reached,
) -> Result<BTreeMap<Role, Looked>> {
    let secrets = &seen.found.secrets;
    let pair = pair(context, environment, seen, secrets, reached, 0);
    let step = context.ui.step("look at the hosts");
    let one = |role: Role| {
        let (pair, step, record) = (&pair, &step, seen.state.hosts.get(&role).cloned().unwrap_or_default());
        async move {
            let session = pair.log_in(role, &record, ANSWER, step).await?;
            Ok::<_, Error>((role, pair.look(role, session).await?))
        }
    };
    let (master, replica) = tokio::try_join!(one(Role::Master), one(Role::Replica))?;
    step.done("both answer");
    Ok(BTreeMap::from([master, replica]))
}

fn pair<'a>(
    context: &'a Context,
    environment: &'a Environment,
    seen: &'a Seen,
    secrets: &'a crate::model::secrets::Secrets,
    reached: &'a Reached,
    epoch: u64,
) -> Pair<'a> {
    Pair {
        config: &context.config,
        cloud: &environment.cloud,
        names: &seen.wanted.names,
        secrets,
        rotation: seen.state.rotation.as_ref(),
        source: &seen.source,
        phase: seen.phase,
        instances: &reached.instances,
        addresses: &reached.addresses,
        memory: reached
            .instances
            .iter()
            .filter_map(|(role, instance)| Some((*role, seen.found.memory_of(instance)?)))
            .collect(),
        programs: &seen.programs,
        demoted: seen.state.demoted.as_deref(),
        demoted_s: seen.state.demoted_s,
        epoch,
    }
}

/// Returns true if nothing is left to do: both follow, and a backup exists. Then it reports so.
async fn complete(
    context: &Context,
    environment: &Environment,
    seen: &Seen,
    hosts: &BTreeMap<Role, Looked>,
) -> Result<bool> {
    let reached = hosts_of(&seen.found)?;
    let Some(backup) = backup::newest(environment.store.bucket(), context.env(), seen.state.generation).await? else {
        return Ok(false);
    };
    if seen.state.endpoint.as_deref() != reached.addresses.get(&Role::Master).map(String::as_str) {
        return Ok(false);
    }
    let inventory = inventory(&reached, &seen.state);
    if Inventory::load(&context.inventory_path())? != Some(inventory.clone()) {
        inventory.save(&context.inventory_path())?;
    }
    let mut servers = BTreeMap::new();
    for (role, address) in &reached.addresses {
        let info = host_server(*role, address, &seen.found.secrets)?
            .connect(0)
            .await?
            .info()
            .await?;
        let is_follower = *role == Role::Replica || seen.phase.is_none_or(|phase| phase < Phase::Promoted);
        if is_follower && *role == Role::Master && seen.source.record.follower == Follower::Copy {
            let Some(looked) = hosts.get(role) else {
                return Ok(false);
            };
            if !copied::has_begun(&looked.session).await? {
                return Ok(false);
            }
        } else if is_follower && !info.link.as_ref().is_some_and(|link| link.up) {
            return Ok(false);
        }
        servers.insert(role.name(), info);
    }
    let warnings: Vec<String> = hosts
        .values()
        .flat_map(|looked| looked.plan.warnings.iter().cloned())
        .collect();
    report(
        context,
        seen,
        &reached,
        &servers,
        Some(&backup),
        Made::default(),
        &warnings,
    );
    Ok(true)
}

/// Fails if a host or the cloud is not as infra.yml says, for commands that change one thing.
pub async fn refuse_changes(context: &Context, environment: &Environment) -> Result<()> {
    let seen = look(&context.quietly(), environment).await?;
    if seen.changes().all() == 0 && seen.hosts.is_some() {
        return Ok(());
    }
    Err(Error::failed(format!(
        "begin: the pair differs from infra.yml in {} places",
        seen.changes().all()
    ))
    .hint("run `infra up` first; `infra up --dry-run` shows the differences"))
}

/// Brings both hosts to what the stored state says, for a command that has just changed that.
pub async fn bring_hosts(context: &Context, environment: &Environment, lock: &Held, step: &Step) -> Result<()> {
    let mut seen = look(&context.quietly(), environment).await?;
    let Some(mut hosts) = seen.hosts.take() else {
        return Err(
            Error::failed("bring the hosts to a new state: the cloud is not as infra.yml says")
                .hint("run `infra up`, then the same command again"),
        );
    };
    let reached = hosts_of(&seen.found)?;
    let pair = pair(context, environment, &seen, &seen.found.secrets, &reached, lock.epoch());
    let mut looked = |role: Role| {
        let looked = hosts.remove(&role);
        looked.ok_or_else(|| Error::failed(format!("reach the {role}: it was not looked at")))
    };
    let (master, replica) = (looked(Role::Master)?, looked(Role::Replica)?);
    lock.confirm(Duration::ZERO).await?;
    tokio::try_join!(
        pair.bring(Role::Master, master, step),
        pair.bring(Role::Replica, replica, step)
    )?;
    let inventory = inventory(&reached, &seen.state);
    if Inventory::load(&context.inventory_path())? != Some(inventory.clone()) {
        inventory.save(&context.inventory_path())?;
    }
    Ok(())
}

/// The result of a look like that of `up`, for `infra status`.
pub struct Drift {
    /// Changes that `up` would make.
    pub lines: Vec<String>,
    /// Work on the hosts that only the operator may do.
    pub upkeep: Vec<String>,
}

/// Returns the changes that `up` would make. `source` is the source as `status` has looked it up.
pub async fn drift(context: &Context, environment: &Environment, source: Result<&Server, &Error>) -> Result<Drift> {
    let quiet = context.quietly();
    let seen = look_from(&quiet, environment, Some(source)).await?;
    let mut lines: Vec<String> = seen.plan.changes().iter().map(ToString::to_string).collect();
    lines.extend(seen.plan.drift.iter().map(ToString::to_string));
    match &seen.hosts {
        Some(_) => lines.extend(host_lines(&seen)),
        None => lines.extend(
            seen.unknown_hosts()
                .map(|role| format!("host {role}  is not set up yet")),
        ),
    }
    let hosts = seen.hosts.iter().flatten();
    let upkeep = hosts
        .flat_map(|(role, looked)| upkeep::wanted(role.name(), &looked.description.engine, &looked.facts))
        .collect();
    Ok(Drift { lines, upkeep })
}

fn inventory(reached: &Reached, state: &State) -> Inventory {
    let mut inventory = Inventory::default();
    inventory.all.vars.insert("ansible_user".into(), LOGIN.into());
    let hosts = &mut inventory.all.children.entry("redis".into()).or_default().hosts;
    for (role, instance) in &reached.instances {
        hosts.insert(
            role.name().into(),
            Host {
                ansible_host: reached.addresses.get(role).cloned().unwrap_or_default(),
                ansible_user: LOGIN.into(),
                infra_instance_id: instance.id.clone(),
                infra_private_ip: instance.private_ip.clone().unwrap_or_default(),
                infra_role: role.name().into(),
                infra_host_key: state
                    .hosts
                    .get(role)
                    .map(|record| record.host_key.clone())
                    .unwrap_or_default(),
            },
        );
    }
    inventory
}
