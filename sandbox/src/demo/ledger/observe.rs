//! Reads from a Redis what the ledgers name. Writes nothing, so it works during a write pause too.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result};
use redis::aio::MultiplexedConnection;

use super::format::Place;
use super::judge::Observed;
use super::summary::Expectations;
use crate::connect::Target;
use crate::demo::keys;

const BATCH: usize = 500;
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);

/// Reads everything that `expectations` name.
pub async fn observe(target: &Target, expectations: &Expectations) -> Result<Observed> {
    let mut observed = Observed::default();
    for database in keys::DATABASES {
        let mut connection = target
            .connect(database, RESPONSE_TIMEOUT)
            .await
            .with_context(|| format!("connect to {} to hold the ledgers against it", target.address()))?;
        let reading = || format!("read database {database} of {}", target.address());
        let commands = &mut connection.commands;
        strings(commands, database, expectations, &mut observed)
            .await
            .with_context(reading)?;
        scores(commands, database, expectations, &mut observed)
            .await
            .with_context(reading)?;
        if database == keys::QUEUE_DATABASE {
            jobs(commands, expectations, &mut observed)
                .await
                .with_context(reading)?;
        }
    }
    Ok(observed)
}

async fn strings(
    commands: &mut MultiplexedConnection,
    database: i64,
    expectations: &Expectations,
    observed: &mut Observed,
) -> Result<()> {
    let is_marker = |place: &&Place| place.0 == database && place.2.is_none();
    let markers: Vec<&Place> = expectations.risings.keys().filter(is_marker).collect();
    for batch in markers.chunks(BATCH) {
        let texts = texts(commands, batch.iter().map(|place| place.1.as_str())).await?;
        for (place, text) in batch.iter().zip(texts) {
            observed
                .risings
                .extend(text.map(|text| ((*place).clone(), number(&text))));
        }
    }
    let counters: Vec<_> = expectations
        .counters
        .keys()
        .filter(|place| place.0 == database)
        .collect();
    for batch in counters.chunks(BATCH) {
        let texts = texts(commands, batch.iter().map(|place| place.1.as_str())).await?;
        for (place, text) in batch.iter().zip(texts) {
            observed
                .counters
                .extend(text.map(|text| ((*place).clone(), number(&text))));
        }
    }
    Ok(())
}

async fn texts<'a>(
    commands: &mut MultiplexedConnection,
    keys: impl Iterator<Item = &'a str>,
) -> Result<Vec<Option<Vec<u8>>>> {
    let mut read = redis::cmd("MGET");
    read.arg(keys.collect::<Vec<_>>());
    read.query_async(commands).await.context("read strings")
}

fn number<N: std::str::FromStr>(text: &[u8]) -> Option<N> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

async fn scores(
    commands: &mut MultiplexedConnection,
    database: i64,
    expectations: &Expectations,
    observed: &mut Observed,
) -> Result<()> {
    let mut members: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (of, key, member) in expectations.risings.keys() {
        if let (true, Some(member)) = (*of == database, member) {
            members.entry(key).or_default().push(member);
        }
    }
    for (key, members) in members {
        for batch in members.chunks(BATCH) {
            let mut pipeline = redis::pipe();
            let command = if keys::has_fields(key) { "HGET" } else { "ZSCORE" };
            for member in batch {
                pipeline.cmd(command).arg(key).arg(member);
            }
            let found: Vec<Option<f64>> = pipeline.query_async(commands).await.context("read scores")?;
            for (member, score) in batch.iter().zip(found) {
                let Some(score) = score else { continue };
                // Scores are small whole numbers here, which a double holds exactly.
                let place = (database, key.to_owned(), Some((*member).to_owned()));
                observed.risings.insert(place, Some(score.max(0.0) as u64));
            }
        }
    }
    Ok(())
}

/// Reads the queue, all workers' lists and the counts of done jobs in one transaction: a job that
/// moves between two readings would look lost or doubled.
async fn jobs(
    commands: &mut MultiplexedConnection,
    expectations: &Expectations,
    observed: &mut Observed,
) -> Result<()> {
    let mut workers: BTreeSet<String> = redis::cmd("SMEMBERS")
        .arg(keys::WORKERS)
        .query_async(commands)
        .await
        .context("list the workers")?;
    workers.extend(expectations.processes.iter().cloned());
    let producers: BTreeSet<&str> = expectations
        .jobs
        .keys()
        .filter_map(|job| Some(keys::parse_job(job)?.0))
        .collect();
    let mut transaction = redis::pipe();
    transaction.atomic().cmd("LRANGE").arg(keys::QUEUE).arg(0).arg(-1);
    for worker in &workers {
        transaction.cmd("LRANGE").arg(keys::processing(worker)).arg(0).arg(-1);
    }
    for producer in &producers {
        transaction.cmd("GET").arg(keys::done(producer));
    }
    let answers: Vec<redis::Value> = transaction.query_async(commands).await.context("read the jobs")?;
    let (lists, counts) = answers.split_at(1 + workers.len());
    for list in lists {
        let jobs: Vec<String> = redis::from_redis_value_ref(list).context("read a list of jobs")?;
        observed.waiting.extend(jobs);
    }
    for (producer, count) in producers.into_iter().zip(counts) {
        let packed: Option<Vec<u8>> = redis::from_redis_value_ref(count).context("read the counts of done jobs")?;
        observed.done.extend(packed.map(|packed| (producer.to_owned(), packed)));
    }
    Ok(())
}
