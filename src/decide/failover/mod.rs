//! Decides what a planned failover does next, from the stored stage and from what was found. Pure.

pub mod health;
pub mod loss;
pub mod steps;

use crate::model::failover::Stage;
use steps::{BACK, FORWARD, SETTLING, Step, WHOLE};

/// The place of a server in the pair, by its settings file or by its engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    Master,
    Replica,
}

/// One host, as it was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The host or its engine does not answer.
    Absent,
    Up {
        /// The position after the next start.
        file: Position,
        runs: Position,
        /// The app may log in.
        access: bool,
    },
}

/// What was found of the instance that the role leaves, and of the one that it goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct World {
    pub old: Side,
    pub new: Side,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Takes these steps and ends the command.
    Do(Vec<Step>),
    /// Takes these steps and decides again.
    Then(Vec<Step>),
    Refuse(Refusal),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    MasterAbsent,
    ReplicaAbsent,
    /// The roles are not those of a pair, and no failover of ours is under way.
    OtherRoles,
    /// Both are masters that let the app in.
    BothTakeWrites,
}

impl Refusal {
    /// Returns what was found, fit to follow a colon, and what to try.
    pub fn explain(self) -> (&'static str, &'static str) {
        match self {
            Refusal::MasterAbsent => (
                "the master does not answer, so nobody can say what only it has",
                "wait until it answers, or start it with `infra up`, then run the same command again",
            ),
            Refusal::ReplicaAbsent => (
                "the replica does not answer, so it cannot take over",
                "bring it back with `infra up`, then run the same command again",
            ),
            Refusal::OtherRoles => (
                "the hosts do not have the roles of a pair",
                "`infra status` shows the roles; `infra up` puts them right, then run the same command again",
            ),
            Refusal::BothTakeWrites => (
                "both hosts are masters that let the app in",
                "somebody else changed roles: keep the app away from one host, compare the data of both with `infra redis-cli master` and `infra redis-cli replica`, and decide by hand which one stays the master",
            ),
        }
    }
}

/// Returns what to do next.
pub fn decide(stage: Option<Stage>, world: &World) -> Next {
    use Position::{Master, Replica};
    if stage == Some(Stage::Settling) {
        return Next::Do(SETTLING.to_vec());
    }
    let (old, new) = match (world.old, world.new) {
        (Side::Absent, _) => return Next::Refuse(Refusal::MasterAbsent),
        (_, Side::Absent) => return Next::Refuse(Refusal::ReplicaAbsent),
        (
            Side::Up { file, runs, .. },
            Side::Up {
                file: to_be,
                runs: is,
                access,
            },
        ) => {
            if runs == Master && is == Master && access {
                return Next::Refuse(Refusal::BothTakeWrites);
            }
            ((file, runs), (to_be, is))
        }
    };
    match (stage, old, new) {
        (_, (Master, Master), (Replica, Replica)) => Next::Do(WHOLE.to_vec()),
        (None | Some(Stage::Settling), ..) => Next::Refuse(Refusal::OtherRoles),
        // Whatever the replica has by now, the master has it too: the app was never let in there.
        (Some(_), (_, Master), _) => Next::Then(BACK.to_vec()),
        // Its file changed after the replica had everything.
        (Some(Stage::Yielding), (Replica, Replica), _) => Next::Do(FORWARD.to_vec()),
        (Some(_), ..) => Next::Refuse(Refusal::OtherRoles),
    }
}

#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod tests;
