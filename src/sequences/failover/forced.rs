//! A failover whose old master is gone or no longer works: it is fenced first, and the fence is proven.
//!
//! [`fencing`](super::fencing) says what proves it.

use super::fencing::{By, Fencing};
use super::figures::Forced;
use crate::decide::failover::loss::{self, Link};
use crate::decide::failover::steps::{FORCED, Step};
use crate::effects::backup;
use crate::effects::cloud::ec2;
use crate::effects::fault;
use crate::effects::host::{AppAccess, role};
use crate::effects::redis::Server;
use crate::effects::remote::Session;
use crate::effects::state::Held;
use crate::model::clock::{Instant, milliseconds};
use crate::model::error::{Error, ExitCode, Result};
use crate::model::failover::{Failover, Stage};
use crate::model::role::Role;
use crate::model::size;
use crate::model::state::State;
use crate::sequences::arguments::Promote;
use crate::sequences::context::{Context, Environment, KnownPair, host_record};
use crate::sequences::setup::state_writer::StateWriter;
use jiff::Timestamp;
use serde_json::json;
use std::time::Duration;
use wire::info::{Fields, Info};

/// The engine's `repl-timeout`, which no setting of ours changes.
const LINK_TIMEOUT_S: u64 = 60;
/// The time that the lock must have left before the replica is promoted.
const LOCK_RESERVE: Duration = Duration::from_secs(20);

pub async fn run(context: &Context, environment: &Environment, arguments: &Promote) -> Result<ExitCode> {
    let pair = environment.pair().await?;
    refuse(&pair.state)?;
    let failover = begun(&pair)?;
    if arguments.confirmed.dry_run {
        let steps: Vec<String> = FORCED.iter().copied().map(Step::describe).collect();
        context.ui.report(json!({ "steps": steps }), &steps);
        return Ok(ExitCode::Done);
    }
    context.confirm(
        arguments.confirmed.confirm.as_deref(),
        &format!(
            "This stops the master {} and promotes the replica {}. Writes that the replica has not got are not on it.",
            failover.from, failover.to
        ),
    )?;
    let work = async |lock: &Held| {
        let mut forcing = Forcing::begin(context, environment, lock, pair, failover, arguments.fence_timeout).await?;
        for step in FORCED {
            let name = step.name();
            let performed = fault::around(&name, forcing.perform(*step));
            // From the proven fence on the app waits, so the way is forward.
            match step {
                Step::Announce(Stage::Preparing) | Step::Fence => context.interrupt.or(performed).await?,
                _ => performed.await?,
            }
        }
        let outcome = forcing.outcome;
        context.ui.report(json!(outcome), outcome.lines());
        context.ui.note("next: `infra up` makes the old master the replica, or makes another one if it is gone, and ships backups from the new master");
        Ok(ExitCode::Done)
    };
    context.locked(environment, "infra promote", work).await
}

fn refuse(state: &State) -> Result<()> {
    if let Some(old) = &state.demoted {
        return Err(Error::failed(format!(
            "force a failover: {old} is still to become the replica after the last one"
        ))
        .hint("run `infra up` first, so that there is a replica to promote"));
    }
    match &state.failover {
        Some(failover) if failover.stage == Stage::Settling => Err(Error::failed(
            "force a failover: the roles have just moved, and that is not finished",
        )
        .hint("run `infra promote`, which finishes it")),
        _ => Ok(()),
    }
}

/// Returns the failover that is under way, also a planned one that cannot go on, or a new one.
fn begun(pair: &KnownPair) -> Result<Failover> {
    let id = |role| Ok::<_, Error>(host_record(&pair.state, role)?.instance_id.clone());
    Ok(match &pair.state.failover {
        Some(failover) => Failover {
            forced: true,
            ..failover.clone()
        },
        None => Failover {
            from: id(Role::Master)?,
            to: id(Role::Replica)?,
            stage: Stage::Preparing,
            begun_at: Timestamp::now(),
            forced: true,
            pause_ms: None,
            closed: None,
            proof: None,
        },
    })
}

