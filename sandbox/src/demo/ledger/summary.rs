//! Sums up all ledgers: the demands on Redis, and how the app fared.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Serialize;

use super::format::{Origin, Place, Record, Write};

/// A rising value that one process writes: the last acknowledged one, and the highest tried.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rising {
    pub acknowledged: Option<u64>,
    pub attempted: u64,
}

/// A counter that everybody raises by one.
#[derive(Clone, Debug, Default)]
pub struct Count {
    pub attempted: u64,
    /// The answers of Redis; each may come only once, for ever.
    pub answers: HashSet<i64>,
    pub repeated: u64,
    pub highest: i64,
}

/// The life of a job as far as it was written down.
#[derive(Clone, Debug, Default)]
pub struct Job {
    pub pushed: bool,
    pub done_acknowledged: u32,
    /// How often a worker tried to take it into its own memory.
    pub holds_attempted: u32,
    /// How often a Redis confirmed that it is back in the queue.
    pub put_backs_acknowledged: u32,
}

/// The demands of the ledgers on Redis.
#[derive(Clone, Debug, Default)]
pub struct Expectations {
    pub risings: BTreeMap<Place, Rising>,
    /// By database and key.
    pub counters: BTreeMap<(i64, String), Count>,
    pub jobs: BTreeMap<String, Job>,
    /// All processes that wrote a ledger.
    pub processes: BTreeSet<String>,
    traffic: Traffic,
}

#[derive(Clone, Debug, Default)]
struct Traffic {
    /// Times and errors before this are left out.
    since_us: u64,
    by_kind: BTreeMap<&'static str, u64>,
    attempts: u64,
    /// Writes whose last attempt in a process got no answer, by their first attempt.
    failures: HashMap<Origin, Failure>,
    /// Writes of an ended process that another one had confirmed.
    settled: HashSet<Origin>,
    repeats: BTreeMap<String, u64>,
    found_done: u64,
    refusals: BTreeMap<String, u64>,
    /// Times of acknowledgement, in microseconds since 1970, by who gave them.
    by_endpoint: BTreeMap<String, Vec<u64>>,
    by_process: BTreeMap<String, Vec<u64>>,
}

#[derive(Clone, Debug)]
struct Failure {
    at_us: u64,
    reason: String,
    /// The job that was to be counted as done: it stays with its worker, and the next one does it.
    job: Option<String>,
}

/// How the app fared, for people and for the demo's report.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Writes that Redis confirmed.
    pub acknowledged: u64,
    pub acknowledged_by_kind: BTreeMap<&'static str, u64>,
    /// Writes without an answer: failed, or cut off by the end of the process.
    pub unanswered: u64,
    /// Writes that failed in the app's eyes: no later attempt at them was confirmed either.
    pub client_errors: u64,
    pub client_errors_by_kind: BTreeMap<String, u64>,
    /// Writes that were sent again after their answer was lost.
    pub repeated: u64,
    pub repeated_by_kind: BTreeMap<String, u64>,
    /// Those of them that an attempt before had done.
    pub found_done: u64,
    /// Attempts to connect that failed; the app tried again.
    pub connection_errors: u64,
    pub connection_errors_by_kind: BTreeMap<String, u64>,
    /// From the old endpoint's last confirmed write to the new one's first, if there are two.
    pub app_write_gap_ms: Option<f64>,
    /// The longest time in which no process got a write confirmed.
    pub longest_gap_ms: f64,
    /// When that gap ended, microseconds since 1970.
    pub longest_gap_ended_us: u64,
    /// When the first write was confirmed, microseconds since 1970.
    pub first_acknowledged_us: Option<u64>,
    pub endpoints: Vec<Endpoint>,
    pub switches: Vec<Switch>,
    pub processes: Vec<Process>,
}

/// A Redis that confirmed writes; times in microseconds since 1970.
#[derive(Clone, Debug, Serialize)]
pub struct Endpoint {
    pub address: String,
    pub acknowledged: u64,
    pub first_us: u64,
    pub last_us: u64,
}

