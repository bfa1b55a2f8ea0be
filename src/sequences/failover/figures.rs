//! The figures of a failover, and how each is defined.

use super::fencing::By;
use jiff::Timestamp;
use serde::Serialize;
use std::collections::BTreeMap;

/// The result of a failover. Its fields are part of the JSON output and only ever grow.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Outcome {
    /// The instance that is the master now.
    pub master: String,
    /// The instance that is the replica now.
    pub replica: String,
    /// From before the pause of writes until the endpoint's address was at the new master, which
    /// lets the app in. A client that asks for a connection meanwhile asks again after a second.
    /// `None` if an earlier run that was killed did that part.
    pub pause_ms: Option<u64>,
    /// The part of it in which the role moved, by the clock of the old master.
    pub yield_ms: Option<u64>,
    /// How many connections of the app were closed; none of them was owed an answer.
    pub closed: Option<u64>,
    pub seconds: BTreeMap<String, f64>,
}

impl Outcome {
    /// Returns the lines for a person.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = vec![
            format!("master            {}", self.master),
            format!("replica           {}", self.replica),
        ];
        match (self.pause_ms, self.yield_ms) {
            (Some(pause), Some(moved)) => lines.push(format!(
                "pause             {pause} ms in which no write was taken, {moved} of them to move the role"
            )),
            _ => lines.push("pause             not known: an earlier run moved the role".into()),
        }
        if let Some(closed) = self.closed {
            lines.push(format!(
                "connections       {closed} of the app closed, none of which was owed an answer"
            ));
        }
        lines
    }
}

/// The result of a forced failover. Its fields are part of the JSON output and only ever grow.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Forced {
    /// The instance that is the master now.
    pub master: String,
    /// The instance that was fenced.
    pub fenced: String,
    /// What keeps it from taking writes.
    pub fenced_by: By,
    /// Why it takes no more writes.
    pub proof: String,
    /// When the fence was proven.
    pub fenced_at: Option<Timestamp>,
    /// From the first look at the old master until the fence was proven.
    pub fence_ms: u64,
    /// From the proven fence until the endpoint's address was at the new master, which lets the app in.
    pub failover_ms: u64,
    /// How much of the old master's stream the new one has, bytes.
    pub replica_offset: u64,
    /// How long the replica had known that it was without the old master when it was promoted.
    /// `None` if an earlier run promoted it.
    pub link_down_s: Option<u64>,
    /// Writes of so many seconds before the promotion may be missing. `None` as above.
    pub missing_s: Option<u64>,
    /// The shipped log reaches up to here.
    pub log_until: Option<Timestamp>,
}

impl Forced {
    /// Returns the lines for a person.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = vec![
            format!("master            {}", self.master),
            format!(
                "fenced            {}: {}, after {} ms",
                self.fenced, self.proof, self.fence_ms
            ),
            format!(
                "failover          {} ms from the fence to the address at the new master",
                self.failover_ms
            ),
        ];
        lines.push(match self.missing_s {
            Some(seconds) => format!(
                "may be missing    writes of the {seconds} s before the promotion; the new master has the stream up to offset {}",
                self.replica_offset
            ),
            None => "may be missing    not known: an earlier run promoted the replica".into(),
        });
        if let Some(until) = self.log_until {
            lines.push(format!(
                "shipped log       reaches up to {until}: `infra restore --keys PATTERN --latest` can bring back what only it has"
            ));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failover_is_reported_with_its_figures() {
        let outcome = Outcome {
            master: "i-2".into(),
            replica: "i-1".into(),
            pause_ms: Some(212),
            yield_ms: Some(47),
            closed: Some(3),
            seconds: BTreeMap::new(),
        };
        insta::assert_json_snapshot!("a failover", crate::ui::document(serde_json::json!(outcome)));
        let resumed = Outcome {
            pause_ms: None,
            yield_ms: None,
            closed: None,
            ..outcome.clone()
        };
        let forced = Forced {
            master: "i-2".into(),
            fenced: "i-1".into(),
            fenced_by: By::Stop,
            proof: "EC2 says that it is stopped".into(),
            fenced_at: Some(Timestamp::UNIX_EPOCH),
            fence_ms: 31_000,
            failover_ms: 900,
            replica_offset: 4711,
            link_down_s: Some(33),
            missing_s: Some(36),
            log_until: Some(Timestamp::UNIX_EPOCH),
        };
        insta::assert_json_snapshot!("a forced failover", crate::ui::document(serde_json::json!(forced)));
        insta::assert_snapshot!("told of a forced one", forced.lines().join("\n"));
        let told = [outcome, resumed].map(|outcome| outcome.lines().join("\n"));
        insta::assert_snapshot!("told", told.join("\n\n"));
    }
}
