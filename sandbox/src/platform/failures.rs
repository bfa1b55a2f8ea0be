//! Failures of the whole platform that a test plans in order, and a log of every change.
//! A test first runs without failures and reads the log. Then it runs once for each logged change,
//! with a plan that lets earlier changes pass. So no test needs a list of its program's calls.

use serde::{Deserialize, Serialize, Serializer};
use std::time::Instant;

/// One kind of failure, for a number of requests in a row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Planned {
    pub status: u16,
    /// How many changes pass before the first one fails.
    #[serde(default)]
    pub skip: u32,
    /// How many requests fail.
    pub count: u32,
    /// True if reads fail too, from the first failed change on.
    #[serde(default)]
    pub reads: bool,
    /// True if the change is made and only its answer fails.
    #[serde(default)]
    pub after_commit: bool,
}

/// A request that asked for a change, and its answer's status.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    pub method: String,
    pub path: String,
    pub status: u16,
    #[serde(rename = "ago_ms", serialize_with = "ago")]
    pub at: Instant,
}

fn ago<S: Serializer>(at: &Instant, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX))
}

/// The plan, worked off from its first entry, and the log.
#[derive(Debug, Default)]
pub struct Failures {
    plan: Vec<Planned>,
    pub changes: Vec<Change>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Passes,
    /// Answered with this status, and nothing is done.
    Fails(u16),
    /// Done, and then answered with this status.
    FailsAfterwards(u16),
}

impl Failures {
    /// Replaces the plan and forgets the log.
    pub fn plan(&mut self, plan: Vec<Planned>) {
        self.plan = plan;
        self.changes.clear();
    }

    /// Decides the fate of one request.
    pub fn fate(&mut self, changing: bool) -> Fate {
        self.plan.retain(|planned| planned.count > 0);
        let Some(planned) = self.plan.first_mut() else {
            return Fate::Passes;
        };
        match (changing, planned.skip, planned.reads) {
            (true, 0, _) => {}
            // Reads fail only once the first change has been refused.
            (false, 0, true) if self.changes.iter().any(|change| change.status == planned.status) => {}
            (true, ..) => {
                planned.skip -= 1;
                return Fate::Passes;
            }
            (false, ..) => return Fate::Passes,
        }
        planned.count -= 1;
        if planned.after_commit {
            Fate::FailsAfterwards(planned.status)
        } else {
            Fate::Fails(planned.status)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(status: u16, skip: u32, count: u32) -> Planned {
        Planned {
            status,
            skip,
            count,
            reads: false,
            after_commit: false,
        }
    }

    #[test]
    fn changes_before_the_planned_one_pass_and_reads_do_not_count() {
        let mut failures = Failures::default();
        failures.plan(vec![planned(503, 1, 1), planned(422, 0, 2)]);
        let fates: Vec<Fate> = [false, true, false, true, true, true, true]
            .map(|changing| failures.fate(changing))
            .into();
        use Fate::{Fails, Passes};
        assert_eq!(
            fates,
            [Passes, Passes, Passes, Fails(503), Fails(422), Fails(422), Passes]
        );
    }

    #[test]
    fn reads_fail_from_the_first_refused_change_on() {
        let mut failures = Failures::default();
        failures.plan(vec![Planned {
            reads: true,
            ..planned(401, 0, 10)
        }]);
        assert_eq!(failures.fate(false), Fate::Passes);
        assert_eq!(failures.fate(true), Fate::Fails(401));
        failures.changes.push(Change {
            method: "PATCH".into(),
            path: "/apps/demo".into(),
            status: 401,
            at: Instant::now(),
        });
        assert_eq!(failures.fate(false), Fate::Fails(401));
    }
}
