//! The two sides of a comparison, with one connection to each for all databases.

use super::super::{Connection, Server};
use super::expiry::{Clock, Tolerance};
use super::replies::{Trouble, ask};
use super::turns::{self, Turns};
use super::{DEAD_IDS, NOT_COMPARED, SMALL_PLAN};
use crate::model::error::{Error, Result};
use ::redis::{Cmd, Pipeline, Value, pipe};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use wire::info::{Info, Version};
use wire::reply::array;

/// The slowest reply is a window of a large value from a busy server far away.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// Batches in flight at the same time, which hides the round trip and keeps both servers busy.
pub(super) const AT_ONCE: usize = 6;

/// Number of keys to ask for at once.
pub(super) const BATCH: usize = 1_000;

/// Compares two servers. Keeps its connections, so that a second comparison needs no handshake.
pub struct Comparator {
    source: Server,
    target: Server,
    pub(super) source_info: Info,
    pub(super) target_info: Info,
    /// `None` before the first comparison, and after an answer broke a connection.
    open: Option<[Connection; 2]>,
    /// `Some` once an answer was longer than a connection takes; see [`Pair::apart`].
    apart: Option<Apart>,
    /// `Some` while requests to the source are spread.
    turns: Option<Turns>,
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
    /// True if the source has no room for a second connection that would make this quicker.
    pub few_connections: bool,
    /// `None` as long as values fit the windows that were estimated for them.
    pub apart: Option<Apart>,
    /// `None` if requests to the source need not be spread.
    pub turns: Option<Turns>,
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
        let open = async |server: &Server| {
            let mut connection = connect(server).await?;
            let info = connection.info().await?;
            Ok::<_, Error>((connection, info))
        };
        let ((at_source, source_info), (at_target, target_info)) = tokio::try_join!(open(source), open(target))?;
        Ok(Comparator {
            source: source.clone(),
            target: target.clone(),
            source_info,
            target_info,
            open: Some([at_source, at_target]),
            apart: None,
            turns: None,
        })
    }

    /// Spreads the requests to the source from now on, or no longer.
    pub(super) fn spread(&mut self, spread: bool) {
        self.turns = spread.then(Turns::new);
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
        let [source, target] = self.connections().await?;
        let side = |server: &Server, connection: Connection, info: &Info| Side {
            server: server.clone(),
            connection: connection.in_database(database),
            clock: Clock::of(info.version),
            field_times: knows_field_times(info),
        };
        Ok(Pair {
            database,
            source: side(&self.source, source, &self.source_info),
            target: side(&self.target, target, &self.target_info),
            tolerance: self.tolerance(),
            expiring_fields: self.expiring_fields(database),
            drops_dead_ids: self.drops_dead_ids(),
            few_connections: (self.source_info.max_clients).is_some_and(|most| most <= SMALL_PLAN),
            apart: self.apart.clone(),
            turns: self.turns.clone(),
            divisor: 1,
        })
    }

    async fn connections(&mut self) -> Result<[Connection; 2]> {
        if let Some(open) = &self.open {
            return Ok(open.clone());
        }
        let (source, target) = tokio::try_join!(connect(&self.source), connect(&self.target))?;
        Ok(self.open.insert([source, target]).clone())
    }

    /// Reads values apart from now on, over new connections. Returns false if it did so before.
    pub(super) fn be_careful(&mut self) -> bool {
        self.open = None;
        self.apart.replace(Apart::default()).is_none()
    }

    /// Asks both sides for their INFO again.
    pub(super) async fn refresh(&mut self) -> Result<()> {
        let [mut source, mut target] = self.connections().await?;
        (self.source_info, self.target_info) = tokio::try_join!(source.info(), target.info())?;
        Ok(())
    }
}

impl Pair {
    /// Returns how many keys are asked for at once.
    pub fn batch(&self) -> usize {
        if self.turns.is_some() { turns::FEW } else { BATCH }
    }

    /// Returns how many batches are in flight at the same time. Each may carry many bytes of values.
    pub fn at_once(&self) -> usize {
        if self.turns.is_some() { AT_ONCE * 2 } else { AT_ONCE }
    }

    /// Waits until so many requests may be sent to the source.
    pub async fn turn(&self, requests: usize) {
        if let Some(turns) = &self.turns {
            turns.wait(requests).await;
        }
    }

    /// Returns this pair with connections of its own and smaller windows. An answer that is longer
    /// than a connection takes then breaks nothing else. Opens the connections if `own` has none.
    pub async fn apart(&self, own: &mut Option<[Connection; 2]>, divisor: i64) -> Result<Pair> {
        let [source, target] = match own {
            Some(open) => open.clone(),
            None => {
                let (source, target) = tokio::try_join!(connect(&self.source.server), connect(&self.target.server))?;
                own.insert([source, target]).clone()
            }
        };
        let mut pair = Pair {
            apart: None,
            divisor,
            ..self.clone()
        };
        pair.source.connection = source.in_database(self.database);
        pair.target.connection = target.in_database(self.database);
        Ok(pair)
    }
}

fn knows_field_times(info: &Info) -> bool {
    match info.valkey_version {
        Some(version) => version >= Version::new(9, 0, 0),
        None => info.version >= Version::new(7, 4, 0),
    }
}

async fn connect(server: &Server) -> Result<Connection> {
    let mut connection = server.connect(0).await?;
    connection.answer_within(ANSWER_TIMEOUT);
    Ok(connection)
}

/// Sends the same commands to both sides at once. Errors of the servers are among the answers.
pub(super) async fn both(pair: &Pair, commands: &Pipeline) -> Result<(Vec<Value>, Vec<Value>)> {
    pair.turn(commands.cmd_iter().count()).await;
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