/// A move from one Redis to the next.
#[derive(Clone, Debug, Serialize)]
pub struct Switch {
    pub from: String,
    pub to: String,
    /// Below zero when both confirmed writes at the same time.
    pub gap_ms: f64,
    /// Writes that the old one confirmed after the new one's first.
    pub late_acknowledgements: u64,
}

#[derive(Clone, Debug, Serialize)]
pub struct Process {
    pub name: String,
    pub acknowledged: u64,
    pub writes_per_second: f64,
    pub longest_gap_ms: f64,
}

/// Reads all ledgers of a folder. Leaves out a last line without an end, which is not complete.
pub fn read_folder(folder: &Path) -> Result<Expectations> {
    read_folder_since(folder, 0)
}

/// The same; how the app fared (its gaps and errors) is told from a time on, microseconds since 1970.
pub fn read_folder_since(folder: &Path, since_us: u64) -> Result<Expectations> {
    let mut expectations = Expectations::default();
    expectations.traffic.since_us = since_us;
    for path in ledgers(folder)? {
        let file = File::open(&path).with_context(|| format!("open the ledger {}", path.display()))?;
        read_one(&mut expectations, BufReader::new(file))
            .with_context(|| format!("read the ledger {}", path.display()))?;
    }
    Ok(expectations)
}

/// Returns the ledgers of a folder.
pub(super) fn ledgers(folder: &Path) -> Result<Vec<PathBuf>> {
    let reading = || format!("read the ledger folder {}", folder.display());
    let mut ledgers = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(reading)? {
        let path = entry.with_context(reading)?.path();
        if path.extension().is_some_and(|extension| extension == "ledger") {
            ledgers.push(path);
        }
    }
    Ok(ledgers)
}

fn read_one(expectations: &mut Expectations, mut lines: impl BufRead) -> Result<()> {
    let mut reading: Option<Reading> = None;
    let mut line = String::new();
    loop {
        line.clear();
        lines.read_line(&mut line).context("read a line")?;
        let Some(complete) = line.strip_suffix('\n') else { break };
        match (Record::parse(complete)?, &mut reading) {
            (Record::Start { process, at_us }, None) => {
                expectations.processes.insert(process.clone());
                reading = Some(Reading {
                    process,
                    at_us,
                    open: HashMap::new(),
                });
            }
            (Record::Start { .. }, Some(_)) => bail!("it starts twice"),
            (_, None) => bail!("it does not begin with a start line"),
            (record, Some(reading)) => reading.take(expectations, record)?,
        }
    }
    Ok(())
}

struct Reading {
    process: String,
    at_us: u64,
    /// Each with its first attempt.
    open: HashMap<u64, (Write, Origin)>,
}

