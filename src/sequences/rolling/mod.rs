//! Work on both hosts while the app goes on: the replica first, then a planned failover, then the
//! other one. `decide::rolling` chooses the next part from what still needs work, so a command that
//! was killed goes on when it is run again.

mod instance;
pub mod replace;
pub mod resize;
pub mod upgrade;

use crate::decide::access::Access;
use crate::decide::resize::{Held as Data, fits};
use crate::decide::rolling::{Needs, Next, ahead, next};
use crate::effects::cloud::{ec2, find};
use crate::effects::host::default_maxmemory;
use crate::effects::remote::Session;
use crate::effects::state::Held;
use crate::model::clock::Instant;
use crate::model::cloud::{Found, MachineType, Wanted};
use crate::model::error::{Error, Result};
use crate::model::role::Role;
use crate::model::state::State;
use crate::sequences::context::{Context, Environment, KnownPair, host_record};
use crate::sequences::cutover::Phase;
use crate::sequences::setup::hosts::BOOT;
use crate::sequences::setup::wanted;
use crate::sequences::{failover, rotation, up};
use jiff::Timestamp;
use serde::Serialize;
use std::time::Duration;

/// Two hosts take three rounds; an earlier failover that is brought to its end takes one more.
const ROUNDS: usize = 6;

/// What is done to one host, and whether it still has to be.
trait Work {
    async fn needs(&mut self) -> Result<Needs>;
    async fn perform(&mut self, role: Role) -> Result<()>;
}

/// The result of the work. Its fields are part of the JSON output and only ever grow.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Outcome {
    pub master: String,
    pub replica: String,
    /// The instances that were worked on, in order.
    pub done: Vec<String>,
    /// Each failover with its figures.
    pub failovers: Vec<failover::Outcome>,
    pub seconds: f64,
}

impl Outcome {
    fn lines(&self) -> Vec<String> {
        let mut lines = vec![
            format!("master            {}", self.master),
            format!("replica           {}", self.replica),
        ];
        for failover in &self.failovers {
            lines.push(match failover.pause_ms {
                Some(pause) => format!(
                    "failover          to {}: {pause} ms in which no write was taken",
                    failover.master
                ),
                None => format!("failover          to {}", failover.master),
            });
        }
        lines
    }
}

/// Returns true if the app uses the pair. Fails while something else is under way.
async fn serves(context: &Context, environment: &Environment, state: &State) -> Result<bool> {
    match &state.failover {
        Some(failover) if failover.forced => state.refuse_failover()?,
        // The work begins with its end.
        Some(_) => {}
        None => rotation::run::refuse_unfinished(state)?,
    }
    let history = context.history(environment).await?;
    if let Some(unfinished) = history.unfinished(Timestamp::now()) {
        return Err(Error::failed(format!("work on the hosts: {unfinished}"))
            .hint("bring the cutover to its end, or back, then run the same command again"));
    }
    Ok(context.config.source.none || history.phase.is_some_and(|phase| phase >= Phase::Promoted))
}

/// Returns what infra.yml wants in the cloud. Rules of the security group stay as they are.
fn wanted_of(context: &Context, environment: &Environment, state: &State) -> Wanted {
    wanted::wanted(
        &context.config,
        &environment.names,
        state.generation,
        environment.cloud.s3_over_tls(),
        &Access::untouched(),
    )
}

/// Finds the hosts by their roles in the state.
async fn look(environment: &Environment, wanted: &Wanted) -> Result<Found> {
    let (state, mut found) = tokio::try_join!(environment.state(), find::find(&environment.cloud, wanted))?;
    for instance in &mut found.instances {
        instance.role = state.role_of(&instance.id, instance.role);
    }
    Ok(found)
}

/// Works on one host after the other until none needs it.
async fn one_after_the_other(
    context: &Context,
    environment: &Environment,
    lock: &Held,
    serves: bool,
    work: &mut impl Work,
) -> Result<Outcome> {
    let begun = Instant::now();
    let mut outcome = Outcome::default();
    let mut whole = false;
    for _ in 0..ROUNDS {
        let state = environment.state().await?;
        let part = match &state.failover {
            Some(_) => Next::Failover,
            None => next(context.interrupt.or(work.needs()).await?, serves),
        };
        match part {
            Next::Work(role) => {
                let id = host_record(&state, role)?.instance_id.clone();
                let working = async {
                    lock.confirm(Duration::ZERO).await?;
                    work.perform(role).await?;
                    up::make_whole(context, environment, lock).await
                };
                context.interrupt.or(working).await?;
                outcome.done.push(id);
                whole = true;
            }
            // An earlier run may have been killed before the replica was whole again.
            Next::Failover | Next::Done if !whole && state.failover.is_none() => {
                context.interrupt.or(up::make_whole(context, environment, lock)).await?;
                whole = true;
            }
            Next::Failover => {
                let moved = failover::run::carry_out(context, environment, lock).await?;
                outcome.failovers.push(moved);
            }
            Next::Done => {
                let id = |role| Ok::<_, Error>(host_record(&state, role)?.instance_id.clone());
                outcome.master = id(Role::Master)?;
                outcome.replica = id(Role::Replica)?;
                outcome.seconds = (begun.elapsed().as_secs_f64() * 1000.0).round() / 1000.0;
                return Ok(outcome);
            }
        }
    }
    Err(
        Error::failed("work on both hosts: one of them needs the same work again and again")
            .hint("see who else changes the hosts, then run the same command again"),
    )
}

