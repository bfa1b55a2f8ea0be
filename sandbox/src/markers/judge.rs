//! Holds the ledgers against a Redis: an acknowledged value that is not there is lost, a deleted one that is there is
//! resurrected.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;

use super::ledger::{Attempt, Process};
use super::write::Place;
use crate::connect::Target;

const PATIENCE: Duration = Duration::from_secs(20);
/// Places that are read at once.
const BATCH: usize = 500;
/// Findings that are named.
const NAMED: usize = 10;

/// The verdict on all ledgers.
#[derive(Debug, Default, Serialize)]
pub struct Judged {
    /// Writes that were acknowledged.
    pub acknowledged: u64,
    pub failed: u64,
    pub places: u64,
    pub lost: u64,
    pub resurrected: u64,
    pub reads_from_postgres: u64,
    pub reads_from_redis: u64,
    /// Acknowledged writes a second, of the process that wrote longest.
    pub writes_per_second: f64,
    pub findings: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Finding {
    Lost,
    Resurrected,
}

/// Reads every place of the ledgers and judges it.
pub async fn check(target: &Target, processes: &[Process]) -> Result<Judged> {
    let mut places: BTreeMap<&Place, Vec<&Attempt>> = BTreeMap::new();
    for attempt in processes.iter().flat_map(|process| &process.attempts) {
        places.entry(&attempt.place).or_default().push(attempt);
    }
    let acknowledged = |process: &Process| {
        let done = process
            .attempts
            .iter()
            .filter(|attempt| attempt.acknowledged_us.is_some());
        done.count() as u64
    };
    let longest = processes.iter().max_by_key(|process| acknowledged(process));
    let mut judged = Judged {
        acknowledged: processes.iter().map(acknowledged).sum(),
        failed: processes.iter().map(|process| process.failures.len() as u64).sum(),
        places: places.len() as u64,
        reads_from_postgres: processes.iter().map(|process| process.reads_from_postgres).sum(),
        reads_from_redis: processes.iter().map(|process| process.reads_from_redis).sum(),
        writes_per_second: longest.map_or(0.0, rate),
        ..Judged::default()
    };
    let connection = target
        .connect(0, PATIENCE)
        .await
        .context("connect to the app's Redis")?;
    let all: Vec<(&Place, Vec<&Attempt>)> = places.into_iter().collect();
    for batch in all.chunks(BATCH) {
        let mut pipeline = redis::pipe();
        for (place, _) in batch {
            pipeline.add_command(place.read());
        }
        let found: Vec<Option<String>> = pipeline
            .query_async(&mut connection.commands.clone())
            .await
            .context("read the app's Redis")?;
        for ((place, attempts), found) in batch.iter().zip(found) {
            match judge(place, attempts, found.as_deref()) {
                None => continue,
                Some(Finding::Lost) => judged.lost += 1,
                Some(Finding::Resurrected) => judged.resurrected += 1,
            }
            if judged.findings.len() < NAMED {
                judged.findings.push(format!("{place:?}: found {found:?}"));
            }
        }
    }
    Ok(judged)
}

/// Returns acknowledged writes a second.
fn rate(process: &Process) -> f64 {
    let times = process.attempts.iter().filter_map(|attempt| attempt.acknowledged_us);
    let (first, last) = (times.clone().min().unwrap_or(0), times.clone().max().unwrap_or(0));
    let seconds = (last - first) as f64 / 1e6;
    if seconds > 0.0 {
        times.count() as f64 / seconds
    } else {
        0.0
    }
}

/// Returns what is wrong with a place; `None` if its value is that of a write after which no other was acknowledged.
fn judge(place: &Place, attempts: &[&Attempt], found: Option<&str>) -> Option<Finding> {
    let newest = attempts
        .iter()
        .filter(|attempt| attempt.acknowledged_us.is_some())
        .max_by_key(|attempt| attempt.begun_us)?;
    if let Place::Score(..) = place {
        let number = |text: &str| text.parse::<f64>().unwrap_or(0.0);
        let acknowledged = attempts.iter().filter(|attempt| attempt.acknowledged_us.is_some());
        let most = acknowledged
            .filter_map(|attempt| attempt.value.as_deref().map(number))
            .fold(0.0, f64::max);
        return (found.map_or(0.0, number) < most).then_some(Finding::Lost);
    }
    // A write that was not acknowledged may be done at any later time.
    let may_be_last = |attempt: &&&Attempt| attempt.acknowledged_us.is_none_or(|at| at >= newest.begun_us);
    let explained = attempts
        .iter()
        .filter(may_be_last)
        .any(|attempt| attempt.value.as_deref() == found);
    match (explained, &newest.value, found) {
        (true, ..) => None,
        (false, None, Some(_)) => Some(Finding::Resurrected),
        (false, ..) => Some(Finding::Lost),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(begun_us: u64, acknowledged_us: Option<u64>, value: Option<&str>) -> Attempt {
        Attempt {
            begun_us,
            acknowledged_us,
            place: Place::Key("marker:1".into()),
            value: value.map(str::to_owned),
        }
    }

    fn judged(attempts: &[Attempt], found: Option<&str>) -> Option<Finding> {
        let place = Place::Key("marker:1".into());
        judge(&place, &attempts.iter().collect::<Vec<_>>(), found)
    }

    #[test]
    fn the_last_acknowledged_value_is_right_and_an_older_one_is_lost() {
        let writes = [attempt(1, Some(2), Some("a")), attempt(3, Some(4), Some("b"))];
        assert_eq!(judged(&writes, Some("b")), None);
        assert_eq!(judged(&writes, Some("a")), Some(Finding::Lost));
        assert_eq!(judged(&writes, None), Some(Finding::Lost));
    }

    #[test]
    fn a_value_after_its_deletion_is_resurrected() {
        let writes = [attempt(1, Some(2), Some("a")), attempt(3, Some(4), None)];
        assert_eq!(judged(&writes, None), None);
        assert_eq!(judged(&writes, Some("a")), Some(Finding::Resurrected));
    }

    #[test]
    fn a_write_without_an_answer_may_be_there_or_not() {
        let writes = [attempt(1, Some(2), Some("a")), attempt(3, None, Some("b"))];
        assert_eq!(judged(&writes, Some("a")), None);
        assert_eq!(judged(&writes, Some("b")), None);
        assert_eq!(judged(&writes, Some("c")), Some(Finding::Lost));
        assert_eq!(
            judged(&[attempt(1, None, Some("a"))], Some("z")),
            None,
            "nothing is proven"
        );
    }

    #[test]
    fn writes_at_the_same_time_may_end_in_either_order() {
        let writes = [attempt(1, Some(9), Some("a")), attempt(3, Some(4), Some("b"))];
        assert_eq!(judged(&writes, Some("a")), None);
        assert_eq!(judged(&writes, Some("b")), None);
    }

    #[test]
    fn a_score_below_what_was_acknowledged_is_lost() {
        let place = Place::Score("stats:1".into(), "app".into());
        let writes = [attempt(1, Some(2), Some("7")), attempt(3, Some(4), Some("8"))];
        let attempts: Vec<&Attempt> = writes.iter().collect();
        assert_eq!(judge(&place, &attempts, Some("9")), None);
        assert_eq!(judge(&place, &attempts, Some("7")), Some(Finding::Lost));
        assert_eq!(judge(&place, &attempts, None), Some(Finding::Lost));
    }
}
