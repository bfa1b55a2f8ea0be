//! Compares what the ledgers demand with what Redis has. Pure.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use super::format::Place;
use super::summary::Expectations;
use crate::demo::keys;

/// The content of Redis. Absent keys are absent here.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// `None` if the value is no number.
    pub risings: HashMap<Place, Option<u64>>,
    /// By database and key; `None` if the value is no number.
    pub counters: HashMap<(i64, String), Option<i64>>,
    /// The jobs in the queue and with all workers, each as often as it stands there.
    pub waiting: Vec<String>,
    /// By producer: how often each of its jobs was done, packed.
    pub done: HashMap<String, Vec<u8>>,
}

/// A kind of damage to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingKind {
    /// An acknowledged marker is missing or older.
    LostMarker,
    /// A counter is below what was acknowledged, or gave the same number twice.
    CounterWentBack,
    /// An acknowledged member of a sorted set is missing or older.
    LostScore,
    /// An acknowledged field of a hash is missing or older.
    LostField,
    /// A job that was pushed, or put back by the worker that held it, is neither done nor waiting.
    LostJob,
    /// A job was done, and Redis does not know.
    LostCompletion,
    /// A job was done twice, stands twice in the queue, or is done and still stands there.
    DoubledJob,
    /// A counter is above all that was ever tried.
    CounterAboveAttempts,
    /// A value that no ledger accounts for.
    Unexplained,
}

/// One wrong key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub kind: FindingKind,
    pub database: i64,
    pub key: String,
    /// How many writes are concerned.
    pub writes: u64,
    pub expected: String,
    pub found: String,
}

/// The result of the comparison.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Acknowledged writes that are gone.
    pub lost: u64,
    /// Writes that took effect more than once.
    pub duplicated: u64,
    /// Values that no ledger accounts for.
    pub unexplained: u64,
    /// How many keys, members and jobs were looked at.
    pub checked: u64,
    /// Writes concerned, by what is wrong with them.
    pub by_kind: BTreeMap<FindingKind, u64>,
    /// The first ones of each kind.
    pub findings: Vec<Finding>,
}

/// How many findings of a kind are listed.
const LISTED: usize = 20;

/// Compares. `before` was read from the ledgers before Redis, `after` afterwards. What was
/// acknowledged in `before` must be there, and what is there must have been tried in `after`. Both
/// may be the same if the app stands still.
pub fn judge(before: &Expectations, after: &Expectations, observed: &Observed) -> Verdict {
    let mut verdict = Verdict::default();
    judge_risings(&mut verdict, before, after, observed);
    judge_counters(&mut verdict, before, after, observed);
    judge_jobs(&mut verdict, before, after, observed);
    verdict
}

fn judge_risings(verdict: &mut Verdict, before: &Expectations, after: &Expectations, observed: &Observed) {
    for (place, rising) in &before.risings {
        verdict.checked += 1;
        let (database, key, member) = place;
        let (name, lost) = match member {
            None => (key.clone(), FindingKind::LostMarker),
            Some(field) if keys::has_fields(key) => (format!("{key} field {field}"), FindingKind::LostField),
            Some(member) => (format!("{key} member {member}"), FindingKind::LostScore),
        };
        let found = observed.risings.get(place).copied();
        let attempted = after.risings.get(place).unwrap_or(rising).attempted;
        if let Some((kind, expected)) = judge_rising(rising.acknowledged, attempted, found, lost) {
            let found = shown(found.flatten(), found.is_some());
            verdict.add(kind, 1, *database, &name, expected, found);
        }
    }
}

/// Returns what is wrong with a rising value, and what was expected. `found` is `None` for a
/// missing key, and `Some(None)` for a key that holds no number.
fn judge_rising(
    acknowledged: Option<u64>,
    attempted: u64,
    found: Option<Option<u64>>,
    lost: FindingKind,
) -> Option<(FindingKind, String)> {
    match (acknowledged, found) {
        (Some(least), None | Some(None)) => Some((lost, format!("at least {least}"))),
        (Some(least), Some(Some(value))) if value < least => Some((lost, format!("at least {least}"))),
        (_, Some(Some(value))) if value > attempted => Some((FindingKind::Unexplained, format!("at most {attempted}"))),
        (None, Some(None)) => Some((FindingKind::Unexplained, format!("a number of at most {attempted}"))),
        _ => None,
    }
}

