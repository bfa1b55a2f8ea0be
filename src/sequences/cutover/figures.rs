//! The figures of a run, and how each is defined.

use super::watch::Seen;
use crate::model::phase::Phase;
use jiff::Timestamp;
use serde::Serialize;
use std::collections::BTreeMap;

/// The result of a command. Its fields are part of the JSON output and only ever grow.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Outcome {
    pub phase: Option<Phase>,
    /// From before the source was paused or the app stopped until the master could take writes:
    /// promoted, and for `switch-app` with app access open. Covers `promote` too if it ran first.
    pub fenced_ms: Option<u64>,
    /// From the last write in the source's stream before the fence to the first in the master's
    /// after the switch, by our clock at arrival. It is mostly the platform's restart.
    pub app_write_gap_ms: Option<u64>,
    /// Keys compared while following and inside the fence, together.
    pub keys_compared: Option<u64>,
    /// The keys among them that were compared again inside the fence.
    pub keys_compared_in_fence: Option<u64>,
    /// Writes that the source took after the fence; `None` if its stream was not watched.
    pub late_writes: Option<u64>,
    /// The watch that told which keys were written while the source was followed; `None` if this run
    /// compared nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub watch: Option<&'static str>,
    /// Late writes were looked for by a second comparison, since no stream of the source was watched.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub late_by_comparison: bool,
    /// Writes that the master took from unknown clients before app access was open.
    pub foreign_writes: u64,
    /// The source's replication offset at the fence, bytes.
    pub source_offset: Option<u64>,
    /// The release that runs the app on the endpoint.
    pub release: Option<u64>,
    /// End of the source's pause for `switch-app`.
    pub held_until: Option<Timestamp>,
    pub seconds: BTreeMap<String, f64>,
    /// Further lines for the operator.
    pub notes: Vec<String>,
}

impl Outcome {
    /// Notes what somebody wrote to our side before app access was open.
    pub(super) fn tell_foreign(&mut self, seen: &Seen) {
        self.foreign_writes = (seen.writes + seen.deletions + seen.field_deletions).max(1);
        for line in seen.lines.iter().take(20) {
            self.notes
                .push(format!("written to the master before app access was open: {line}"));
        }
    }

    /// Returns the lines for a person: each claim with its figures.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let mut line = |label: &str, value: String| lines.push(format!("{label:<18}{value}"));
        if let Some(phase) = self.phase {
            line("phase", phase.to_string());
        }
        if let Some(ms) = self.fenced_ms {
            line(
                "fenced",
                format!("{ms} ms from the source's fence to the master ready for writes"),
            );
        }
        if let Some(ms) = self.app_write_gap_ms {
            line(
                "app write gap",
                format!("{ms} ms from the last write on the source to the first on the master"),
            );
        }
        match (self.keys_compared, self.keys_compared_in_fence) {
            (Some(keys), Some(inside)) => line(
                "keys compared",
                format!("{keys}, {inside} of them inside the fence, all identical"),
            ),
            (Some(keys), None) => line("keys compared", format!("{keys} before the promotion, all identical")),
            (None, _) => {}
        }
        match (self.phase, self.late_writes) {
            (_, Some(0)) if self.late_by_comparison => line(
                "late writes",
                "0: a second comparison shows no key that only the source can have changed".into(),
            ),
            (_, Some(0)) => line(
                "late writes",
                format!(
                    "0: {} shows none since the fence",
                    match self.watch {
                        Some("MONITOR") => "MONITOR",
                        _ => "the source's stream",
                    }
                ),
            ),
            (_, Some(count)) => line("late writes", format!("{count} on the source after the fence")),
            (Some(Phase::Settled), None) => line(
                "late writes",
                "unknown: the source's stream could not be watched".into(),
            ),
            _ => {}
        }
        if let Some(release) = self.release {
            line("release", format!("v{release}"));
        }
        if let Some(until) = self.held_until {
            line(
                "held until",
                format!("{} for `infra switch-app`", until.strftime("%H:%M:%S UTC")),
            );
        }
        lines.extend(self.notes.iter().cloned());
        lines
    }
}
