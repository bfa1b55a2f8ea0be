//! Finds what a copy would lose or fail on, such as modules. Reads INFO, CONFIG GET if the host
//! allows it, and a sample of keys. An unknown value is absent, never assumed.

mod calls;

use super::connection::Connection;
use super::control::{self, Permissions};
use super::key::Key;
use super::sample;
use crate::model::clock::milliseconds;
use crate::model::error::Result;
use ::redis::{Value, cmd};
use calls::{by_others, calls, looks};
use infra_agent::copy::CLIENT_NAME;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use wire::info::{Fields, Info};

/// Number of keys in the sample of types, over all databases.
const SAMPLED_KEYS: u64 = 1_000;
/// A copy reads larger keys in parts.
const LARGE: u64 = 1 << 20;
/// The search for the number of databases ends here, since nobody configures more.
const MOST_DATABASES: u32 = 65_536;
/// Types of values that every Redis and Valkey has.
const KINDS: [&str; 6] = ["string", "list", "set", "zset", "hash", "stream"];
/// Settings to read if CONFIG GET is allowed.
const SETTINGS: [&str; 5] = [
    "notify-keyspace-events",
    "client-output-buffer-limit",
    "databases",
    "timeout",
    "maxclients",
];

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// True if the data is split over several servers.
    pub cluster: bool,
    pub modules: Vec<String>,
    /// Types of values in the sample that are not Redis's own.
    pub foreign_kinds: BTreeSet<String>,
    pub sampled: u64,
    /// The sizes of the sampled keys, where the server tells them.
    pub sizes: Sizes,
    /// Keys with expiring fields (Redis 7.4, Valkey 9); `None` if the server does not count them.
    pub expiring_fields: Option<u64>,
    pub functions: u64,
    pub cached_scripts: u64,
    /// Calls by command, in lower case; a subcommand is written `config|get`.
    pub commands: BTreeMap<String, u64>,
    /// Calls between the two readings that were not ours.
    pub watched: BTreeMap<String, u64>,
    /// Looks of ours before this one, as the source counts them; `None` if it does not.
    pub earlier_looks: Option<u64>,
    pub clients: Clients,
    pub syncs: Syncs,
    pub backlog_bytes: u64,
    pub writes: Rate,
    /// Everything that clients send in a second, in bytes.
    pub input_bytes_per_s: u64,
    /// `min-replicas-to-write`; `None` if it is not set.
    pub near_replicas: Option<u64>,
    /// `None` if CONFIG GET is denied.
    pub settings: Option<BTreeMap<String, String>>,
    /// Number of databases that the server allows; `None` if it is not known.
    pub databases: Option<u32>,
}

/// The sizes of some keys, in bytes of the server's memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// The largest string, which one command writes.
    pub longest_string: u64,
    /// Keys that a copy reads in parts.
    pub large: u64,
    /// Those of them that it has to read anew after a write: lists, strings, and types of modules.
    pub whole: Vec<Large>,
    /// For how long their writes were counted; `None` if they were not.
    pub looked: Option<Duration>,
}

/// A large key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Large {
    pub key: Key,
    pub bytes: u64,
    pub writes: u64,
}

impl Sizes {
    pub(super) fn note(&mut self, key: Key, kind: &str, bytes: u64) {
        if kind == "string" {
            self.longest_string = self.longest_string.max(bytes);
        }
        if bytes <= LARGE {
            return;
        }
        self.large += 1;
        if !["hash", "set", "zset", "stream"].contains(&kind) {
            self.whole.push(Large { key, bytes, writes: 0 });
        }
    }
}

/// Connections to the server, without the one that looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clients {
    pub connected: u64,
    pub replicas: u64,
    /// Those of a copy that runs, which are among the connected; zero too where the list or the names of clients are denied.
    pub of_copy: u64,
    /// How many the server takes, replicas among them; `None` if it does not say.
    pub most: Option<u64>,
}

