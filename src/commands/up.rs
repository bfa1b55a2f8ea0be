//! `infra up`: look, plan, show, ask, apply, wait for the data, prove the backup, write the inventory.

use super::JSON_SCHEMA_VERSION;
use super::check;
use super::context::{Context, Environment, host_server};
use crate::backup::{self, BackupSummary};
use crate::cli::Up;
use crate::cloud::{self, apply::Inputs};
use crate::cutover::Phase;
use crate::error::{Error, ExitCode, Result};
use crate::host;
use crate::inventory::{Host, Inventory};
use crate::plan::cloud::{Found, Instance, Plan, Wanted, plan};
use crate::redis::Info;
use crate::setup::hosts::{BOOT, LOGIN, Looked, Pair};
use crate::setup::{follow, keeper::Keeper, source::Known, wanted};
use crate::state::{Held, Lock, Role, State};
use crate::ui::size;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A first copy of a small instance's memory over the internet, and some patience.
const SYNC: Duration = Duration::from_secs(20 * 60);

/// A host that was set up answers at once, or is in trouble; after a reboot it may take a moment.
const ANSWER: Duration = Duration::from_secs(20);

/// What stands before anything is done.
struct Seen {
    state: State,
    phase: Option<Phase>,
    source: Known,
    wanted: Wanted,
    found: Found,
    plan: Plan,
    /// Only where the cloud is as it should be: otherwise there is nobody to log in to, or not for long.
    hosts: Option<BTreeMap<Role, Looked>>,
}

impl Seen {
    fn changes(&self) -> usize {
        let hosts = match &self.hosts {
            Some(hosts) => hosts.values().map(|looked| looked.plan.steps.len()).sum(),
            None => self.unknown_hosts().count(),
        };
        self.plan.actions.len() + hosts
    }

    /// Hosts that nobody has set up to the end of their first contact.
    fn unknown_hosts(&self) -> impl Iterator<Item = Role> {
        Role::ALL.into_iter().filter(|role| {
            !self
                .state
                .hosts
                .get(role)
                .is_some_and(|record| !record.host_key.is_empty() && record.next_host_key.is_none())
        })
    }
}

