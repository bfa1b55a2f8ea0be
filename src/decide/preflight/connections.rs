//! Judges whether the source's plan leaves room for the connections of a move.

use super::{Finding, SourceFacts};
use crate::decide::follow;
use crate::effects::redis::compare::SMALL_PLAN;
use crate::model::follow::Follower;

/// On a small plan: the link of the master, one for commands, the stream of writes, the comparison.
const FEW: u64 = 4;
/// On others the comparison has a second one, which makes it quicker.
const MORE: u64 = 5;
/// A copy has no stream of writes. Where it is watched, MONITOR has a connection, and another one asks how far it is read.
const WATCHED: u64 = 2;
const NO_STREAM: u64 = 1;
/// The number of connections that the app may open between this look and the move.
const RESERVE: u64 = 2;

/// Returns how many connections a move opens at most, on a plan that allows `most`.
pub fn needed(most: u64) -> u64 {
    if most <= SMALL_PLAN { FEW } else { MORE }
}

/// The same for a source that is copied.
fn needed_by_a_copy(most: u64, is_watched: bool) -> u64 {
    needed(most) - NO_STREAM + if is_watched { WATCHED } else { 0 }
}

/// Returns how many connections one copy has. Others with its name are of another environment, or about to close.
fn of_one_copy(is_watched: bool) -> u64 {
    1 + if is_watched { WATCHED } else { 0 }
}

pub(super) fn judge(source: &SourceFacts) -> Option<Finding> {
    let clients = source.survey.clients;
    let most = clients.most?;
    let in_use = clients.connected + clients.replicas;
    let free = most.saturating_sub(in_use);
    let is_watched = follow::watch(&source.monitor, &source.survey).is_ok();
    // The link of a master that follows already is among those in use, and so are those of a copy that runs.
    let needed = match source.follower {
        Follower::Replication => needed(most) - u64::from(source.is_followed),
        Follower::Copy => needed_by_a_copy(most, is_watched) - clients.of_copy.min(of_one_copy(is_watched)),
    };
    let of_copy = match (source.follower, clients.of_copy) {
        (Follower::Copy, 0) if is_watched => ", two of them for MONITOR".into(),
        (Follower::Copy, 1..) => format!("; the copy that runs has {} already", clients.of_copy),
        _ => String::new(),
    };
    let found =
        format!("the source takes {most} connections and has {in_use}; a move needs {needed} more at most{of_copy}");
    let remedy = "make the connection pools of the app smaller, stop a process that is not needed, or take a larger plan until the move is done";
    Some(if free < needed {
        Finding::blocker("connections", found, remedy)
    } else if free < needed + RESERVE {
        Finding::warning(
            "connections",
            format!("{found}; the app may open others meanwhile"),
            remedy,
        )
    } else {
        Finding::ok("connections", found)
    })
}

#[cfg(test)]
mod tests {
    use super::super::Severity;
    use super::super::tests::{good, source};
    use super::*;
    use crate::effects::redis::control::Permission;
    use crate::effects::redis::survey::Clients;

    fn with(most: Option<u64>, connected: u64, replicas: u64, is_followed: bool) -> Option<(Severity, String)> {
        let facts = source(|source| {
            source.survey.clients = Clients {
                connected,
                replicas,
                of_copy: 0,
                most,
            };
            source.is_followed = is_followed;
        });
        let finding = judge(facts.source.as_ref().unwrap())?;
        Some((finding.severity, finding.found))
    }

    #[test]
    fn a_plan_without_room_is_a_blocker_and_a_nearly_full_one_a_warning() {
        assert_eq!(with(None, 7, 0, false), None);
        for (connected, replicas, is_followed, severity) in [
            (14, 0, false, Severity::Ok),
            (15, 0, false, Severity::Warning),
            (16, 0, false, Severity::Warning),
            (17, 0, false, Severity::Blocker),
            (15, 2, false, Severity::Blocker),
            (16, 1, true, Severity::Warning),
            (17, 1, true, Severity::Blocker),
            (30, 0, false, Severity::Blocker),
        ] {
            let (found, text) = with(Some(20), connected, replicas, is_followed).unwrap();
            assert_eq!(found, severity, "{connected} {replicas} {is_followed}: {text}");
        }
        let (_, text) = with(Some(20), 15, 0, false).unwrap();
        assert!(
            text.contains("takes 20 connections and has 15; a move needs 4 more"),
            "{text}"
        );
        assert!(good().source.is_ok());
    }

    #[test]
    fn a_copy_has_two_connections_for_monitor_and_no_stream() {
        let judged = |allows: bool| {
            let facts = source(|source| {
                source.follower = Follower::Copy;
                source.survey.clients.most = Some(20);
                if !allows {
                    source.monitor = Permission::Denied("NOPERM".into());
                }
            });
            judge(facts.source.as_ref().unwrap()).unwrap().found
        };
        let watched = judged(true);
        assert!(
            watched.contains("needs 5 more") && watched.contains("two of them for MONITOR"),
            "{watched}"
        );
        assert!(judged(false).contains("needs 3 more"), "{}", judged(false));
    }

    #[test]
    fn the_connections_of_a_copy_that_runs_are_not_needed_twice() {
        for of_copy in [3, 6] {
            let facts = source(|source| {
                source.follower = Follower::Copy;
                source.survey.clients = Clients {
                    connected: 16,
                    replicas: 0,
                    of_copy,
                    most: Some(20),
                };
            });
            let finding = judge(facts.source.as_ref().unwrap()).unwrap();
            assert_eq!(finding.severity, Severity::Ok, "{}", finding.found);
            let wanted = format!("needs 2 more at most; the copy that runs has {of_copy} already");
            assert!(finding.found.contains(&wanted), "{}", finding.found);
        }
    }
}