/// Full copies that the server made for replicas.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Syncs {
    pub full: u64,
    /// Replicas that asked to continue and had to copy everything.
    pub refused: u64,
    pub uptime_seconds: u64,
    /// True if another full copy began between the two readings.
    pub growing: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rate {
    pub bytes_per_s: u64,
    /// True if taken from the replication offset. Otherwise it is all input of clients.
    pub measured: bool,
}

/// Returns how many connections a copy that runs has.
async fn of_copy(connection: &mut Connection) -> u64 {
    let Ok(clients) = control::clients(connection).await else {
        return 0;
    };
    let of_copy = clients.iter().filter(|client| client.name == CLIENT_NAME);
    of_copy.count().try_into().unwrap_or(u64::MAX)
}

impl Survey {
    /// The time between two readings of INFO, which show rates and calls of others.
    pub async fn read(connection: &mut Connection, watching: Duration) -> Result<(Survey, Permissions)> {
        connection.count_commands();
        let begun = Instant::now();
        let first = text(connection).await?;
        let mut survey = Survey::parse(&first);
        survey.settings = settings(connection).await?;
        survey.databases = databases(connection, survey.settings.as_ref()).await?;
        let most = survey.settings.as_ref().and_then(|settings| settings.get("maxclients"));
        survey.clients.most = (survey.clients.most).or_else(|| most.and_then(|most| most.parse().ok()));
        survey.sample(connection, &first).await?;
        let permissions = control::permissions(connection).await?;
        survey.clients.of_copy = of_copy(connection).await;
        tokio::time::sleep(watching.saturating_sub(begun.elapsed())).await;
        let sent = connection.sent();
        let second = text(connection).await?;
        survey.compare(&first, &second, begun.elapsed());
        survey.watched = by_others(&calls(&first), &calls(&second), &sent);
        // If this look is not counted, earlier ones were not either.
        survey.earlier_looks = (looks(&second) > looks(&first)).then(|| looks(&first));
        Ok((survey, permissions))
    }

    pub(super) fn parse(text: &str) -> Survey {
        let fields = Fields::read(text);
        let number = |name: &str| fields.number::<u64>(name).unwrap_or(0);
        Survey {
            cluster: fields.flag("cluster_enabled"),
            modules: modules(text),
            expiring_fields: expiring_fields(text),
            functions: number("number_of_functions"),
            cached_scripts: number("number_of_cached_scripts"),
            commands: calls(text),
            clients: Clients {
                connected: number("connected_clients").saturating_sub(1),
                replicas: number("connected_slaves"),
                of_copy: 0,
                most: fields.number("maxclients").ok(),
            },
            syncs: Syncs {
                full: number("sync_full"),
                refused: number("sync_partial_err"),
                uptime_seconds: number("uptime_in_seconds"),
                growing: false,
            },
            backlog_bytes: number("repl_backlog_size"),
            // INFO has this line only if min-replicas-to-write is set.
            near_replicas: fields.number("min_slaves_good_slaves").ok(),
            ..Survey::default()
        }
    }

