//! Looks again at keys that differed, until they are equal or the rounds are spent.

use super::super::connection::is_broken;
use super::super::key::{Key, printable};
use super::difference::{DifferenceKind, Findings, Later};
use super::pair::{AT_ONCE, Comparator, Pair};
use super::sweep;
use super::verdicts::Verdicts;
use super::{Comparison, DatabaseCounts, DifferingKey, Options, Progress, Round, batch};
use crate::model::clock::Instant;
use crate::model::error::Result;
use futures_util::{StreamExt, TryStreamExt, stream};
use std::collections::BTreeMap;
use std::time::Duration;

/// Looks per round while few keys differ. A key that is written all the time is rarely found equal.
const LOOKS: u32 = 8;
const FEW: usize = 2_000;

enum Scope {
    Everything,
    Keys(Vec<Key>),
}

impl Comparator {
    pub async fn everything(
        &mut self,
        options: &Options,
        progress: &(impl Fn(Progress) + Send + Sync),
    ) -> Result<Comparison> {
        run(self, Scope::Everything, options, progress).await
    }

    pub async fn keys(&mut self, keys: &[Key], options: &Options) -> Result<Comparison> {
        let is_left_out = |key: &Key| {
            let mut prefixes = options.leave_out.iter();
            prefixes.any(|prefix| key.name.starts_with(prefix.as_bytes()))
        };
        let keys = keys.iter().filter(|key| !is_left_out(key)).cloned().collect();
        run(self, Scope::Keys(keys), options, &|_| {}).await
    }
}

async fn run(
    comparator: &mut Comparator,
    widest: Scope,
    options: &Options,
    progress: &(impl Fn(Progress) + Send + Sync),
) -> Result<Comparison> {
    let begun = Instant::now();
    comparator.spread(options.spread);
    let mut databases = BTreeMap::new();
    let mut rounds: Vec<Round> = Vec::new();
    let mut narrowed: Option<Scope> = None;
    let last = options.rounds.max(1);
    let mut later = Later::default();
    let findings = loop {
        let round_begun = Instant::now();
        let number = u32::try_from(rounds.len()).unwrap_or(u32::MAX) + 1;
        let look = Look {
            number,
            options,
            progress,
        };
        let mut compared = BTreeMap::new();
        let scope = narrowed.as_ref().unwrap_or(&widest);
        let findings = look.at(comparator, scope, &mut compared).await?;
        let full = matches!(scope, Scope::Everything);
        if rounds.is_empty() {
            databases = key_counts(comparator);
            for (database, compared) in compared {
                databases.entry(database).or_default().compared = compared;
            }
        }
        // A full round counts every key anew; a narrow one looks at keys that were not counted yet.
        if full {
            later = Later::default();
        }
        later.add(findings.later);
        rounds.push(Round {
            full,
            compared: findings.compared,
            differing: findings.differing(),
            seconds: round_begun.elapsed().as_secs_f64(),
        });
        if findings.differing() == 0 || number >= last {
            break findings;
        }
        narrowed = (!findings.overflowed()).then(|| Scope::Keys(findings.keys()));
        tokio::time::sleep(options.pause).await;
    };
    let first = findings
        .first(options.first)
        .into_iter()
        .map(|(key, reason)| DifferingKey {
            database: key.database,
            key: printable(&key.name),
            kind: reason.kind(),
            reason: reason.to_string(),
        });
    Ok(Comparison {
        databases,
        compared: rounds.first().map_or(0, |round| round.compared),
        missing: findings.count(DifferenceKind::Missing),
        extra: findings.count(DifferenceKind::Extra),
        different: findings.count(DifferenceKind::Different),
        uncomparable: findings.count(DifferenceKind::Uncomparable),
        expired: findings.expired,
        counts_are_approximate: findings.overflowed(),
        first: first.collect(),
        rounds,
        expiry_tolerance_ms: comparator.tolerance().measured_ms.unsigned_abs(),
        expire_later: later.keys,
        expire_later_by_ms: later.most_ms,
        not_compared: comparator.not_compared(),
        seconds: begun.elapsed().as_secs_f64(),
    })
}

