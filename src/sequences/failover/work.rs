//! Performs the steps of a failover on both hosts, the endpoint's address and the state.

use super::figures::Outcome;
use crate::decide::failover::steps::Step;
use crate::decide::failover::{Next, Position, Side, World, decide, health};
use crate::effects::cloud::ec2;
use crate::effects::host::engine::Layout;
use crate::effects::host::{AppAccess, redis_conf, role};
use crate::effects::redis::Server;
use crate::effects::remote::Session;
use crate::effects::state::Held;
use crate::effects::wait::{Look, Wait};
use crate::model::clock::{Instant, milliseconds};
use crate::model::cloud::Address;
use crate::model::error::{Error, Result};
use crate::model::failover::{Failover, Stage};
use crate::model::role::Role;
use crate::model::secrets::RedisUser;
use crate::model::size;
use crate::sequences::context::{Context, Environment, KnownPair, host_record};
use crate::sequences::setup::follow;
use crate::sequences::setup::state_writer::StateWriter;
use crate::sequences::up;
use crate::ui;
use jiff::Timestamp;
use std::time::Duration;

/// The time that the lock must have left before the role moves.
const LOCK_RESERVE: Duration = Duration::from_secs(20);
/// How long EC2 may take to give the old master another address, and to lead the endpoint's.
const ADDRESSES: Duration = Duration::from_secs(300);
/// Time for a full copy, if the old master needs one after all.
const SYNC: Duration = Duration::from_secs(20 * 60);

/// A failover in progress. The old master is the one that the role leaves.
pub struct Work<'a> {
    context: &'a Context,
    environment: &'a Environment,
    /// `None` for a look without changes.
    lock: Option<&'a Held>,
    writer: StateWriter,
    pair: KnownPair,
    failover: Failover,
    /// Sessions to the old and the new master. They break when the address moves.
    old: Option<Session>,
    new: Option<Session>,
    /// The endpoint's address, looked up before the pause.
    address: Option<Address>,
    /// When the pause began.
    paused: Option<Instant>,
    outcome: Outcome,
}

impl<'a> Work<'a> {
    /// Gathers what a look needs.
    pub async fn looking(context: &'a Context, environment: &'a Environment) -> Result<Self> {
        Self::new(context, environment, None).await
    }

    pub async fn begin(context: &'a Context, environment: &'a Environment, lock: &'a Held) -> Result<Self> {
        Self::new(context, environment, Some(lock)).await
    }

    async fn new(context: &'a Context, environment: &'a Environment, lock: Option<&'a Held>) -> Result<Self> {
        let pair = environment.pair().await?;
        let writer = StateWriter::open(&environment.store, pair.state.clone()).await?;
        let failover = match &pair.state.failover {
            Some(failover) => failover.clone(),
            None => Failover {
                from: instance(&pair, Role::Master)?,
                to: instance(&pair, Role::Replica)?,
                stage: Stage::Preparing,
                begun_at: Timestamp::now(),
                forced: false,
                pause_ms: None,
                closed: None,
                proof: None,
            },
        };
        Ok(Work {
            context,
            environment,
            lock,
            writer,
            pair,
            failover,
            old: None,
            new: None,
            address: None,
            paused: None,
            outcome: Outcome::default(),
        })
    }

    /// Returns the stored stage; `None` if nothing is under way.
    pub async fn stage(&self) -> Option<Stage> {
        let state = self.writer.state().await;
        state.failover.map(|failover| failover.stage)
    }

    /// Looks at both hosts and decides.
    pub async fn decide(&mut self, stage: Option<Stage>) -> Result<Next> {
        let (old, new) = if stage == Some(Stage::Settling) {
            // The roles have moved, so how the hosts stand decides nothing.
            (Side::Absent, Side::Absent)
        } else {
            (self.side(Role::Master).await?, self.side(Role::Replica).await?)
        };
        Ok(decide(stage, &World { old, new }))
    }

    /// Returns how a host stands before the roles in the state change.
    async fn side(&mut self, role: Role) -> Result<Side> {
        let kept = match role {
            Role::Master => self.old.take(),
            Role::Replica => self.new.take(),
        };
        let looking = async {
            let session = match kept {
                Some(session) if role::observe(&session).await.is_ok() => session,
                _ => self.pair.log_in(role).await?,
            };
            let (observed, access) = tokio::try_join!(role::observe(&session), role::access_is_open(&session))?;
            Ok::<_, Error>((session, observed, access))
        };
        let (session, observed, access) = match looking.await {
            Ok(seen) => seen,
            Err(error) if error.is_by_an_impostor() => return Err(error),
            Err(error) => {
                self.context.ui.warn(format!("the {role} does not answer: {error:#}"));
                return Ok(Side::Absent);
            }
        };
        let position = |word: &str| match word {
            "master" => Position::Master,
            _ => Position::Replica,
        };
        let side = Side::Up {
            file: position(&observed.file),
            runs: position(&observed.running),
            access,
        };
        match role {
            Role::Master => self.old = Some(session),
            Role::Replica => self.new = Some(session),
        }
        Ok(side)
    }

