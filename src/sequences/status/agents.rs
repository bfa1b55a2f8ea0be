//! Judges what the agents on the hosts report of themselves. Pure.

use super::{age_text, unseen};
use crate::decide::preflight::Finding;
use crate::decide::room::Use;
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

/// Returns the disks of the hosts whose agents tell of them.
pub(super) fn disks(agents: &[(&'static str, Result<Backups>); 2]) -> BTreeMap<&'static str, Use> {
    let disk = |found: &Result<Backups>| found.as_ref().ok()?.agent.as_ref()?.disk;
    let told = agents.iter().filter_map(|(name, found)| Some((*name, disk(found)?)));
    told.map(|(name, disk)| {
        let used = disk.all.saturating_sub(disk.free);
        (name, Use { used, most: disk.all })
    })
    .collect()
}

pub(super) fn judge(
    agents: [(&'static str, Result<Backups>); 2],
    now: Timestamp,
    findings: &mut Vec<Finding>,
) -> BTreeMap<&'static str, KeptGeneration> {
    let mut kept = BTreeMap::new();
    for (name, found) in agents {
        let found = found.unwrap_or_else(|error| {
            findings.push(unseen("agent-unseen", &format!("the {name}'s agent"), &error));
            Backups::default()
        });
        if let Some(why) = found.refused {
            let found = format!("the {name}'s engine was not started: {why}");
            findings.push(Finding::alarm("engine-refused", found));
        }
        if let Some(failure) = found.failed {
            let found = format!(
                "the newest attempt at a base failed at {}: {}",
                failure.at, failure.error
            );
            findings.push(Finding::warning("base-failed", found, super::BASE_NOW));
        }
        let Some(agent) = found.agent else { continue };
        findings.extend(of_agent(name, &agent, now));
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

fn of_agent(name: &str, agent: &AgentStatus, now: Timestamp) -> Vec<Finding> {
    let trouble = |trouble| Finding::alarm("agent-trouble", format!("the {name}'s agent: {trouble}"));
    let mut findings: Vec<Finding> = agent.troubles.iter().map(trouble).collect();
    let silent = now.as_second() - agent.at;
    if silent > SILENT_S {
        findings.push(Finding::warning(
            "agent-silent",
            format!("the {name}'s agent has been silent for {}", age_text(silent)),
            format!("see `infra ssh {name} -- sudo journalctl -u infra-agent`"),
        ));
    }
    findings
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
        let mut findings = Vec::new();
        let master = Err(Error::failed("log in"));
        let kept = judge([("master", master), ("replica", Ok(replica))], now, &mut findings);
        let line = kept["replica"].line("replica", now);
        assert!(line.contains("replica keeps") && line.contains("/kept/last"), "{line}");
        assert_eq!(kept.len(), 1);
        let alarms: Vec<String> = findings.iter().map(Finding::line).collect();
        assert!(
            alarms[0].contains("the master's agent could not be looked at"),
            "{alarms:?}"
        );
        assert!(alarms[1].contains("the replica's agent: room"), "{alarms:?}");
        assert!(alarms[2].contains("silent"), "{alarms:?}");
        let ids: Vec<&str> = findings.iter().map(|finding| finding.id).collect();
        assert_eq!(ids, ["agent-unseen", "agent-trouble", "agent-silent"]);
    }
}