struct Forcing<'a> {
    context: &'a Context,
    environment: &'a Environment,
    lock: &'a Held,
    writer: StateWriter,
    failover: Failover,
    /// The session to the replica; it breaks when the address moves.
    session: Session,
    replica: Server,
    master: Server,
    patience: Duration,
    /// The replica's link when the command began, and when that was.
    first: (Instant, Option<Link>),
    /// When the fence was proven.
    fenced: Option<Instant>,
    outcome: Forced,
}

impl<'a> Forcing<'a> {
    /// Looks at the replica before anything is stopped: without it there is nobody to promote.
    async fn begin(
        context: &'a Context,
        environment: &'a Environment,
        lock: &'a Held,
        pair: KnownPair,
        failover: Failover,
        patience: Duration,
    ) -> Result<Self> {
        let step = context.ui.step("look at the replica");
        let replica = pair.server(Role::Replica)?;
        let session = pair.log_in(Role::Replica).await?;
        let first = (Instant::now(), link(&replica).await?);
        let info = replica.connect(0).await?.info().await?;
        has_all_data(&info)?;
        if !role::log_is_in_force(&session).await? {
            return Err(
                Error::failed("force a failover: the replica's append-only log is not in force yet")
                    .hint("it is rewritten after a full copy: wait a moment, then run the same command again"),
            );
        }
        step.done(format!(
            "{} keys, {}",
            size::count(info.keys()),
            size::bytes(info.used_memory)
        ));
        let outcome = Forced {
            master: failover.to.clone(),
            fenced: failover.from.clone(),
            ..Forced::default()
        };
        Ok(Forcing {
            context,
            environment,
            lock,
            writer: StateWriter::open(&environment.store, pair.state.clone()).await?,
            failover,
            session,
            replica,
            master: pair.server(Role::Master)?,
            patience,
            first,
            fenced: None,
            outcome,
        })
    }

    async fn perform(&mut self, step: Step) -> Result<()> {
        let epoch = Some(self.lock.epoch());
        match step {
            Step::Announce(stage) => self.announce(stage).await,
            Step::Fence => self.fence().await,
            Step::TakeOverAlone => self.take_over(epoch).await,
            Step::OpenAccess => role::set_app_access(&self.session, AppAccess::Open, epoch).await,
            Step::MoveAddress => self.move_address().await,
            Step::SwapAlone => self.swap().await,
            Step::Tag => self.tag().await,
            Step::Ready
            | Step::CloseAccess
            | Step::Arm
            | Step::Yield
            | Step::TakeOver
            | Step::Swap
            | Step::Bring
            | Step::AwaitSync
            | Step::Finish
            | Step::Reclaim
            | Step::FollowAgain => Err(Error::failed(format!(
                "force a failover: {} needs both hosts",
                step.name()
            ))),
        }
    }

    async fn announce(&mut self, stage: Stage) -> Result<()> {
        self.lock.check(Duration::ZERO)?;
        self.failover.stage = stage;
        let failover = self.failover.clone();
        self.writer.change(|state| state.failover = Some(failover)).await
    }

    async fn fence(&mut self) -> Result<()> {
        let Environment { cloud, names, .. } = self.environment;
        let step = self.context.ui.step(format!("fence {}", self.failover.from));
        let fencing = Fencing {
            cloud,
            names,
            instance: &self.failover.from,
            master: &self.master,
            patience: self.patience,
        };
        let begun = Instant::now();
        let fenced = fencing.prove(self.failover.proof.as_deref(), &step).await?;
        self.fenced = Some(Instant::now());
        self.outcome.fenced_at = Some(Timestamp::now());
        self.outcome.fence_ms = milliseconds(begun.elapsed());
        step.done(format!("{}, after {} ms", fenced.proof, self.outcome.fence_ms));
        // EC2 says again that an instance is stopped; a broken connection cannot be seen again.
        self.failover.proof = (fenced.by == By::NetworkAcl).then(|| fenced.proof.clone());
        (self.outcome.fenced_by, self.outcome.proof) = (fenced.by, fenced.proof);
        Ok(())
    }