    pub async fn perform(&mut self, step: Step) -> Result<()> {
        match step {
            Step::Announce(stage) => self.announce(stage).await,
            Step::Ready => self.ready().await,
            Step::CloseAccess => role::set_app_access(self.at_new()?, AppAccess::Closed, self.epoch()).await,
            Step::Arm => role::arm(self.at_new()?, self.epoch()).await.map(drop),
            Step::Yield => self.give_role_away().await,
            Step::TakeOver => self.take_over().await,
            Step::OpenAccess => role::set_app_access(self.at_new()?, AppAccess::Open, self.epoch()).await,
            Step::MoveAddress => self.move_address().await,
            Step::Swap => self.swap().await,
            Step::Tag => self.tag().await,
            Step::Bring => self.bring().await,
            Step::AwaitSync => self.await_sync().await,
            Step::Finish => self.writer.change(|state| state.failover = None).await,
            Step::Reclaim => self.reclaim().await,
            Step::FollowAgain => role::follow_source(self.at_new()?, self.epoch()).await.map(drop),
            Step::Fence | Step::TakeOverAlone | Step::SwapAlone => Err(Error::failed(format!(
                "fail over as planned: {} is for a fenced master",
                step.name()
            ))),
        }
    }

    pub fn took(&mut self, step: Step, time: Duration) {
        let seconds = (time.as_secs_f64() * 1000.0).round() / 1000.0;
        *self.outcome.seconds.entry(step.name()).or_default() += seconds;
    }

    pub fn outcome(&self) -> Outcome {
        Outcome {
            master: self.failover.to.clone(),
            replica: self.failover.from.clone(),
            pause_ms: self.failover.pause_ms,
            closed: self.failover.closed,
            ..self.outcome.clone()
        }
    }

    fn epoch(&self) -> Option<u64> {
        self.lock.map(Held::epoch)
    }

    fn at_old(&self) -> Result<&Session> {
        self.old.as_ref().ok_or_else(|| no_session("old master"))
    }

    fn at_new(&self) -> Result<&Session> {
        self.new.as_ref().ok_or_else(|| no_session("new master"))
    }