fn judge_counters(verdict: &mut Verdict, before: &Expectations, after: &Expectations, observed: &Observed) {
    for ((database, key), count) in &before.counters {
        verdict.checked += 1;
        let place = (*database, key.clone());
        let found = observed.counters.get(&place).copied();
        let value = found.flatten().unwrap_or(0);
        let acknowledged = i64::try_from(count.answers.len()).unwrap_or(i64::MAX);
        let least = acknowledged.saturating_add_unsigned(count.repeated).max(count.highest);
        let most = after.counters.get(&place).unwrap_or(count).attempted;
        let shortfall = u64::try_from(least - value).unwrap_or(0).max(count.repeated);
        let excess = u64::try_from(value).unwrap_or(0).saturating_sub(most);
        if shortfall > 0 {
            let repeated = match count.repeated {
                0 => String::new(),
                times => format!(", and no number given twice ({times} were)"),
            };
            let expected = format!("at least {least}{repeated}");
            verdict.add(
                FindingKind::CounterWentBack,
                shortfall,
                *database,
                key,
                expected,
                shown(found.flatten(), found.is_some()),
            );
        } else if excess > 0 {
            let expected = format!("at most {most}, which is how often it was tried");
            verdict.add(
                FindingKind::CounterAboveAttempts,
                excess,
                *database,
                key,
                expected,
                value.to_string(),
            );
        }
    }
}

fn judge_jobs(verdict: &mut Verdict, before: &Expectations, after: &Expectations, observed: &Observed) {
    let mut waiting: HashMap<&str, u64> = HashMap::new();
    for job in &observed.waiting {
        *waiting.entry(job).or_default() += 1;
    }
    for (id, job) in &before.jobs {
        verdict.checked += 1;
        let Some((producer, number)) = keys::parse_job(id) else {
            continue;
        };
        let queued = waiting.get(id.as_str()).copied().unwrap_or(0);
        let counts = observed.done.get(producer).map(Vec::as_slice).unwrap_or_default();
        let done = u64::from(keys::done_count(counts, number));
        // Two workers may each have had a job's completion acknowledged, by two different servers.
        let reported = u64::from(after.jobs.get(id).unwrap_or(job).done_acknowledged);
        let found = format!("done {done} times, waiting {queued} times, reported done {reported} times");
        // A job that a worker may still hold in its memory need not be in Redis.
        let in_hand = after.jobs.get(id).unwrap_or(job).holds_attempted > job.put_backs_acknowledged;
        let mut add = |kind, times, expected| verdict.add(kind, times, keys::QUEUE_DATABASE, id, expected, &*found);
        if job.done_acknowledged > 0 && done == 0 {
            add(FindingKind::LostCompletion, 1, "done once");
        } else if (job.pushed || job.put_backs_acknowledged > 0) && done == 0 && queued == 0 && !in_hand {
            add(FindingKind::LostJob, 1, "done or waiting, once");
        }
        let times = done.max(reported) + queued;
        // A lost completion whose job waits again is one loss. It doubles only if it is done again.
        if times > 1 && !(done == 0 && reported <= 1 && queued == 1) {
            add(FindingKind::DoubledJob, times - 1, "done or waiting, once");
        }
    }
    for (id, times) in waiting {
        if !after.jobs.contains_key(id) {
            let (expected, found) = ("no such job, as no ledger knows it", format!("waiting {times} times"));
            verdict.add(
                FindingKind::Unexplained,
                times,
                keys::QUEUE_DATABASE,
                id,
                expected,
                found,
            );
        }
    }
}

fn shown<N: ToString>(number: Option<N>, exists: bool) -> String {
    match (number, exists) {
        (Some(number), _) => number.to_string(),
        (None, true) => "no number".to_owned(),
        (None, false) => "missing".to_owned(),
    }
}

impl Verdict {
    fn add(
        &mut self,
        kind: FindingKind,
        writes: u64,
        database: i64,
        key: &str,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) {
        *match kind {
            FindingKind::LostMarker
            | FindingKind::CounterWentBack
            | FindingKind::LostScore
            | FindingKind::LostField
            | FindingKind::LostJob
            | FindingKind::LostCompletion => &mut self.lost,
            FindingKind::DoubledJob | FindingKind::CounterAboveAttempts => &mut self.duplicated,
            FindingKind::Unexplained => &mut self.unexplained,
        } += writes;
        *self.by_kind.entry(kind).or_default() += writes;
        if self.findings.iter().filter(|finding| finding.kind == kind).count() < LISTED {
            let (key, expected, found) = (key.to_owned(), expected.into(), found.into());
            self.findings.push(Finding {
                kind,
                database,
                key,
                writes,
                expected,
                found,
            });
        }
    }

    /// Returns whether nothing is lost, doubled or unexplained.
    pub fn is_clean(&self) -> bool {
        self.lost == 0 && self.duplicated == 0 && self.unexplained == 0
    }
}

#[cfg(test)]
mod tests;