/// Returns the step that ends a failover of an earlier run; empty if none is under way.
fn under_way(state: &State) -> Vec<String> {
    let begun = state.failover.as_ref().map(|failover| failover.begun_at);
    let step = |begun| format!("bring the failover to its end that was begun at {begun}");
    begun.map(step).into_iter().collect()
}

/// Returns what is ahead, for a dry run. `doing` says what is done to a host.
fn preview(state: &State, needs: Needs, serves: bool, doing: impl Fn(Role, &str) -> String) -> Result<Vec<String>> {
    let mut state = state.clone();
    let mut lines = Vec::new();
    for part in ahead(needs, serves) {
        match part {
            Next::Work(role) => {
                let id = &host_record(&state, role)?.instance_id;
                lines.push(doing(role, id));
            }
            Next::Failover => {
                let id = &host_record(&state, Role::Replica)?.instance_id;
                lines.push(format!(
                    "move the role of master to {id}: writes pause for less than a second, and the app has to connect again"
                ));
                state.swap_roles();
            }
            Next::Done => {}
        }
    }
    Ok(lines)
}

/// Waits until each running host answers: one that has just been started takes its time.
async fn answer(context: &Context, environment: &Environment) -> Result<()> {
    let (pair, instances) = tokio::try_join!(
        environment.pair(),
        ec2::instances(&environment.cloud, &environment.names)
    )?;
    for role in Role::ALL {
        let id = &host_record(&pair.state, role)?.instance_id;
        // One that an earlier run has asked to stop never answers.
        if instances.iter().any(|one| one.id == *id && one.state == "running") {
            let step = context.ui.step(format!("reach the {role}"));
            Session::connect_watched(&pair.target(role)?, BOOT, &step).await?;
            step.done("it answers");
        }
    }
    Ok(())
}

/// Fails with figures if the master's data would not fit on the wanted type.
async fn data_fits(context: &Context, doing: &str, machine: &MachineType, pair: &KnownPair) -> Result<()> {
    let most = default_maxmemory(machine.memory_bytes);
    let most = context.config.redis.maxmemory.map_or(most, |own| own.0.min(most));
    let info = pair.server(Role::Master)?.connect(0).await?.info().await?;
    let held = Data {
        used: info.used_memory,
        now: info.maxmemory,
        most,
    };
    fits(doing, held)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::state::HostRecord;

    fn state() -> State {
        let mut state = State::begin(Timestamp::UNIX_EPOCH);
        for (role, id) in [(Role::Master, "i-1"), (Role::Replica, "i-2")] {
            let instance_id = id.to_string();
            let record = HostRecord {
                instance_id,
                ..HostRecord::default()
            };
            state.hosts.insert(role, record);
        }
        state
    }

    #[test]
    fn the_steps_name_each_instance_in_the_role_that_it_has_by_then() {
        let both = Needs {
            master: true,
            replica: true,
        };
        let steps = preview(&state(), both, true, |role, id| format!("{role} {id}")).unwrap();
        assert_eq!(steps[0], "replica i-2");
        assert!(steps[1].starts_with("move the role of master to i-2"), "{steps:?}");
        assert_eq!(steps[2], "replica i-1");
        let steps = preview(&state(), both, false, |role, id| format!("{role} {id}")).unwrap();
        assert_eq!(steps, ["replica i-2", "master i-1"]);
    }

    #[test]
    fn the_work_is_reported_with_its_failovers() {
        let outcome = Outcome {
            master: "i-2".into(),
            replica: "i-1".into(),
            done: vec!["i-2".into(), "i-1".into()],
            failovers: vec![failover::Outcome {
                master: "i-2".into(),
                replica: "i-1".into(),
                pause_ms: Some(212),
                yield_ms: Some(47),
                closed: Some(3),
                ..failover::Outcome::default()
            }],
            seconds: 61.5,
        };
        insta::assert_json_snapshot!("a resize", crate::ui::document(serde_json::json!(outcome)));
        insta::assert_snapshot!("told of a resize", outcome.lines().join("\n"));
    }
}
