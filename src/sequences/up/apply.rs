//! Carries out what was shown: the cloud, both hosts, the data, the backup.

use super::show::{Made, host_lines, report};
use super::{Changes, Reached, Seen, inventory, look, pair};
use crate::effects::backup;
use crate::effects::backup::BackupSummary;
use crate::effects::cloud;
use crate::effects::cloud::apply::Inputs;
use crate::effects::host;
use crate::effects::state::Held;
use crate::model::error::{Error, ExitCode, Result};
use crate::model::follow::Follower;
use crate::model::role::Role;
use crate::model::size;
use crate::sequences::context::{Context, Environment, host_server};
use crate::sequences::cutover::Phase;
use crate::sequences::setup::hosts::{BOOT, Looked, Pair};
use crate::sequences::setup::state_writer::StateWriter;
use crate::sequences::setup::{copied, follow, wanted};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use wire::info::Info;

/// The phase of a pair that will have no cutover.
const WITHOUT_SOURCE: &str = "without a source";
/// Time for a first copy of a small instance's memory over the internet.
const SYNC: Duration = Duration::from_secs(20 * 60);

pub(super) async fn apply(context: &Context, environment: &Environment, seen: Seen) -> Result<ExitCode> {
    cloud::apply::make_bucket(&environment.cloud, &seen.wanted, &seen.plan, &context.ui).await?;
    let before = seen.plan.sections().bucket.len();
    let work = async |lock: &Held| {
        let applying = async {
            let again = look(&context.quietly(), environment).await?;
            refuse_surprises(&seen, &again)?;
            let (again, brought) = apply_locked(context, environment, again, before, lock).await?;
            let Brought {
                reached,
                servers,
                backup,
                made,
                warnings,
            } = &brought;
            report(context, &again, reached, servers, Some(backup), *made, warnings);
            Ok(())
        };
        context.interrupt.or(applying).await
    };
    context.locked(environment, "infra up", work).await?;
    Ok(ExitCode::Done)
}

/// Fails if there is more to do than was shown, because somebody else worked here meanwhile.
fn refuse_surprises(shown: &Seen, now: &Seen) -> Result<()> {
    // Hosts that could not be looked at before were announced as a whole.
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
    // A change may have got less meanwhile: an address no longer has to leave an instance that has ended.
    let was_shown = |line: &String| shown_lines.iter().any(|shown| shown.starts_with(line));
    match now_lines.iter().find(|line| !was_shown(line)) {
        Some(surprise) => Err(Error::failed(format!(
            "apply the plan: there is more to do than was shown: {surprise}"
        ))
        .hint("somebody else changed this environment meanwhile: run `infra up` again to see the new plan")),
        None => Ok(()),
    }
}

/// Makes cloud and hosts what infra.yml says and waits until both are in sync and a base is read
/// back, for a command that works on hosts and holds the lock.
pub async fn make_whole(context: &Context, environment: &Environment, lock: &Held) -> Result<()> {
    let seen = look(&context.quietly(), environment).await?;
    seen.refuse_empty_master(context, environment).await?;
    let (seen, brought) = apply_locked(context, environment, seen, 0, lock).await?;
    for warning in seen.warnings.iter().chain(&brought.warnings) {
        context.ui.warn(warning);
    }
    Ok(())
}

/// A pair that was brought to what infra.yml says.
struct Brought {
    reached: Reached,
    servers: BTreeMap<&'static str, Info>,
    backup: BackupSummary,
    made: Made,
    warnings: Vec<String>,
}