    /// Computes rates and changes from two readings of INFO.
    fn compare(&mut self, first: &str, second: &str, between: Duration) {
        let (first, second) = (Fields::read(first), Fields::read(second));
        let number = |fields: &Fields, name: &str| fields.number::<u64>(name).unwrap_or(0);
        self.syncs.growing = number(&second, "sync_full") > number(&first, "sync_full");
        let kilobytes: f64 = second.number("instantaneous_input_kbps").unwrap_or(0.0);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rate that a float holds, not below zero; the cast saturates"
        )]
        let input = (kilobytes.max(0.0) * 1024.0) as u64;
        self.input_bytes_per_s = input;
        self.writes = if first.flag("repl_backlog_active") && first.said("role") == Some("master") {
            let bytes = number(&second, "master_repl_offset").saturating_sub(number(&first, "master_repl_offset"));
            let milliseconds = milliseconds(between).max(1);
            Rate {
                bytes_per_s: bytes.saturating_mul(1000) / milliseconds,
                measured: true,
            }
        } else {
            Rate {
                bytes_per_s: input,
                measured: false,
            }
        };
    }

    /// Asks some keys of every database for their type.
    async fn sample(&mut self, connection: &Connection, info: &str) -> Result<()> {
        let databases = databases_with_keys(info);
        let Some(each) = SAMPLED_KEYS.checked_div(databases.len() as u64) else {
            return Ok(());
        };
        for database in databases {
            let mut connection = connection.in_database(database);
            let mut kinds = ::redis::pipe();
            let many = usize::try_from(each).unwrap_or(usize::MAX).max(1);
            let sampled = sample::keys(&mut connection, many, 0).await?;
            for key in &sampled {
                kinds.cmd("TYPE").arg(key).cmd("MEMORY").arg("USAGE").arg(key);
            }
            let answers = connection.ask_all(&kinds).await?;
            for (key, pair) in sampled.iter().zip(answers.chunks(2)) {
                if let Some(Value::SimpleString(kind)) = pair.first()
                    && kind != "none"
                {
                    self.sampled += 1;
                    if let Some(Value::Int(bytes)) = pair.get(1) {
                        let name = key.clone();
                        let bytes = u64::try_from(*bytes).unwrap_or(0);
                        self.sizes.note(Key { database, name }, kind, bytes);
                    }
                    if !KINDS.contains(&kind.as_str()) {
                        self.foreign_kinds.insert(kind.clone());
                    }
                }
            }
        }
        Ok(())
    }
}

/// Returns INFO with calls by command; the default INFO if a host does not know `everything`.
async fn text(connection: &mut Connection) -> Result<String> {
    match connection.ask(cmd("INFO").arg("everything")).await? {
        Value::BulkString(bytes) if bytes.windows(5).any(|window| window == b"role:") => {
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        }
        Value::VerbatimString { text, .. } => Ok(text),
        _ => match connection.ask(&cmd("INFO")).await? {
            Value::ServerError(error) => match connection.parts_of_info().await? {
                Some(text) => Ok(text),
                None => Err(connection.explain("INFO", error.into())),
            },
            reply => ::redis::from_redis_value(reply).map_err(|cause| connection.explain("INFO", cause.into())),
        },
    }
}

async fn settings(connection: &mut Connection) -> Result<Option<BTreeMap<String, String>>> {
    let mut asked = ::redis::pipe();
    for name in SETTINGS {
        asked.cmd("CONFIG").arg("GET").arg(name);
    }
    let mut settings = BTreeMap::new();
    for answer in connection.ask_all(&asked).await? {
        match ::redis::from_redis_value::<Vec<String>>(answer) {
            Ok(pair) if pair.len() == 2 => settings.insert(pair[0].clone(), pair[1].clone()),
            Ok(_) => None,
            Err(_) => return Ok(None),
        };
    }
    Ok(Some(settings))
}

/// Returns the settings that the pair takes over: more than 16 databases, keyspace notifications.
pub async fn followed_settings(connection: &mut Connection) -> Result<BTreeMap<String, String>> {
    let seen = settings(connection).await?;
    let databases = databases(connection, seen.as_ref()).await?;
    Ok(followed(seen.as_ref(), databases))
}

fn followed(seen: Option<&BTreeMap<String, String>>, databases: Option<u32>) -> BTreeMap<String, String> {
    let mut settings = BTreeMap::new();
    if let Some(databases) = databases.filter(|databases| *databases > 16) {
        settings.insert("databases".into(), databases.to_string());
    }
    if let Some(events) = seen.and_then(|seen| seen.get("notify-keyspace-events"))
        && !events.is_empty()
    {
        settings.insert("notify-keyspace-events".into(), events.clone());
    }
    settings
}