fn key_counts(comparator: &Comparator) -> BTreeMap<u32, DatabaseCounts> {
    let mut counts: BTreeMap<u32, DatabaseCounts> = BTreeMap::new();
    for (database, keyspace) in &comparator.source_info.keyspace {
        counts.entry(*database).or_default().source_keys = keyspace.keys;
    }
    for (database, keyspace) in &comparator.target_info.keyspace {
        counts.entry(*database).or_default().target_keys = keyspace.keys;
    }
    counts
}

async fn in_database(pair: Pair, names: Vec<Vec<u8>>) -> Result<(u32, Verdicts)> {
    Ok((pair.database, batch::compare_quickly(&pair, &names).await?))
}

struct Look<'a, P> {
    number: u32,
    options: &'a Options,
    progress: &'a P,
}

impl<P: Fn(Progress) + Send + Sync> Look<'_, P> {
    /// Looks at this scope. If a value is larger than estimated, its answer breaks the connection that
    /// all keys share: then it begins anew, with values on connections of their own.
    async fn at(
        &self,
        comparator: &mut Comparator,
        scope: &Scope,
        compared: &mut BTreeMap<u32, u64>,
    ) -> Result<Findings> {
        loop {
            let looked = match scope {
                Scope::Keys(keys) => self.at_keys(comparator, keys, compared).await,
                Scope::Everything => {
                    comparator.refresh().await?;
                    self.at_everything(comparator, compared).await
                }
            };
            match looked {
                Err(error) if is_broken(&error) && comparator.be_careful() => compared.clear(),
                looked => return looked,
            }
        }
    }

    async fn at_everything(&self, comparator: &mut Comparator, compared: &mut BTreeMap<u32, u64>) -> Result<Findings> {
        let total = comparator.source_info.keys();
        let mut findings = Findings::default();
        for database in comparator.databases() {
            let pair = comparator.pair(database).await?;
            let before = findings.compared;
            sweep::database(&pair, &self.options.leave_out, |verdicts| {
                self.take(verdicts, &mut findings);
                self.tell(database, total, &findings);
            })
            .await?;
            compared.insert(database, findings.compared - before);
        }
        Ok(findings)
    }

    async fn at_keys(
        &self,
        comparator: &mut Comparator,
        keys: &[Key],
        compared: &mut BTreeMap<u32, u64>,
    ) -> Result<Findings> {
        let mut findings = self.once(comparator, keys, keys.len(), compared).await?;
        for look in 1..LOOKS {
            let left = findings.keys();
            if left.is_empty() || left.len() > FEW || findings.overflowed() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(u64::from(look) * 5)).await;
            let (looked_at, later) = (findings.compared, findings.later);
            findings = self.once(comparator, &left, keys.len(), &mut BTreeMap::new()).await?;
            findings.compared = looked_at;
            findings.later.add(later);
        }
        Ok(findings)
    }

    async fn once(
        &self,
        comparator: &mut Comparator,
        keys: &[Key],
        total: usize,
        compared: &mut BTreeMap<u32, u64>,
    ) -> Result<Findings> {
        let mut names: BTreeMap<u32, Vec<Vec<u8>>> = BTreeMap::new();
        for key in keys {
            names.entry(key.database).or_default().push(key.name.clone());
        }
        let (mut batches, mut at_once) = (Vec::new(), AT_ONCE);
        for (database, names) in &names {
            let pair = comparator.pair(*database).await?;
            at_once = pair.at_once();
            for names in names.chunks(pair.batch()) {
                batches.push(in_database(pair.clone(), names.to_vec()));
            }
        }
        // Batches run together. One by one, each costs a distant operator round trips.
        let mut looks = stream::iter(batches).buffered(at_once);
        let mut findings = Findings::default();
        while let Some((database, verdicts)) = looks.try_next().await? {
            *compared.entry(database).or_default() += verdicts.compared;
            self.take(verdicts, &mut findings);
            self.tell(database, total as u64, &findings);
        }
        Ok(findings)
    }

    fn take(&self, verdicts: Verdicts, findings: &mut Findings) {
        findings.compared += verdicts.compared;
        findings.expired += verdicts.expired;
        findings.later.add(verdicts.later);
        for (key, reason) in verdicts.differing {
            findings.add(key, reason, self.options.keep);
        }
    }

    fn tell(&self, database: u32, total: u64, findings: &Findings) {
        (self.progress)(Progress {
            round: self.number,
            database,
            done: findings.compared,
            total: total.max(findings.compared),
            differing: findings.differing(),
        });
    }
}
