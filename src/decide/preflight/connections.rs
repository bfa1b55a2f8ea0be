//! Judges whether the source's plan leaves room for the connections of a move.

use super::{Finding, SourceFacts};
use crate::effects::redis::compare::SMALL_PLAN;

/// On a small plan: the link of the master, one for commands, the stream of writes, the comparison.
const FEW: u64 = 4;
/// On others the comparison has a second one, which makes it quicker.
const MORE: u64 = 5;
/// The number of connections that the app may open between this look and the move.
const RESERVE: u64 = 2;

/// Returns how many connections a move opens at most, on a plan that allows `most`.
pub fn needed(most: u64) -> u64 {
    if most <= SMALL_PLAN { FEW } else { MORE }
}

pub(super) fn judge(source: &SourceFacts) -> Option<Finding> {
    let clients = source.survey.clients;
    let most = clients.most?;
    let in_use = clients.connected + clients.replicas;
    let free = most.saturating_sub(in_use);
    // The link of a master that follows already is among those in use.
    let needed = needed(most) - u64::from(source.is_followed);
    let found = format!("the source takes {most} connections and has {in_use}; a move needs {needed} more at most");
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
    use crate::effects::redis::survey::Clients;

    fn with(most: Option<u64>, connected: u64, replicas: u64, is_followed: bool) -> Option<(Severity, String)> {
        let facts = source(|source| {
            source.survey.clients = Clients {
                connected,
                replicas,
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
}