/// `before`: how many changes were made without the lock, which needs the bucket.
async fn apply_locked(
    context: &Context,
    environment: &Environment,
    mut all_seen: Seen,
    before: usize,
    lock: &Held,
) -> Result<(Seen, Brought)> {
    let planned = all_seen.changes();
    // The hosts get what was planned for them, over the sessions that looked.
    let mut looked = all_seen.hosts.take().unwrap_or_default();
    let seen = &all_seen;
    let writer = StateWriter::open(&environment.store, seen.state.clone()).await?;
    // The pair number is stored first: a client token with it makes asking twice safe.
    let source = seen.source.record.clone();
    writer.change(|state| state.source = source).await?;
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
    writer
        .change(|state| {
            state.endpoint = endpoint;
            for (role, id) in ids {
                let record = state.hosts.entry(role).or_default();
                if record.instance_id != id {
                    // This is another machine: what was pinned belongs to the one that is gone.
                    *record = crate::model::state::HostRecord {
                        instance_id: id,
                        ..Default::default()
                    };
                }
            }
        })
        .await?;
    let pair = pair(context, environment, seen, &stood.secrets, &reached, lock.epoch());
    let (master, replica) = tokio::try_join!(
        set_up(
            context,
            &pair,
            Role::Master,
            looked.remove(&Role::Master),
            &writer,
            lock
        ),
        set_up(
            context,
            &pair,
            Role::Replica,
            looked.remove(&Role::Replica),
            &writer,
            lock
        )
    )?;
    let made = made(planned, before + stood.done.len(), [&master, &replica]);
    let mut warnings = master.warnings;
    warnings.extend(replica.warnings);
    let sessions = [&master.session, &replica.session];
    let servers = follow(context, seen, &reached, &stood.secrets, sessions).await?;
    // The replica has a copy now, whichever instance it is.
    writer
        .change(|state| (state.demoted, state.demoted_s) = (None, None))
        .await?;
    let backup = prove_backup(
        context,
        environment,
        &master.session,
        seen.state.generation,
        master.changes > 0,
    )
    .await?;
    if seen.phase.is_none() {
        writer
            .change(|state| {
                state.phase = if context.config.source.none {
                    WITHOUT_SOURCE.into()
                } else {
                    Phase::Following.name().into()
                };
            })
            .await?;
    }
    inventory(&reached, &writer.state().await).save(&context.inventory_path())?;
    let brought = Brought {
        reached,
        servers,
        backup,
        made,
        warnings,
    };
    Ok((all_seen, brought))
}

/// Counts what was done as the plan counted it: a new host is one change, whatever its steps.
fn made(planned: Changes, cloud: usize, hosts: [&SetUp; 2]) -> Made {
    let steps = |new: bool| {
        hosts
            .iter()
            .filter(|host| host.is_new == new)
            .map(|host| host.changes)
            .sum()
    };
    Made {
        changes: Changes {
            cloud,
            host_steps: steps(false),
            ..planned
        },
        set_up_steps: steps(true),
    }
}

struct SetUp {
    session: crate::effects::remote::Session,
    changes: usize,
    /// True if the host was not set up before.
    is_new: bool,
    warnings: Vec<String>,
}

async fn set_up(
    context: &Context,
    pair: &Pair<'_>,
    role: Role,
    looked: Option<Looked>,
    writer: &StateWriter,
    lock: &Held,
) -> Result<SetUp> {
    let step = context.ui.step(format!("host {role}"));
    let record = writer.state().await.hosts.get(&role).cloned().unwrap_or_default();
    let is_new = !record.is_known();
    let work = async {
        let looked = match looked {
            Some(looked) => looked,
            None => {
                let session = pair.log_in(role, &record, BOOT, &step).await?;
                let session = pair.first_contact(role, session, writer, &step).await?;
                pair.look(role, session).await?
            }
        };
        // The lock is confirmed, since a host that is made to follow loses its data.
        lock.confirm(Duration::ZERO).await?;
        let only_here = context.warn_of(pair.only_here(&looked).await).unwrap_or_default();
        lock.confirm(Duration::ZERO).await?;
        let (session, mut outcome) = pair.bring(role, looked, &step).await?;
        outcome.warnings.extend(only_here);
        Ok::<_, Error>((session, outcome))
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
        is_new,
        warnings: outcome.warnings,
    })
}

async fn follow(
    context: &Context,
    seen: &Seen,
    reached: &Reached,
    secrets: &crate::model::secrets::Secrets,
    [on_master, on_replica]: [&crate::effects::remote::Session; 2],
) -> Result<BTreeMap<&'static str, Info>> {
    let server = |role: Role| host_server(role, &reached.addresses[&role], secrets);
    let (master, replica) = (server(Role::Master)?, server(Role::Replica)?);
    let follows_nobody = seen.phase.is_some_and(|phase| phase >= Phase::Promoted) || context.config.source.none;
    let master_seen = if follows_nobody {
        master.connect(0).await?.info().await?
    } else if seen.source.record.follower == Follower::Copy {
        copied::once(&context.ui, on_master, &master, SYNC).await?
    } else {
        follow::in_sync(&context.ui, Some(on_master), &context.source().await?, &master, SYNC).await?
    };
    let replica_seen = follow::in_sync(&context.ui, Some(on_replica), &master, &replica, SYNC).await?;
    Ok(BTreeMap::from([("master", master_seen), ("replica", replica_seen)]))
}

/// Returns a backup that was read back. Makes one if the host has changed or there is none.
pub async fn prove_backup(
    context: &Context,
    environment: &Environment,
    master: &crate::effects::remote::Session,
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