impl Reading {
    fn take(&mut self, expectations: &mut Expectations, record: Record) -> Result<()> {
        match record {
            Record::Start { .. } => bail!("it starts twice"),
            Record::Attempt {
                operation,
                write,
                repeats,
                after_us,
            } => {
                let origin = match repeats {
                    // It is the same write, which was counted as tried by the process before.
                    Some(origin) => {
                        self.repeated(expectations, after_us, "process_ended".to_owned());
                        origin
                    }
                    None => {
                        expectations.attempted(&write);
                        Origin {
                            process: self.process.clone(),
                            operation,
                        }
                    }
                };
                self.open.insert(operation, (write, origin));
            }
            Record::Repeated { after_us, reason, .. } => self.repeated(expectations, after_us, reason),
            Record::Acknowledged {
                operation,
                after_us,
                endpoint,
                answer,
                found_done,
            } => {
                let (write, origin) = self
                    .open
                    .remove(&operation)
                    .with_context(|| format!("operation {operation} is acknowledged and was never attempted"))?;
                expectations.acknowledged(&write, answer)?;
                let traffic = &mut expectations.traffic;
                if origin.process != self.process {
                    traffic.settled.insert(origin);
                }
                let at_us = self.at_us + after_us;
                if at_us >= traffic.since_us {
                    traffic.found_done += u64::from(found_done);
                    traffic.by_endpoint.entry(endpoint).or_default().push(at_us);
                    traffic.by_process.entry(self.process.clone()).or_default().push(at_us);
                }
            }
            Record::Failed {
                operation,
                reason,
                after_us,
                ..
            } => {
                let traffic = &mut expectations.traffic;
                if let Some((write, origin)) = self.open.remove(&operation)
                    && self.at_us + after_us >= traffic.since_us
                {
                    let job = match write {
                        Write::Done { job } => Some(job),
                        _ => None,
                    };
                    let at_us = self.at_us + after_us;
                    let failure = Failure { at_us, reason, job };
                    // The ledgers are read in any order. The last attempt at a write says why it failed.
                    let known = traffic.failures.entry(origin).or_insert_with(|| failure.clone());
                    if known.at_us < at_us {
                        *known = failure;
                    }
                }
            }
            Record::NotConnected { reason, after_us, .. } => {
                let traffic = &mut expectations.traffic;
                if self.at_us + after_us >= traffic.since_us {
                    *traffic.refusals.entry(reason).or_default() += 1;
                }
            }
        }
        Ok(())
    }

    fn repeated(&self, expectations: &mut Expectations, after_us: u64, reason: String) {
        let traffic = &mut expectations.traffic;
        if self.at_us + after_us >= traffic.since_us {
            *traffic.repeats.entry(reason).or_default() += 1;
        }
    }
}

impl Expectations {
    /// Returns the reasons of the writes that no attempt had confirmed.
    fn errors(&self) -> BTreeMap<String, u64> {
        let mut errors = BTreeMap::new();
        for (origin, failure) in &self.traffic.failures {
            let job = failure.job.as_ref().and_then(|job| self.jobs.get(job));
            let is_settled = self.traffic.settled.contains(origin) || job.is_some_and(|job| job.done_acknowledged > 0);
            if !is_settled {
                *errors.entry(failure.reason.clone()).or_default() += 1;
            }
        }
        errors
    }

    fn attempted(&mut self, write: &Write) {
        self.traffic.attempts += 1;
        if let Some((place, value)) = write.rising() {
            let rising = self.risings.entry(place).or_default();
            rising.attempted = rising.attempted.max(value);
        }
        match write {
            Write::Marker { .. } | Write::Score { .. } | Write::Field { .. } => {}
            Write::Counter { database, key } => {
                self.counters.entry((*database, key.clone())).or_default().attempted += 1;
            }
            Write::Push { job } | Write::Take { job } | Write::Done { job } | Write::PutBack { job } => {
                self.jobs.entry(job.clone()).or_default();
            }
            Write::Hold { job } => self.jobs.entry(job.clone()).or_default().holds_attempted += 1,
        }
    }

    fn acknowledged(&mut self, write: &Write, answer: Option<i64>) -> Result<()> {
        *self.traffic.by_kind.entry(write.kind()).or_default() += 1;
        if let Some((place, value)) = write.rising() {
            let rising = self.risings.entry(place).or_default();
            rising.acknowledged = rising.acknowledged.max(Some(value));
        }
        match write {
            Write::Counter { database, key } => {
                let answer =
                    answer.with_context(|| format!("an increment of {key} is acknowledged without a number"))?;
                let count = self.counters.entry((*database, key.clone())).or_default();
                count.repeated += u64::from(!count.answers.insert(answer));
                count.highest = count.highest.max(answer);
            }
            Write::Push { job } => self.jobs.entry(job.clone()).or_default().pushed = true,
            Write::Done { job } => self.jobs.entry(job.clone()).or_default().done_acknowledged += 1,
            Write::PutBack { job } => self.jobs.entry(job.clone()).or_default().put_backs_acknowledged += 1,
            Write::Marker { .. }
            | Write::Score { .. }
            | Write::Field { .. }
            | Write::Take { .. }
            | Write::Hold { .. } => {}
        }
        Ok(())
    }

