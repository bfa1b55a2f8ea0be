//! Compares the servers' answers inside the fence with the state before it. Pure.

use super::keys::too_many_gone;
use std::collections::BTreeMap;
use wire::info::{Info, ServerRole};

/// The state before the fence.
pub(super) struct Ground<'a> {
    pub run_id: &'a str,
    pub replid: &'a str,
    pub keys: &'a BTreeMap<u32, u64>,
    /// Keys that the stream removed since, over all databases: such a key is not lost.
    pub removed: u64,
    pub offset: u64,
}

impl Ground<'_> {
    /// Returns what has changed, in words.
    pub fn objections(&self, source: &Info, master: &Info, replica: &Info) -> Vec<String> {
        let mut wrong = Vec::new();
        if source.run_id != self.run_id {
            wrong.push("the source was restarted since the comparison".to_string());
        }
        // A master that was demoted keeps its ids until it has copied its new master.
        if source.role != ServerRole::Master {
            wrong.push("the source follows another server".into());
        }
        if source.replid != self.replid {
            wrong.push("the source has another replication id than at the comparison".into());
        }
        for (name, info) in [("master", master), ("replica", replica)] {
            if info.role != ServerRole::Replica {
                wrong.push(format!("the {name} follows nobody"));
            }
            if info.replid != self.replid {
                wrong.push(format!("the {name} has another replication id than the source"));
            }
            if !info.link.as_ref().is_some_and(|link| link.up) {
                wrong.push(format!("the link of the {name} is down"));
            }
            if info.applied_offset.unwrap_or(0) < self.offset {
                wrong.push(format!("the {name} has not applied all that the source had"));
            }
        }
        // A source that lost its data empties its followers, and then all three are equal.
        for (database, before) in self.keys {
            let now = source.keyspace.get(database).map_or(0, |keyspace| keyspace.keys);
            if too_many_gone(*before, now.saturating_add(self.removed)) {
                wrong.push(format!(
                    "database {database} of the source has {now} keys, and had {before} at the comparison"
                ));
            }
        }
        wrong
    }
}