pub async fn run(context: &Context, arguments: &Up) -> Result<ExitCode> {
    let environment = context.environment().await?;
    let seen = context.interrupt.or(look(context, &environment)).await?;
    let changes = seen.changes();
    if changes > 0 || arguments.change.dry_run {
        show_plan(context, &seen, arguments.change.dry_run);
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
        if seen.phase.is_none_or(|phase| phase < Phase::Promoted) {
            check::refuse_blockers(&check::findings(context, &environment).await?)?;
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

/// Everything that is there, and the difference to what should be. Changes nothing.
async fn look(context: &Context, environment: &Environment) -> Result<Seen> {
    let step = context.ui.step("look at what is there");
    let stored = environment.store.state().await?.map(|stored| stored.value);
    let is_new = stored.is_none();
    let state = stored.unwrap_or_else(|| State::begin(Timestamp::now()));
    let names = context.names(environment)?;
    let wanted = wanted::wanted(
        &context.config,
        &names,
        state.generation,
        environment.cloud.s3_over_tls(),
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
    let source = match phase {
        Some(phase) if phase >= Phase::Promoted => Known::remembered(&state.source),
        _ => Known::ask(&context.source().await?, None).await?,
    };
    let plan = plan(&wanted, &found)?;
    let mut seen = Seen {
        state,
        phase,
        source,
        wanted,
        found,
        plan,
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
        "{} resources as they should be, {} changes",
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
    let pair = pair(context, environment, seen, secrets, reached);
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
    secrets: &'a crate::state::Secrets,
    reached: &'a Reached,
) -> Pair<'a> {
    Pair {
        config: &context.config,
        cloud: &environment.cloud,
        names: &seen.wanted.names,
        secrets,
        source: &seen.source,
        phase: seen.phase,
        instances: &reached.instances,
        addresses: &reached.addresses,
        memory: seen
            .found
            .machine_type
            .as_ref()
            .map_or(1 << 30, |machine| machine.memory_bytes),
    }
}

/// Whether nothing at all is left to do: both follow, and a backup stands. Says so with the figures.
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
        let info = Info::read(&mut host_server(*role, address, &seen.found.secrets)?.connect(0).await?).await?;
        let followers = *role == Role::Replica || seen.phase.is_none_or(|phase| phase < Phase::Promoted);
        if followers && !info.link.as_ref().is_some_and(|link| link.up) {
            return Ok(false);
        }
        servers.insert(role.name(), info);
    }
    let warnings: Vec<String> = hosts
        .values()
        .flat_map(|looked| looked.plan.warnings.iter().cloned())
        .collect();
    report(context, seen, &reached, &servers, Some(&backup), 0, &warnings);
    Ok(true)
}

async fn apply(context: &Context, environment: &Environment, seen: Seen) -> Result<ExitCode> {
    cloud::apply::make_bucket(&environment.cloud, &seen.wanted, &seen.plan, &context.ui).await?;
    let lock = Lock::acquire(&environment.store, &context.ui, "infra up").await?;
    let work = async {
        let again = look(&context.quietly(), environment).await?;
        refuse_surprises(&seen, &again)?;
        apply_locked(context, environment, again, &lock).await
    };
    let result = context.interrupt.or(work).await;
    context.warn_of(lock.release().await);
    result.map(|()| ExitCode::Done)
}

/// What was shown is what may be done. Between the plan and the lock somebody else may have worked here: less to do is fine, something else is not.
fn refuse_surprises(shown: &Seen, now: &Seen) -> Result<()> {
    // Of hosts that could not be looked at before, everything was announced.
    let hosts_too = shown.hosts.is_some();
    let lines = |seen: &Seen| -> BTreeSet<String> {
        let cloud = seen.plan.changes().iter().map(ToString::to_string).collect::<Vec<_>>();
        let hosts = host_lines(seen).filter(|_| hosts_too);
        cloud.into_iter().chain(hosts).collect()
    };
    let (shown_lines, now_lines) = (lines(shown), lines(now));
    if now.phase != shown.phase {
        return Err(Error::failed("apply the plan: the cutover went on since it was made")
            .hint("run `infra up` again to see the new plan"));
    }
    match now_lines.difference(&shown_lines).next() {
        Some(surprise) => Err(Error::failed(format!(
            "apply the plan: there is more to do than was shown: {surprise}"
        ))
        .hint("somebody else changed this environment meanwhile: run `infra up` again to see the new plan")),
        None => Ok(()),
    }
}

async fn apply_locked(context: &Context, environment: &Environment, mut seen: Seen, lock: &Held) -> Result<()> {
    // What was planned for the hosts is what is done there, over the sessions that looked.
    let mut looked = seen.hosts.take().unwrap_or_default();
    let seen = &seen;
    let keeper = Keeper::open(&environment.store, seen.state.clone()).await?;
    // The generation is stored before the first machine is asked for: it is part of the token that makes asking twice safe.
    let source = seen.source.record.clone();
    keeper.change(|state| state.source = source).await?;
    let names = &seen.wanted.names;
    let inputs = Inputs {
        parameter: &|name, secrets| wanted::parameter_value(names, name, secrets),
        user_data: &|role, secrets| wanted::user_data(names, role, secrets),
    };
    let stood = cloud::apply::apply(
        &environment.cloud,
        &seen.wanted,
        &seen.found,
        &seen.plan,
        &inputs,
        &context.ui,
    )
    .await?;
    let mut addresses = BTreeMap::new();
    for role in Role::ALL {
        addresses.insert(role, stood.public_address(role)?.to_string());
    }
    let reached = Reached {
        instances: stood.hosts.clone(),
        addresses,
    };
    let endpoint = reached.addresses.get(&Role::Master).cloned();
    let ids: Vec<(Role, String)> = reached
        .instances
        .iter()
        .map(|(role, instance)| (*role, instance.id.clone()))
        .collect();
    keeper
        .change(|state| {
            state.endpoint = endpoint;
            for (role, id) in ids {
                let record = state.hosts.entry(role).or_default();
                if record.instance_id != id {
                    // Another machine: what was pinned belongs to the one that is gone.
                    *record = crate::state::HostRecord {
                        instance_id: id,
                        ..Default::default()
                    };
                }
            }
        })
        .await?;
    lock.check(Duration::ZERO)?;
    let pair = pair(context, environment, seen, &stood.secrets, &reached);
    let (master, replica) = tokio::try_join!(
        set_up(context, &pair, Role::Master, looked.remove(&Role::Master), &keeper),
        set_up(context, &pair, Role::Replica, looked.remove(&Role::Replica), &keeper)
    )?;
    let mut warnings = master.warnings;
    warnings.extend(replica.warnings);
    let servers = follow(context, seen, &reached, &stood.secrets).await?;
    let backup = prove_backup(
        context,
        environment,
        &master.session,
        seen.state.generation,
        master.changes > 0,
    )
    .await?;
    if seen.phase.is_none() {
        keeper
            .change(|state| state.phase = Phase::Following.name().into())
            .await?;
    }
    inventory(&reached, &keeper.state().await).save(&context.inventory_path())?;
    let changes = stood.done.len() + master.changes + replica.changes;
    report(context, seen, &reached, &servers, Some(&backup), changes, &warnings);
    Ok(())
}

struct SetUp {
    session: crate::remote::Session,
    changes: usize,
    warnings: Vec<String>,
}

async fn set_up(
    context: &Context,
    pair: &Pair<'_>,
    role: Role,
    looked: Option<Looked>,
    keeper: &Keeper,
) -> Result<SetUp> {
    let step = context.ui.step(format!("host {role}"));
    let record = keeper.state().await.hosts.get(&role).cloned().unwrap_or_default();
    let work = async {
        let looked = match looked {
            Some(looked) => looked,
            None => {
                let session = pair.log_in(role, &record, BOOT, &step).await?;
                let session = pair.first_contact(role, session, keeper, &step).await?;
                pair.look(role, session).await?
            }
        };
        pair.bring(role, looked, &step).await
    };
    let (session, outcome) = work
        .await
        .map_err(|error| error.while_doing(format!("set up the host {role}")))?;
    if outcome.changes == 0 {
        step.unchanged("as it should be");
    } else {
        step.done(format!("{} changes", outcome.changes));
    }
    Ok(SetUp {
        session,
        changes: outcome.changes,
        warnings: outcome.warnings,
    })
}

async fn follow(
    context: &Context,
    seen: &Seen,
    reached: &Reached,
    secrets: &crate::state::Secrets,
) -> Result<BTreeMap<&'static str, Info>> {
    let server = |role: Role| host_server(role, &reached.addresses[&role], secrets);
    let (master, replica) = (server(Role::Master)?, server(Role::Replica)?);
    let master_seen = if seen.phase.is_some_and(|phase| phase >= Phase::Promoted) {
        Info::read(&mut master.connect(0).await?).await?
    } else {
        follow::in_sync(&context.ui, &context.source().await?, &master, SYNC).await?
    };
    let replica_seen = follow::in_sync(&context.ui, &master, &replica, SYNC).await?;
    Ok(BTreeMap::from([("master", master_seen), ("replica", replica_seen)]))
}

/// A backup that was never read back is a hope. One is made when the job is new or changed, or none stands.
async fn prove_backup(
    context: &Context,
    environment: &Environment,
    master: &crate::remote::Session,
    generation: u64,
    anew: bool,
) -> Result<BackupSummary> {
    let bucket = environment.store.bucket();
    if !anew && let Some(newest) = backup::newest(bucket, context.env(), generation).await? {
        return Ok(newest);
    }
    let step = context.ui.step("backup");
    let report = host::backup::run_now(master).await?;
    step.update("reading it back");
    let proven = backup::read_back(bucket, &report).await?;
    step.done(format!(
        "{} keys in {}, read back and its SHA-256 matches",
        size::count(proven.keys),
        size::bytes(proven.bytes)
    ));
    Ok(proven)
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

/// `alone`: nothing will follow it.
fn show_plan(context: &Context, seen: &Seen, alone: bool) {
    let hosts: BTreeMap<&str, Vec<String>> = host_steps(seen);
    if context.ui.json() && !alone {
        // One document a command: this one's will say what was done.
        seen.plan.to_string().lines().for_each(|line| context.ui.note(line));
        host_lines(seen).for_each(|line| context.ui.note(format!("  ~ {line}")));
        return;
    }
    if context.ui.json() {
        context.ui.data(
            json!({ "schema_version": JSON_SCHEMA_VERSION, "plan": { "cloud": seen.plan, "hosts": hosts } })
                .to_string(),
        );
        return;
    }
    context.ui.data(seen.plan.to_string());
    host_lines(seen).for_each(|line| context.ui.data(format!("  ~ {line}")));
}

fn host_lines(seen: &Seen) -> impl Iterator<Item = String> {
    host_steps(seen)
        .into_iter()
        .flat_map(|(host, steps)| steps.into_iter().map(move |step| format!("host {host}  {step}")))
}

/// What will be done on the hosts. Of a host that does not exist yet only that it will be set up can be said before it was looked at.
fn host_steps(seen: &Seen) -> BTreeMap<&'static str, Vec<String>> {
    match &seen.hosts {
        Some(hosts) => hosts
            .iter()
            .map(|(role, looked)| {
                (
                    role.name(),
                    looked.plan.steps.iter().map(|step| step.text.clone()).collect(),
                )
            })
            .collect(),
        None => Role::ALL
            .into_iter()
            .map(|role| {
                (
                    role.name(),
                    vec!["is looked at once it answers, and made what it should be".into()],
                )
            })
            .collect(),
    }
}

/// What `up` would change, for `infra status`.
pub async fn drift(context: &Context, environment: &Environment) -> Result<Vec<String>> {
    let quiet = context.quietly();
    let seen = look(&quiet, environment).await?;
    let mut lines: Vec<String> = seen.plan.changes().iter().map(ToString::to_string).collect();
    lines.extend(seen.plan.drift.iter().map(ToString::to_string));
    match &seen.hosts {
        Some(_) => lines.extend(host_lines(&seen)),
        None => lines.extend(
            seen.unknown_hosts()
                .map(|role| format!("host {role}  is not set up yet")),
        ),
    }
    Ok(lines)
}

fn report(
    context: &Context,
    seen: &Seen,
    reached: &Reached,
    servers: &BTreeMap<&'static str, Info>,
    backup: Option<&BackupSummary>,
    changes: usize,
    warnings: &[String],
) {
    let ui = &context.ui;
    for warning in warnings {
        ui.warn(warning);
    }
    for drift in &seen.plan.drift {
        ui.warn(drift.to_string());
    }
    let endpoint = reached.addresses.get(&Role::Master).cloned().unwrap_or_default();
    if ui.json() {
        let servers: BTreeMap<_, Value> = servers
            .iter()
            .map(|(name, info)| (*name, json!({ "role": info.role, "version": info.own_version(), "keys": info.keys(), "used_memory": info.used_memory })))
            .collect();
        ui.data(
            json!({ "schema_version": JSON_SCHEMA_VERSION, "changes": changes, "endpoint": endpoint, "servers": servers, "backup": backup, "warnings": warnings })
                .to_string(),
        );
        return;
    }
    if changes == 0 && seen.plan.drift.is_empty() {
        ui.data("nothing to change: cloud, hosts, replication and backup are as infra.yml says");
    } else if changes == 0 {
        ui.data("nothing changed: what infra.yml says otherwise of machines that stand, named above, is for new ones");
    } else {
        ui.data(format!("{changes} changes made"));
    }
    for (name, info) in servers {
        ui.data(format!(
            "{name:<8} {:?} {}, {} keys, {}",
            info.role,
            info.own_version(),
            size::count(info.keys()),
            size::bytes(info.used_memory)
        ));
    }
    if let Some(backup) = backup {
        ui.data(format!(
            "backup   {} keys, {}, {}",
            size::count(backup.keys),
            size::bytes(backup.bytes),
            backup.key
        ));
    }
    ui.data(format!("endpoint {endpoint}:6379 (TLS)"));
    ui.note(if seen.phase.is_some_and(|phase| phase >= Phase::Switched) {
        ""
    } else {
        "next: `infra verify`, then `infra switch-app`"
    });
}
