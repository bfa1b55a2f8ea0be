//! The two sides of a comparison, with a connection to each for every database.

use super::super::{Connection, Server};
use super::expiry::{Clock, Tolerance};
use super::replies::{Trouble, ask};
use super::{DEAD_IDS, NOT_COMPARED};
use crate::model::error::{Error, Result};
use ::redis::{Cmd, Pipeline, Value, pipe};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use wire::info::{Info, Version};
use wire::reply::array;

/// The slowest reply is a window of a large value from a busy server far away.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// Batches in flight at the same time, which hides the round trip and keeps both servers busy.
pub(super) const AT_ONCE: usize = 6;

/// Compares two servers. Keeps its connections, so that a second comparison needs no handshake.
pub struct Comparator {
    source: Server,
    target: Server,
    pub(super) source_info: Info,
    pub(super) target_info: Info,
    pairs: BTreeMap<u32, Pair>,
    /// True once an answer was longer than a connection takes; see [`Pair::apart`].
    careful: bool,
}

/// The connections to source and target on which values alone are read, once one is needed.
type Apart = Arc<Mutex<Option<[Connection; 2]>>>;

/// One database on both sides.
#[derive(Clone)]
pub(super) struct Pair {
    pub database: u32,
    pub source: Side,
    pub target: Side,
    pub tolerance: Tolerance,
    /// True if fields of hashes may have a time to live in this database, on either side.
    pub expiring_fields: bool,
    /// True if only the target drops pending ids whose entry is gone, as Redis 7 and later do.
    pub drops_dead_ids: bool,
    /// `None` as long as values fit the windows that were estimated for them.
    pub apart: Option<Apart>,
    /// By how much windows are smaller than estimated: 1, or a power of four.
    pub divisor: i64,
}

#[derive(Clone)]
pub(super) struct Side {
    pub server: Server,
    pub connection: Connection,
    pub clock: Clock,
    /// True if fields can have a time to live: Redis 7.4, Valkey 9.
    pub field_times: bool,
}

impl Comparator {
    /// Connects to both servers and asks for their versions.
    pub async fn connect(source: &Server, target: &Server) -> Result<Comparator> {
        let ask = async |server: &Server| server.connect(0).await?.info().await;
        let (source_info, target_info) = tokio::try_join!(ask(source), ask(target))?;
        let mut comparator = Comparator {
            source: source.clone(),
            target: target.clone(),
            source_info,
            target_info,
            pairs: BTreeMap::new(),
            careful: false,
        };
        comparator.pair(0).await?;
        Ok(comparator)
    }

    /// Opens the connections that a full comparison needs, so that it does not wait for them later.
    pub async fn warm(&mut self) -> Result<()> {
        self.refresh().await?;
        for database in self.databases() {
            self.pair(database).await?;
        }
        Ok(())
    }

    /// Returns the databases with keys on either side now; the tap may have seen keys of new ones.
    pub async fn databases_now(&mut self) -> Result<Vec<u32>> {
        self.refresh().await?;
        Ok(self.databases())
    }

    /// Returns the databases that had keys on either side when they were asked last.
    pub(super) fn databases(&self) -> Vec<u32> {
        let both = self.source_info.keyspace.keys().chain(self.target_info.keyspace.keys());
        let mut databases: Vec<u32> = both.copied().collect();
        databases.sort_unstable();
        databases.dedup();
        databases
    }

    pub(super) fn tolerance(&self) -> Tolerance {
        Tolerance::between(Clock::of(self.source_info.version), Clock::of(self.target_info.version))
    }

