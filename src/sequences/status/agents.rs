//! Judges what the agents on the hosts report of themselves. Pure.

use super::age_text;
use crate::effects::host::backup::Backups;
use crate::model::error::Result;
use crate::model::size;
use infra_agent::record::AgentStatus;
use jiff::Timestamp;
use serde::Serialize;
use std::collections::BTreeMap;

/// Silence that is an alarm. An agent reports every second; clocks may differ by less than this.
const SILENT_S: i64 = 300;

/// Data that a full copy replaced on a host, and that the agent keeps.
#[derive(Serialize)]
pub(super) struct KeptGeneration {
    pub(super) replaced_at: Timestamp,
    pub(super) bytes: u64,
    /// On the host.
    pub(super) folder: String,
}

impl KeptGeneration {
    pub(super) fn line(&self, host: &str, now: Timestamp) -> String {
        format!(
            "{host} keeps what a full copy replaced {} ago ({}): {} in {}",
            age_text(now.duration_since(self.replaced_at).as_secs()),
            self.replaced_at,
            size::bytes(self.bytes),
            self.folder
        )
    }
}

pub(super) fn judge(
    agents: [(&'static str, Result<Backups>); 2],
    now: Timestamp,
    alarms: &mut Vec<String>,
) -> BTreeMap<&'static str, KeptGeneration> {
    let mut kept = BTreeMap::new();
    for (name, found) in agents {
        let found = found.unwrap_or_else(|error| {
            alarms.push(format!(
                "the {name}'s agent could not be looked at: {}",
                error.chain().join(": ")
            ));
            Backups::default()
        });
        if let Some(why) = found.refused {
            alarms.push(format!("the {name}'s engine was not started: {why}"));
        }
        if let Some(failure) = found.failed {
            alarms.push(format!(
                "the newest attempt at a base failed at {}: {}",
                failure.at, failure.error
            ));
        }
        let Some(agent) = found.agent else { continue };
        alarms.extend(of_agent(name, &agent, now));
        if let Some(one) = agent.kept
            && let Ok(replaced_at) = Timestamp::from_second(one.at)
        {
            let (bytes, folder) = (one.bytes, one.folder);
            kept.insert(
                name,
                KeptGeneration {
                    replaced_at,
                    bytes,
                    folder,
                },
            );
        }
    }
    kept
}

fn of_agent(name: &str, agent: &AgentStatus, now: Timestamp) -> Vec<String> {
    let mut alarms: Vec<String> = agent
        .troubles
        .iter()
        .map(|trouble| format!("the {name}'s agent: {trouble}"))
        .collect();
    let silent = now.as_second() - agent.at;
    if silent > SILENT_S {
        alarms.push(format!(
            "the {name}'s agent has been silent for {}: see `journalctl -u infra-agent` there",
            age_text(silent)
        ));
    }
    alarms
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::error::Error;
    use infra_agent::record::Kept;

    #[test]
    fn each_host_is_reported_by_itself_and_a_silent_agent_is_an_alarm() {
        let now = Timestamp::from_second(1_764_000_000).unwrap();
        let replica = Backups {
            agent: Some(AgentStatus {
                at: now.as_second() - 301,
                troubles: vec!["room: it was removed early".into()],
                kept: Some(Kept {
                    at: now.as_second() - 7200,
                    bytes: 5 << 20,
                    folder: "/kept/last".into(),
                }),
                ..AgentStatus::default()
            }),
            ..Backups::default()
        };
        let mut alarms = Vec::new();
        let master = Err(Error::failed("log in"));
        let kept = judge([("master", master), ("replica", Ok(replica))], now, &mut alarms);
        let line = kept["replica"].line("replica", now);
        assert!(line.contains("replica keeps") && line.contains("/kept/last"), "{line}");
        assert_eq!(kept.len(), 1);
        assert_eq!(alarms.len(), 3, "{alarms:?}");
        assert!(
            alarms[0].contains("the master's agent could not be looked at"),
            "{alarms:?}"
        );
        assert!(alarms[1].contains("the replica's agent: room"), "{alarms:?}");
        assert!(alarms[2].contains("silent"), "{alarms:?}");
    }
}