    async fn take_over(&mut self, epoch: Option<u64>) -> Result<()> {
        let step = self.context.ui.step("promote the replica");
        let info = self.replica.connect(0).await?.info().await?;
        has_all_data(&info)?;
        self.outcome.replica_offset = info.applied_offset.unwrap_or(info.master_repl_offset);
        let last = link(&self.replica).await?;
        self.outcome.link_down_s = last.map(|link| match link {
            Link::Up { .. } => 0,
            Link::Down { since_s } => since_s,
        });
        self.outcome.missing_s = last.map(|last| {
            loss::seconds_at_stake(self.first.1, self.first.0.elapsed().as_secs() + 1, last, LINK_TIMEOUT_S)
        });
        self.lock.confirm(LOCK_RESERVE).await?;
        role::prepare_promotion(&self.session, epoch).await?;
        role::take_over(&self.session, epoch).await?;
        step.done(format!("at offset {}", self.outcome.replica_offset));
        Ok(())
    }

    async fn move_address(&mut self) -> Result<()> {
        let Environment { cloud, names, .. } = self.environment;
        let step = self.context.ui.step("move the address");
        let address = ec2::addresses(cloud, names).await?.into_iter().next().ok_or_else(|| {
            Error::failed("find the endpoint's address: this environment has none").hint("run `infra up`")
        })?;
        if address.instance.as_ref() != Some(&self.failover.to) {
            ec2::associate(cloud, &address, &self.failover.to).await?;
        }
        self.outcome.failover_ms = self
            .fenced
            .map(|fenced| milliseconds(fenced.elapsed()))
            .unwrap_or_default();
        step.done(format!("{} leads to {}", address.public_ip, self.failover.to));
        Ok(())
    }

    /// Changes the roles in the state, and notes that the old master has to follow when it is back.
    async fn swap(&mut self) -> Result<()> {
        let (failover, at_stake) = (self.failover.clone(), self.outcome.missing_s);
        self.writer
            .change(|state| {
                state.swap_roles();
                state.failover = None;
                state.demoted = Some(failover.from);
                state.demoted_s = at_stake;
            })
            .await?;
        // The log may reach further than the replica did.
        let log = backup::log(self.environment.store.bucket(), self.context.env()).await;
        self.outcome.log_until = self.context.warn_of(log).flatten().and_then(|log| log.until);
        Ok(())
    }

    /// Gives both instances the tags of their new roles. One that is gone for good has none.
    async fn tag(&self) -> Result<()> {
        let Environment { cloud, names, .. } = self.environment;
        ec2::tag_role(cloud, names, &self.failover.to, Role::Master).await?;
        let state = ec2::state_of(cloud, &self.failover.from).await?;
        if state.is_some_and(|state| !matches!(state.as_str(), "terminated" | "shutting-down")) {
            ec2::tag_role(cloud, names, &self.failover.from, Role::Replica).await?;
        }
        Ok(())
    }
}

/// Returns the replica's link to the old master; `None` if it follows nobody.
async fn link(replica: &Server) -> Result<Option<Link>> {
    let mut connection = replica.connect(0).await?;
    let text: String = connection.query(redis::cmd("INFO").arg("replication")).await?;
    let fields = Fields::read(&text);
    let number = |name| fields.number(name).unwrap_or_default();
    Ok(fields.said("master_link_status").map(|status| match status {
        "up" => Link::Up {
            silent_s: number("master_last_io_seconds_ago"),
        },
        _ => Link::Down {
            since_s: number("master_link_down_since_seconds"),
        },
    }))
}

/// Fails if the replica is in the middle of a copy: what it has then is a part.
fn has_all_data(info: &Info) -> Result<()> {
    let copying = info.loading || info.link.as_ref().is_some_and(|link| link.sync.is_some());
    if !copying {
        return Ok(());
    }
    Err(Error::failed(
        "force a failover: the replica is in the middle of a full copy, so it has only a part of the data",
    )
    .hint("`infra restore --latest --to instance` builds the data of the last second from the bucket"))
}