/// Returns the number of databases by CONFIG, or else by trying SELECT.
async fn databases(connection: &Connection, settings: Option<&BTreeMap<String, String>>) -> Result<Option<u32>> {
    if let Some(databases) = settings
        .and_then(|settings| settings.get("databases"))
        .and_then(|text| text.parse().ok())
    {
        return Ok(Some(databases));
    }
    let takes = async |database: u32| -> Result<bool> {
        // The connection is in database 0 again after each try.
        let mut tries = ::redis::pipe();
        tries.cmd("SELECT").arg(database).cmd("SELECT").arg(0);
        let answers = connection.clone().ask_all(&tries).await?;
        Ok(answers.first() == Some(&Value::Okay))
    };
    if !takes(0).await? {
        return Ok(None);
    }
    // The highest number that SELECT took, and the lowest that it refused.
    let (mut taken, mut refused) = (0, 16);
    while takes(refused).await? {
        taken = refused;
        refused *= 2;
        if refused > MOST_DATABASES {
            return Ok(Some(MOST_DATABASES));
        }
    }
    // Below the default of 16 the exact number does not matter.
    while taken >= 16 && refused - taken > 1 {
        let middle = taken + (refused - taken) / 2;
        if takes(middle).await? {
            taken = middle;
        } else {
            refused = middle;
        }
    }
    Ok(Some(refused))
}

/// `module:name=ReJSON,ver=20607,…`
fn modules(text: &str) -> Vec<String> {
    text.lines()
        .filter_map(|line| line.strip_prefix("module:name="))
        .filter_map(|rest| rest.trim_end().split(',').next().map(str::to_string))
        .collect()
}

fn databases_with_keys(text: &str) -> Vec<u32> {
    Info::parse(text)
        .map(|info| info.keyspace.into_keys())
        .into_iter()
        .flatten()
        .collect()
}