    /// Returns the parts of keys and servers that are not compared between these two.
    pub(super) fn not_compared(&self) -> Vec<&'static str> {
        let mut parts = NOT_COMPARED.to_vec();
        if self.drops_dead_ids() {
            parts.push(DEAD_IDS);
        }
        parts
    }

    fn drops_dead_ids(&self) -> bool {
        Clock::of(self.source_info.version) == Clock::Relative && Clock::of(self.target_info.version) == Clock::Absolute
    }

    /// Returns true if hashes of this database had expiring fields when the sides were asked last.
    fn expiring_fields(&self, database: u32) -> bool {
        let any = |info: &Info| {
            let keyspace = info.keyspace.get(&database);
            // A server that does not report the number may have some.
            knows_field_times(info) && keyspace.is_some_and(|keyspace| keyspace.expiring_fields != Some(0))
        };
        any(&self.source_info) || any(&self.target_info)
    }

    pub(super) async fn pair(&mut self, database: u32) -> Result<Pair> {
        let expiring_fields = self.expiring_fields(database);
        if let Some(pair) = self.pairs.get(&database) {
            return Ok(Pair {
                expiring_fields,
                ..pair.clone()
            });
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
                field_times: knows_field_times(&self.source_info),
            },
            target: Side {
                server: self.target.clone(),
                connection: target,
                clock: clocks[1],
                field_times: knows_field_times(&self.target_info),
            },
            tolerance: self.tolerance(),
            expiring_fields,
            drops_dead_ids: self.drops_dead_ids(),
            apart: self.careful.then(Apart::default),
            divisor: 1,
        };
        self.pairs.insert(database, pair.clone());
        Ok(pair)
    }

    /// Reads values apart from now on, over new connections. Returns false if it did so before.
    pub(super) fn be_careful(&mut self) -> bool {
        self.pairs.clear();
        !std::mem::replace(&mut self.careful, true)
    }

    /// Asks both sides for their INFO again.
    pub(super) async fn refresh(&mut self) -> Result<()> {
        let mut pair = self.pair(0).await?;
        (self.source_info, self.target_info) =
            tokio::try_join!(pair.source.connection.info(), pair.target.connection.info())?;
        Ok(())
    }
}

impl Pair {
    /// Returns this pair with connections of its own and smaller windows. An answer that is longer
    /// than a connection takes then breaks nothing else. Opens the connections if `own` has none.
    pub async fn apart(&self, own: &mut Option<[Connection; 2]>, divisor: i64) -> Result<Pair> {
        let [source, target] = match own {
            Some(open) => open.clone(),
            None => {
                let (mut source, mut target) = tokio::try_join!(
                    connect(&self.source.server, self.database),
                    connect(&self.target.server, self.database)
                )?;
                source.answer_within(ANSWER_TIMEOUT);
                target.answer_within(ANSWER_TIMEOUT);
                own.insert([source, target]).clone()
            }
        };
        let mut pair = Pair {
            apart: None,
            divisor,
            ..self.clone()
        };
        pair.source.connection = source;
        pair.target.connection = target;
        Ok(pair)
    }
}

fn knows_field_times(info: &Info) -> bool {
    match info.valkey_version {
        Some(version) => version >= Version::new(9, 0, 0),
        None => info.version >= Version::new(7, 4, 0),
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

/// Sends the same commands to both sides at once. Errors of the servers are among the answers.
pub(super) async fn both(pair: &Pair, commands: &Pipeline) -> Result<(Vec<Value>, Vec<Value>)> {
    let (mut source, mut target) = (pair.source.connection.clone(), pair.target.connection.clone());
    tokio::try_join!(source.ask_all(commands), target.ask_all(commands))
}

/// Sends the same command to both sides. Its answer must be an array.
pub(super) async fn both_arrays(pair: &Pair, command: Cmd) -> Result<(Vec<Value>, Vec<Value>), Trouble> {
    let mut commands = pipe();
    commands.add_command(command);
    let (mut source, mut target) = (pair.source.connection.clone(), pair.target.connection.clone());
    let (source, target) = tokio::try_join!(ask(&mut source, &commands), ask(&mut target, &commands))?;
    let only = |answers: Vec<Value>| answers.into_iter().next().and_then(array).ok_or(Trouble::Moved);
    Ok((only(source)?, only(target)?))
}