    /// Returns how many writes were confirmed.
    pub fn acknowledgements(&self) -> u64 {
        self.traffic.by_kind.values().sum()
    }
}

/// Sums the traffic up.
pub fn report(expectations: &Expectations) -> Report {
    let traffic = &expectations.traffic;
    let acknowledged = expectations.acknowledgements();
    let mut endpoints: Vec<(Endpoint, Vec<u64>)> = traffic
        .by_endpoint
        .iter()
        .filter_map(|(address, times)| {
            let (first_us, last_us) = (*times.iter().min()?, *times.iter().max()?);
            let count = times.len() as u64;
            Some((
                Endpoint {
                    address: address.clone(),
                    acknowledged: count,
                    first_us,
                    last_us,
                },
                times.clone(),
            ))
        })
        .collect();
    endpoints.sort_by_key(|(endpoint, _)| endpoint.first_us);
    let switches: Vec<Switch> = endpoints
        .windows(2)
        .filter_map(|pair| match pair {
            [(old, old_times), (new, _)] => Some(Switch {
                from: old.address.clone(),
                to: new.address.clone(),
                gap_ms: (new.first_us.cast_signed() - old.last_us.cast_signed()) as f64 / 1000.0,
                late_acknowledgements: old_times.iter().filter(|time| **time > new.first_us).count() as u64,
            }),
            _ => None,
        })
        .collect();
    let errors = expectations.errors();
    let first_acknowledged_us = endpoints.first().map(|(endpoint, _)| endpoint.first_us);
    let (gap_us, longest_gap_ended_us) = longest_gap(traffic.by_endpoint.values().flatten().copied().collect());
    Report {
        acknowledged,
        acknowledged_by_kind: traffic.by_kind.clone(),
        unanswered: traffic.attempts - acknowledged,
        client_errors: errors.values().sum(),
        client_errors_by_kind: errors,
        repeated: traffic.repeats.values().sum(),
        repeated_by_kind: traffic.repeats.clone(),
        found_done: traffic.found_done,
        connection_errors: traffic.refusals.values().sum(),
        connection_errors_by_kind: traffic.refusals.clone(),
        app_write_gap_ms: switches.last().map(|switch| switch.gap_ms),
        longest_gap_ms: milliseconds(gap_us),
        longest_gap_ended_us,
        first_acknowledged_us,
        endpoints: endpoints.into_iter().map(|(endpoint, _)| endpoint).collect(),
        switches,
        processes: traffic
            .by_process
            .iter()
            .map(|(name, times)| process(name, times))
            .collect(),
    }
}

fn process(name: &str, times: &[u64]) -> Process {
    let acknowledged = times.len() as u64;
    let seconds = times
        .iter()
        .max()
        .zip(times.iter().min())
        .map_or(0.0, |(last, first)| milliseconds(last - first) / 1e3);
    let writes_per_second = if seconds > 0.0 {
        (acknowledged as f64 / seconds * 10.0).round() / 10.0
    } else {
        0.0
    };
    Process {
        name: name.to_owned(),
        acknowledged,
        writes_per_second,
        longest_gap_ms: milliseconds(longest_gap(times.to_vec()).0),
    }
}

/// Returns the longest time between two, and when it ended; microseconds.
fn longest_gap(mut times: Vec<u64>) -> (u64, u64) {
    times.sort_unstable();
    let gaps = times.windows(2).map(|pair| (pair[1] - pair[0], pair[1]));
    gaps.max().unwrap_or_default()
}

fn milliseconds(microseconds: u64) -> f64 {
    microseconds as f64 / 1000.0
}

#[cfg(test)]
mod tests;
