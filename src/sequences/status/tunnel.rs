//! Judges what the tunnel on the master reports of itself. Pure.

use super::{age_text, unseen};
use crate::decide::preflight::Finding;
use crate::effects::host::tunnel::remedy;
use crate::model::error::Result;
use infra_agent::record::{Obstacle, Trouble, TunnelStatus};
use jiff::Timestamp;
use serde::Serialize;

/// Silence that is an alarm. A tunnel reports every few seconds; clocks may differ by less.
const SILENT_S: i64 = 300;

#[derive(Serialize)]
pub(super) struct TunnelView {
    /// Host and port that it leads to.
    pub(super) source: String,
    /// The address that it is connected to; `None` if it is not.
    pub(super) address: Option<String>,
    pub(super) connected_since: Option<Timestamp>,
    /// Connections that it has opened since it was started.
    pub(super) connections: u64,
    /// A word for programs, such as `certificate-changed`.
    pub(super) obstacle: Option<Obstacle>,
    /// The reason why the tunnel is not connected, or why its last connection ended.
    pub(super) why: Option<String>,
}

impl TunnelView {
    pub(super) fn line(&self, now: Timestamp) -> String {
        match (&self.address, self.connected_since, &self.why) {
            (Some(address), Some(since), _) => format!(
                "tunnel: connected to {} ({address}) for {}",
                self.source,
                age_text(now.duration_since(since).as_secs())
            ),
            (_, _, Some(why)) => format!("tunnel: not connected to {}: {why}", self.source),
            _ => format!("tunnel: ready, and nobody asks for {}", self.source),
        }
    }
}

/// Returns the view. `follows`: the master has to follow, so that an obstacle is an alarm.
pub(super) fn judge(
    found: Result<Option<TunnelStatus>>,
    follows: bool,
    now: Timestamp,
    findings: &mut Vec<Finding>,
) -> Option<TunnelView> {
    let status = found.unwrap_or_else(|error| {
        findings.push(unseen("tunnel-unseen", "the master's tunnel", &error));
        None
    })?;
    let silent = now.as_second() - status.at;
    if follows && silent > SILENT_S {
        findings.push(Finding::warning(
            "tunnel-silent",
            format!("the master's tunnel has been silent for {}", age_text(silent)),
            "see `infra ssh master -- sudo journalctl -u infra-tunnel`",
        ));
    }
    if follows
        && status.connected_since.is_none()
        && let Some(trouble) = &status.trouble
    {
        findings.push(alarm(&status.source, trouble, now));
    }
    let (obstacle, why) = status.trouble.map(|trouble| (trouble.obstacle, trouble.why)).unzip();
    Some(TunnelView {
        source: status.source,
        address: status.address,
        connected_since: status
            .connected_since
            .and_then(|since| Timestamp::from_second(since).ok()),
        connections: status.opened,
        obstacle,
        why,
    })
}

fn alarm(source: &str, trouble: &Trouble, now: Timestamp) -> Finding {
    let age = age_text(now.as_second() - trouble.since);
    let why = &trouble.why;
    Finding::warning(
        "tunnel",
        format!("the tunnel has not been connected to {source} for {age}: {why}"),
        remedy(trouble.obstacle),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::error::Error;

    fn status(connected_since: Option<i64>, obstacle: Option<Obstacle>) -> TunnelStatus {
        TunnelStatus {
            schema_version: 2,
            version: "1".into(),
            at: 1_764_000_000,
            source: "redis.test:6380".into(),
            connected_since,
            address: connected_since.map(|_| "192.0.2.7:6380".into()),
            opened: 3,
            trouble: obstacle.map(|obstacle| Trouble {
                since: 1_763_999_940,
                obstacle,
                why: "it is so".into(),
            }),
        }
    }

    fn judged(status: TunnelStatus, follows: bool, later: i64) -> (String, Vec<String>) {
        let now = Timestamp::from_second(1_764_000_000 + later).unwrap();
        let mut findings = Vec::new();
        let view = judge(Ok(Some(status)), follows, now, &mut findings).unwrap();
        (view.line(now), findings.iter().map(Finding::line).collect())
    }

    #[test]
    fn an_obstacle_is_an_alarm_with_its_reason_and_a_remedy() {
        let (line, alarms) = judged(status(None, Some(Obstacle::CertificateChanged)), true, 0);
        assert_eq!(line, "tunnel: not connected to redis.test:6380: it is so");
        assert_eq!(alarms.len(), 1);
        let alarm = &alarms[0];
        assert!(alarm.contains("redis.test:6380 for 1 min"), "{alarm}");
        assert!(
            alarm.contains("it is so") && alarm.contains("infra check --pin"),
            "{alarm}"
        );
    }

    #[test]
    fn a_tunnel_that_is_connected_or_not_needed_is_no_alarm() {
        let connected = status(Some(1_763_999_000), Some(Obstacle::Ended));
        let (line, alarms) = judged(connected, true, 0);
        assert!(
            line.starts_with("tunnel: connected to redis.test:6380 (192.0.2.7:6380)"),
            "{line}"
        );
        assert_eq!(alarms, [] as [&str; 0]);
        let (_, alarms) = judged(status(None, Some(Obstacle::Name)), false, 10_000);
        assert_eq!(alarms, [] as [&str; 0]);
    }

    #[test]
    fn silence_and_a_host_that_does_not_answer_are_alarms() {
        let (_, alarms) = judged(status(Some(1), None), true, 301);
        assert!(alarms[0].contains("silent"), "{alarms:?}");
        let mut alarms = Vec::new();
        let found = judge(Err(Error::failed("log in")), true, Timestamp::now(), &mut alarms);
        assert!(
            found.is_none() && alarms[0].found.contains("could not be looked at"),
            "{alarms:?}"
        );
    }
}