    fn lock(&self) -> Result<&'a Held> {
        self.lock.ok_or_else(|| Error::failed("fail over without the lock"))
    }

    async fn announce(&mut self, stage: Stage) -> Result<()> {
        self.lock()?.check(Duration::ZERO)?;
        self.failover.stage = stage;
        let failover = self.failover.clone();
        self.writer.change(|state| state.failover = Some(failover)).await
    }

    /// Sees that the replica is fit to take over, and prepares both hosts' settings.
    async fn ready(&mut self) -> Result<()> {
        let step = self.context.ui.step("both hosts are ready");
        // An earlier run that was killed may have kept new connections out.
        role::open_gate(self.at_old()?, self.epoch()).await?;
        let (master, replica) = (self.pair.server(Role::Master)?, self.pair.server(Role::Replica)?);
        let info = async |server: &Server| server.connect(0).await?.info().await;
        let (master, replica) = tokio::try_join!(info(&master), info(&replica))?;
        health::fit(&master, &replica)?;
        if !role::log_is_in_force(self.at_new()?).await? {
            return Err(
                Error::failed("fail over: the replica's append-only log is not in force yet")
                    .hint("it is rewritten after a full copy: wait a moment, then run the same command again"),
            );
        }
        let epoch = self.epoch();
        let password = self.pair.secrets.password(RedisUser::Replication)?;
        let section = redis_conf::follower_section(&self.private_address().await?, password)?;
        let place = role::section_file(Layout::of(self.context.config.redis.engine).config_file);
        self.at_old()?
            .upload(&place, 0o600, "root:root", section.expose().as_bytes())
            .await?;
        tokio::try_join!(
            role::prepare_demotion(self.at_old()?, epoch),
            role::prepare_promotion(self.at_new()?, epoch)
        )?;
        self.address = self.endpoint_address().await?.into();
        let behind = master
            .master_repl_offset
            .saturating_sub(replica.applied_offset.unwrap_or(0));
        step.done(format!("the replica is {} behind", size::bytes(behind)));
        Ok(())
    }

    /// Returns the new master's address within the network of the pair.
    async fn private_address(&self) -> Result<String> {
        let found = ec2::instance(&self.environment.cloud, &self.failover.to).await?;
        found.and_then(|instance| instance.private_ip).ok_or_else(|| {
            Error::failed(format!("find the private address of {}", self.failover.to)).hint("run `infra up` again")
        })
    }

    async fn endpoint_address(&self) -> Result<Address> {
        let found = ec2::addresses(&self.environment.cloud, &self.environment.names).await?;
        found.into_iter().next().ok_or_else(|| {
            Error::failed("find the endpoint's address: this environment has none").hint("run `infra up` first")
        })
    }

    async fn give_role_away(&mut self) -> Result<()> {
        let step = self.context.ui.step("move the role");
        let replica = self.private_address().await?;
        // Another command may have taken the lock over while this one slept.
        self.lock()?.confirm(LOCK_RESERVE).await?;
        self.paused = Some(Instant::now());
        let yielded = role::yield_role(self.at_old()?, &replica, self.epoch()).await?;
        self.outcome.yield_ms = yielded.paused_ms;
        self.failover.closed = yielded.closed;
        step.done(match (yielded.paused_ms, yielded.closed) {
            (Some(pause), Some(closed)) => format!("in {pause} ms; {closed} connections of the app closed"),
            _ => "an earlier run had moved it".into(),
        });
        Ok(())
    }

    async fn take_over(&mut self) -> Result<()> {
        let observed = role::observe(self.at_old()?).await?;
        if observed.file == "master" || observed.running != "slave" {
            return Err(Error::unproven(format!(
                "let the new master take over: the old one's file says {} and it runs as {}",
                observed.file, observed.running
            )));
        }
        role::take_over(self.at_new()?, self.epoch()).await?;
        Ok(())
    }

    async fn move_address(&mut self) -> Result<()> {
        let step = self.context.ui.step("move the address");
        let address = match self.address.take() {
            Some(address) => address,
            None => self.endpoint_address().await?,
        };
        if address.instance.as_ref() != Some(&self.failover.to) {
            ec2::associate(&self.environment.cloud, &address, &self.failover.to).await?;
        }
        if let Some(paused) = self.paused.take() {
            self.failover.pause_ms = Some(milliseconds(paused.elapsed()));
        }
        step.done(format!("{} leads to {}", address.public_ip, self.failover.to));
        Ok(())
    }

    /// Changes the roles in the state. From here on all else is what `up` does too.
    async fn swap(&mut self) -> Result<()> {
        self.failover.stage = Stage::Settling;
        let failover = self.failover.clone();
        self.writer
            .change(|state| {
                let master = state.hosts.get(&Role::Master);
                if master.is_some_and(|host| host.instance_id == failover.from) {
                    state.swap_roles();
                }
                state.failover = Some(failover);
            })
            .await
    }

    async fn tag(&self) -> Result<()> {
        let Environment { cloud, names, .. } = self.environment;
        ec2::tag_role(cloud, names, &self.failover.to, Role::Master).await?;
        ec2::tag_role(cloud, names, &self.failover.from, Role::Replica).await
    }

    async fn bring(&mut self) -> Result<()> {
        let lock = self.lock()?;
        let step = self.context.ui.step("bring both hosts to their new roles");
        (self.old, self.new) = (None, None);
        self.reach_again(&step).await?;
        role::open_gate(self.at_old()?, self.epoch()).await?;
        up::bring_hosts(self.context, self.environment, lock, &step).await?;
        step.done("as their roles ask for");
        Ok(())
    }

    /// Logs in to both hosts where they are now. It takes EC2 a moment to lead the endpoint's address
    /// to the new master and to give the old one another.
    async fn reach_again(&mut self, step: &ui::Step) -> Result<()> {
        let wait = Wait::new(
            "both hosts to answer at their new addresses",
            ADDRESSES,
            "see with `aws ec2 describe-instances` which addresses they have, then run the same command again",
        );
        let environment = self.environment;
        let (pair, old, new) = wait
            .until(step, || async {
                let pair = environment.pair().await?;
                let endpoint = pair.state.endpoint.as_deref();
                if pair.addresses.of(Role::Replica).ok() == endpoint {
                    return Ok(Look::NotYet("the old master has no other address yet".into()));
                }
                // Until the address has moved for everybody, it may lead to the old master.
                match tokio::try_join!(pair.log_in(Role::Replica), pair.log_in(Role::Master)) {
                    Ok((old, new)) => Ok(Look::Ready((pair, old, new))),
                    Err(error) => Ok(Look::NotYet(format!("{error:#}"))),
                }
            })
            .await?;
        (self.pair, self.old, self.new) = (pair, Some(old), Some(new));
        Ok(())
    }

    async fn await_sync(&mut self) -> Result<()> {
        let (master, replica) = (self.pair.server(Role::Master)?, self.pair.server(Role::Replica)?);
        follow::in_sync(&self.context.ui, Some(self.at_old()?), &master, &replica, SYNC).await?;
        let generation = self.pair.state.generation;
        up::prove_backup(self.context, self.environment, self.at_new()?, generation, true).await?;
        Ok(())
    }

    async fn reclaim(&self) -> Result<()> {
        let (old, epoch) = (self.at_old()?, self.epoch());
        role::open_gate(old, epoch).await?;
        role::prepare_promotion(old, epoch).await?;
        role::take_over(old, epoch).await.map(drop)
    }
}

fn instance(pair: &KnownPair, role: Role) -> Result<String> {
    let record = host_record(&pair.state, role)?;
    Ok(record.instance_id.clone())
}

fn no_session(host: &str) -> Error {
    Error::failed(format!("reach the {host}: there is no session to it")).hint("run the same command again")
}
