//! The two sides of a comparison, with a connection to each for every database that is looked at.

use super::super::{Connection, Info, Server};
use super::expiry::{Clock, TOLERANCE_MS};
use super::rounds;
use super::{Comparison, Key, Options, Progress};
use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::time::Duration;

/// A reply may be a window of a large value from a busy server far away.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// Two servers to be compared; keeps its connections, so that a second look costs no handshake.
pub struct Comparator {
    source: Server,
    target: Server,
    pub(super) source_info: Info,
    pub(super) target_info: Info,
    pairs: BTreeMap<u32, Pair>,
}

/// One database on both sides.
#[derive(Clone)]
pub(super) struct Pair {
    pub database: u32,
    pub source: Side,
    pub target: Side,
    pub tolerance_ms: i64,
    /// Both sides tell of consumers that never had an entry, which replicas hear of from Redis 7.
    pub idle_consumers_count: bool,
}

#[derive(Clone)]
pub(super) struct Side {
    pub server: Server,
    pub connection: Connection,
    pub clock: Clock,
}

impl Comparator {
    /// Connects to both and asks what they are.
    pub async fn connect(source: &Server, target: &Server) -> Result<Comparator> {
        let ask = async |server: &Server| Info::read(&mut server.connect(0).await?).await;
        let (source_info, target_info) = tokio::try_join!(ask(source), ask(target))?;
        let mut comparator = Comparator {
            source: source.clone(),
            target: target.clone(),
            source_info,
            target_info,
            pairs: BTreeMap::new(),
        };
        comparator.pair(0).await?;
        Ok(comparator)
    }

    /// Compares everything, in rounds.
    pub async fn everything(
        &mut self,
        options: &Options,
        progress: &(impl Fn(Progress) + Send + Sync),
    ) -> Result<Comparison> {
        rounds::everything(self, options, progress).await
    }

    /// Compares these keys, in rounds.
    pub async fn keys(&mut self, keys: &[Key], options: &Options) -> Result<Comparison> {
        rounds::keys(self, keys, options).await
    }

    /// Opens the connections that looking at all databases will need, so that it is not paid for later.
    pub async fn warm(&mut self) -> Result<()> {
        self.refresh().await?;
        for database in self.databases() {
            self.pair(database).await?;
        }
        Ok(())
    }

    /// Every database that either side has keys in now: where a key may be that the tap saw before it knew the database.
    pub async fn databases_now(&mut self) -> Result<Vec<u32>> {
        self.refresh().await?;
        Ok(self.databases())
    }

    /// Every database that either side had keys in when it was asked last.
    pub(super) fn databases(&self) -> Vec<u32> {
        let both = self.source_info.keyspace.keys().chain(self.target_info.keyspace.keys());
        let mut databases: Vec<u32> = both.copied().collect();
        databases.sort_unstable();
        databases.dedup();
        databases
    }

    pub(super) fn tolerance_ms(&self) -> i64 {
        let clocks = [Clock::of(self.source_info.version), Clock::of(self.target_info.version)];
        if clocks.contains(&Clock::Relative) {
            TOLERANCE_MS
        } else {
            0
        }
    }

    pub(super) async fn pair(&mut self, database: u32) -> Result<Pair> {
        if let Some(pair) = self.pairs.get(&database) {
            return Ok(pair.clone());
        }
        let (mut source, mut target) =
            tokio::try_join!(connect(&self.source, database), connect(&self.target, database))?;
        source.answer_within(ANSWER_TIMEOUT);
        target.answer_within(ANSWER_TIMEOUT);
        let clocks = [Clock::of(self.source_info.version), Clock::of(self.target_info.version)];
        let pair = Pair {
            database,
            source: Side {
                server: self.source.clone(),
                connection: source,
                clock: clocks[0],
            },
            target: Side {
                server: self.target.clone(),
                connection: target,
                clock: clocks[1],
            },
            tolerance_ms: self.tolerance_ms(),
            idle_consumers_count: clocks == [Clock::Absolute, Clock::Absolute],
        };
        self.pairs.insert(database, pair.clone());
        Ok(pair)
    }

    /// Asks both what they are now.
    pub(super) async fn refresh(&mut self) -> Result<()> {
        let mut pair = self.pair(0).await?;
        (self.source_info, self.target_info) = tokio::try_join!(
            Info::read(&mut pair.source.connection),
            Info::read(&mut pair.target.connection)
        )?;
        Ok(())
    }
}

async fn connect(server: &Server, database: u32) -> Result<Connection> {
    server.connect(database).await.map_err(|cause| {
        if database == 0 {
            return cause;
        }
        Error::failed(format!("look into database {database} of {server}"))
            .because(cause)
            .hint("both servers must allow as many databases as the source uses: see `databases` in redis.conf")
    })
}