/// Returns the number of hashes with such fields, over all databases.
fn expiring_fields(text: &str) -> Option<u64> {
    let databases = Fields::read(text).databases();
    let counts: Vec<u64> = databases.values().filter_map(Fields::expiring_fields).collect();
    (!counts.is_empty()).then(|| counts.iter().fold(0, |all: u64, count| all.saturating_add(*count)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effects::redis::testing::{TestServer, command};
    use crate::model::secret::Secret;

    const SHORTLY: Duration = Duration::from_millis(500);

    #[test]
    fn the_largest_string_and_the_large_keys_that_are_read_anew_are_kept_of_all_sizes() {
        let mut sizes = Sizes::default();
        for (key, kind, megabytes) in [
            ("a", "hash", 9),
            ("b", "string", 2),
            ("c", "list", 3),
            ("d", "string", 1),
            ("e", "stream", 7),
        ] {
            let name = key.into();
            sizes.note(Key { database: 2, name }, kind, megabytes << 20);
        }
        assert_eq!((sizes.large, sizes.longest_string), (4, 2 << 20));
        let whole: Vec<(&[u8], u64)> = sizes
            .whole
            .iter()
            .map(|large| (&*large.key.name, large.bytes))
            .collect();
        assert_eq!(whole, [(&b"b"[..], 2 << 20), (b"c", 3 << 20)]);
    }

    #[test]
    fn modules_fields_and_commands_are_read_from_info() {
        let text = "role:master\r\n# Modules\r\nmodule:name=ReJSON,ver=20607,api=1\r\nmodule:name=bf,ver=2\r\ncluster_enabled:1\r\nmin_slaves_good_slaves:2\r\n\
                    # Commandstats\r\ncmdstat_get:calls=7,usec=1\r\ncmdstat_config|get:calls=2,usec=1\r\ncmdstat_keys:calls=0,usec=0,rejected_calls=3\r\n\
                    # Keyspace\r\ndb0:keys=5,expires=1,avg_ttl=0,subexpiry=2\r\ndb3:keys=1,expires=0,avg_ttl=0,subexpiry=4\r\n";
        let survey = Survey::parse(text);
        assert_eq!(survey.modules, ["ReJSON", "bf"]);
        assert_eq!(survey.expiring_fields, Some(6));
        assert_eq!(survey.near_replicas, Some(2));
        assert!(survey.cluster);
        assert_eq!(
            survey.commands,
            BTreeMap::from([("get".into(), 7), ("config|get".into(), 2)])
        );
        let fields = |text: &str| Survey::parse(text).expiring_fields;
        assert_eq!(fields("db0:keys=1,expires=0,avg_ttl=0\r\n"), None);
        assert_eq!(fields("db0:keys=1,avg_ttl=0,keys_with_volatile_items=3\r\n"), Some(3));
    }

    #[tokio::test]
    async fn databases_settings_and_rate_of_a_real_server_are_read() {
        let server = TestServer::start(&[
            "--databases",
            "37",
            "--notify-keyspace-events",
            "Ex",
            "--timeout",
            "300",
        ])
        .await;
        let replica = TestServer::replica_of(&server).await;
        server.script("SET a 1\n20> HSET b f v\n20> XADD c * f v").await;
        let mut connection = server.connect(0).await;
        let (survey, _) = Survey::read(&mut connection, SHORTLY).await.unwrap();
        assert_eq!(survey.databases, Some(37));
        // One key in one database and two in the other.
        assert_eq!(survey.sampled, 3, "{survey:?}");
        assert!(survey.foreign_kinds.is_empty() && survey.modules.is_empty() && !survey.cluster);
        assert!(survey.writes.measured && survey.commands["set"] == 1, "{survey:?}");
        // On a busy computer the replica may have begun its copy twice.
        assert!(survey.syncs.full >= 1);
        let settings = survey.settings.unwrap();
        assert_eq!(settings["timeout"], "300");
        assert!(
            settings["client-output-buffer-limit"].contains("slave 268435456"),
            "{settings:?}"
        );
        assert_eq!(
            followed_settings(&mut connection).await.unwrap(),
            BTreeMap::from([
                ("databases".into(), "37".into()),
                ("notify-keyspace-events".into(), "xE".into())
            ])
        );
        drop(replica);
    }

    #[tokio::test]
    async fn databases_are_found_by_select_if_config_is_denied() {
        for (databases, found) in [("4", 16), ("16", 16), ("17", 17), ("100", 100)] {
            let server = TestServer::start(&["--databases", databases]).await;
            server.script("ACL SETUSER app on >pw ~* &* +@all -config").await;
            let mut bound = server.server();
            (bound.user, bound.password) = (Some("app".into()), Some(Secret::new("pw")));
            let mut connection = bound.connect(0).await.unwrap();
            let (survey, _) = Survey::read(&mut connection, SHORTLY).await.unwrap();
            assert_eq!((survey.settings, survey.databases), (None, Some(found)), "{databases}");
        }
    }

    #[tokio::test]
    async fn connections_are_counted_without_the_one_that_looks() {
        let server = TestServer::start(&["--maxclients", "12"]).await;
        let replica = TestServer::replica_of(&server).await;
        let held = [server.connect(0).await, server.connect(0).await];
        let mut connection = server.connect(0).await;
        let (survey, _) = Survey::read(&mut connection, Duration::ZERO).await.unwrap();
        let expected = Clients {
            connected: 2,
            replicas: 1,
            of_copy: 0,
            most: Some(12),
        };
        assert_eq!(survey.clients, expected);
        let mut copying = server.connect(0).await;
        copying
            .query::<()>(&command(&format!("CLIENT SETNAME {CLIENT_NAME}")))
            .await
            .unwrap();
        let (survey, _) = Survey::read(&mut connection, Duration::ZERO).await.unwrap();
        assert_eq!((survey.clients.connected, survey.clients.of_copy), (3, 1));
        drop((held, replica, copying));
    }
}
