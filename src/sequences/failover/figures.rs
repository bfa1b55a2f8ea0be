//! The figures of a failover, and how each is defined.

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
        let told = [outcome, resumed].map(|outcome| outcome.lines().join("\n"));
        insta::assert_snapshot!("told", told.join("\n\n"));
    }
}
