//! The reply to INFO, as a value or by the names of its fields.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::str::FromStr;

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Info {
    pub engine: Engine,
    /// The version of Redis, or the one of Redis that Valkey says it is compatible with.
    pub version: Version,
    /// Valkey's own version.
    pub valkey_version: Option<Version>,
    pub run_id: String,
    pub uptime_seconds: u64,
    pub role: ServerRole,
    /// Replication id; changes with a promotion and with a restart that lost the old one.
    pub replid: String,
    /// The id before the last promotion; absent where there was none.
    pub previous_replid: Option<String>,
    /// Up to which offset the stream is that of the previous id: what came after the promotion begins behind it.
    pub promoted_at_offset: Option<u64>,
    /// On a master: how far its stream of writes is.
    pub master_repl_offset: u64,
    /// On a replica: how far it has *applied* its master's stream (`slave_repl_offset`, not the read one).
    pub applied_offset: Option<u64>,
    /// True if the server keeps a backlog. Without one its offset does not move on writes.
    pub backlog_active: bool,
    /// The oldest offset from which a stream can be continued.
    pub backlog_first_byte_offset: u64,
    /// On a replica: the link to its master.
    pub link: Option<Link>,
    /// Reading its data set from disk or from its master.
    pub loading: bool,
    pub used_memory: u64,
    /// Zero: no limit.
    pub maxmemory: u64,
    pub maxmemory_policy: String,
    pub evicted_keys: u64,
    pub own_removals: OwnRemovals,
    /// The number of clients, replicas not counted.
    pub connected_clients: u64,
    /// How many clients the server takes, replicas among them; `None` before Redis 6.2.
    pub max_clients: Option<u64>,
    pub replicas: Vec<Replica>,
    /// By database number; databases without keys are not in it.
    pub keyspace: BTreeMap<u32, Keyspace>,
    pub persistence: Persistence,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    Redis,
    Valkey,
}

/// The present role of a server, by its own account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ServerRole {
    Master,
    Replica,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    pub major: u32,
    pub minor: u32,
    pub patch: u32,
}

impl Version {
    pub const fn new(major: u32, minor: u32, patch: u32) -> Self {
        Version { major, minor, patch }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

impl Serialize for Version {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl FromStr for Version {
    type Err = String;

    /// Reads the first three numbers; what follows them (`-rc1`) does not matter.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut numbers = text.split(['.', '-']).map(str::parse::<u32>);
        match (numbers.next(), numbers.next(), numbers.next()) {
            (Some(Ok(major)), Some(Ok(minor)), patch) => {
                Ok(Version::new(major, minor, patch.and_then(Result::ok).unwrap_or(0)))
            }
            _ => Err(format!("{text:?} is not a version")),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Link {
    pub host: String,
    pub port: u16,
    pub up: bool,
    /// A full copy under way.
    pub sync: Option<Sync>,
}

/// Progress of a full copy. The total is unknown while the master streams without a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Sync {
    pub total_bytes: Option<u64>,
    pub read_bytes: u64,
    pub left_bytes: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Replica {
    pub ip: String,
    pub port: u16,
    /// `online` when it receives the stream.
    pub state: String,
    /// The offset that it acknowledged last.
    pub offset: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Keyspace {
    pub keys: u64,
    /// How many of them have a time to live.
    pub expires: u64,
    /// How many of them are hashes with fields that have a time to live; absent where the server does not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expiring_fields: Option<u64>,
}

/// Keys and fields that a server removed by itself since it started. Its stream shows each like a client's DEL or HDEL.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
pub struct OwnRemovals {
    pub expired_keys: u64,
    pub evicted_keys: u64,
    pub expired_fields: u64,
}

impl OwnRemovals {
    /// Returns what was removed since an earlier look; zero for a counter that was reset meanwhile.
    pub fn since(self, earlier: OwnRemovals) -> OwnRemovals {
        OwnRemovals {
            expired_keys: self.expired_keys.saturating_sub(earlier.expired_keys),
            evicted_keys: self.evicted_keys.saturating_sub(earlier.evicted_keys),
            expired_fields: self.expired_fields.saturating_sub(earlier.expired_fields),
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Persistence {
    pub aof_enabled: bool,
    pub aof_rewrite_in_progress: bool,
    pub aof_rewrite_scheduled: bool,
    pub aof_last_rewrite_ok: bool,
    pub aof_last_write_ok: bool,
    /// Writes since the last save to an RDB file, the server's own removals among them; absent where it does not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unsaved_changes: Option<u64>,
    /// When that save was, seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_save: Option<i64>,
}

impl Persistence {
    /// Returns why the append-only log cannot be relied on; `None` if it is on and its last rewrite and write succeeded.
    pub fn log_fault(&self) -> Option<&'static str> {
        if !self.aof_enabled {
            Some("it is off")
        } else if !self.aof_last_write_ok {
            Some("its last write failed")
        } else if !self.aof_last_rewrite_ok {
            Some("its last rewrite failed")
        } else {
            None
        }
    }

    /// Returns whether the log is being rewritten or about to be. After a full copy the log is not in force until
    /// that rewrite ends; INFO does not tell such a rewrite from a plain one, which is harmless.
    pub fn log_is_rewritten(&self) -> bool {
        self.aof_rewrite_in_progress || self.aof_rewrite_scheduled
    }
}

impl Info {
    /// The version of the program itself, whichever engine it is.
    pub fn own_version(&self) -> Version {
        self.valkey_version.unwrap_or(self.version)
    }

    /// Keys over all databases.
    pub fn keys(&self) -> u64 {
        (self.keyspace.values()).fold(0, |all, database| all.saturating_add(database.keys))
    }

    /// Reads the sections that a server gives if it refuses INFO as a whole. What it says nothing of has no value: such a server's stream is watched by
    /// nobody, and it is taken for a master.
    pub fn parse_parts(text: &str) -> Result<Info, String> {
        let usual = [
            ("role", "master"),
            ("run_id", ""),
            ("master_replid", ""),
            ("master_repl_offset", "0"),
            ("used_memory", "0"),
        ];
        let mut whole = text.to_owned();
        let fields = Fields::read(text);
        for (name, value) in usual {
            if fields.said(name).is_none() {
                whole += &format!("\r\n{name}:{value}");
            }
        }
        Info::parse(&whole)
    }

    /// Reads a reply to INFO. The error names the first field that is missing or unreadable.
    pub fn parse(text: &str) -> Result<Info, String> {
        let fields = Fields::read(text);
        let role = match fields.text("role")? {
            "master" => ServerRole::Master,
            "slave" | "replica" => ServerRole::Replica,
            other => return Err(format!("role is {other:?}")),
        };
        let valkey_version = fields.0.get("valkey_version").map(|text| text.parse()).transpose()?;
        let nothing = |replid: &&str| !replid.is_empty() && replid.bytes().any(|byte| byte != b'0');
        Ok(Info {
            engine: if valkey_version.is_some() {
                Engine::Valkey
            } else {
                Engine::Redis
            },
            version: fields.text("redis_version")?.parse()?,
            valkey_version,
            run_id: fields.text("run_id")?.into(),
            uptime_seconds: fields.number("uptime_in_seconds").unwrap_or(0),
            role,
            replid: fields.text("master_replid")?.into(),
            previous_replid: fields
                .0
                .get("master_replid2")
                .copied()
                .filter(nothing)
                .map(str::to_owned),
            // The server tells the offset of the first byte after it, and -1 for none.
            promoted_at_offset: fields
                .offset("second_repl_offset")
                .ok()
                .and_then(|offset| offset.checked_sub(1)),
            master_repl_offset: fields.offset("master_repl_offset")?,
            applied_offset: match role {
                ServerRole::Master => None,
                ServerRole::Replica => Some(fields.offset("slave_repl_offset")?),
            },
            backlog_active: fields.flag("repl_backlog_active"),
            backlog_first_byte_offset: fields.offset("repl_backlog_first_byte_offset").unwrap_or(0),
            link: match role {
                ServerRole::Master => None,
                ServerRole::Replica => Some(fields.link()?),
            },
            loading: fields.flag("loading"),
            used_memory: fields.number("used_memory")?,
            maxmemory: fields.number("maxmemory").unwrap_or(0),
            maxmemory_policy: fields.0.get("maxmemory_policy").copied().unwrap_or_default().into(),
            evicted_keys: fields.number("evicted_keys").unwrap_or(0),
            own_removals: fields.own_removals(),
            connected_clients: fields.number("connected_clients").unwrap_or(0),
            max_clients: fields.number("maxclients").ok(),
            replicas: fields.replicas()?,
            keyspace: fields.keyspace()?,
            persistence: Persistence {
                aof_enabled: fields.flag("aof_enabled"),
                aof_rewrite_in_progress: fields.flag("aof_rewrite_in_progress"),
                aof_rewrite_scheduled: fields.flag("aof_rewrite_scheduled"),
                aof_last_rewrite_ok: fields.0.get("aof_last_bgrewrite_status") == Some(&"ok"),
                aof_last_write_ok: fields.0.get("aof_last_write_status") == Some(&"ok"),
                unsaved_changes: fields.number("rdb_changes_since_last_save").ok(),
                last_save: fields.number("rdb_last_save_time").ok(),
            },
        })
    }
}

/// The lines of INFO, or the pairs of one of them, by their names.
pub struct Fields<'a>(HashMap<&'a str, &'a str>);

impl<'a> Fields<'a> {
    pub fn read(text: &'a str) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        Fields(lines.filter_map(|line| line.trim_end().split_once(':')).collect())
    }

    /// Reads a line that has pairs: `keys=5,expires=1`.
    fn pairs(line: &'a str) -> Self {
        Fields(line.split(',').filter_map(|pair| pair.split_once('=')).collect())
    }

    /// Returns the pairs of each database that has keys.
    pub fn databases(&self) -> BTreeMap<u32, Fields<'a>> {
        let database = |name: &str| name.strip_prefix("db")?.parse().ok();
        self.0
            .iter()
            .filter_map(|(name, line)| Some((database(name)?, Fields::pairs(line))))
            .collect()
    }

    fn text(&self, name: &str) -> Result<&'a str, String> {
        self.0.get(name).copied().ok_or_else(|| format!("{name} is missing"))
    }

    pub fn number<T: FromStr>(&self, name: &str) -> Result<T, String> {
        let text = self.text(name)?;
        text.parse()
            .map_err(|_| format!("{name} is {text:?}, not a number that it can be"))
    }

    /// An offset of a stream: the server's own counter has 63 bits, and with more than that nothing can be added to it.
    fn offset(&self, name: &str) -> Result<u64, String> {
        let offset: i64 = self.number(name)?;
        u64::try_from(offset)
            .ok()
            .filter(|offset| *offset < 1 << 62)
            .ok_or_else(|| format!("{name} is {offset}, not an offset that it can be"))
    }

    pub fn flag(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(|value| *value != "0")
    }

    fn link(&self) -> Result<Link, String> {
        let sync = self.flag("master_sync_in_progress").then(|| Sync {
            // Without a file to send the total is 0 and what is left negative.
            total_bytes: self.number("master_sync_total_bytes").ok().filter(|total| *total > 0),
            read_bytes: self.number("master_sync_read_bytes").unwrap_or(0),
            left_bytes: self.number("master_sync_left_bytes").ok(),
        });
        Ok(Link {
            host: self.text("master_host")?.into(),
            port: self.number("master_port")?,
            up: self.text("master_link_status")? == "up",
            sync,
        })
    }

    /// Redis counts `expired_subkeys`, Valkey `expired_fields`.
    fn own_removals(&self) -> OwnRemovals {
        let count = |name: &str| self.number(name).unwrap_or(0);
        OwnRemovals {
            expired_keys: count("expired_keys"),
            evicted_keys: count("evicted_keys"),
            expired_fields: count("expired_subkeys").max(count("expired_fields")),
        }
    }

    /// Returns how many hashes of a database have fields with a time to live. Redis names it one way, Valkey the other.
    pub fn expiring_fields(&self) -> Option<u64> {
        self.number("subexpiry")
            .or_else(|_| self.number("keys_with_volatile_items"))
            .ok()
    }

    /// Returns the server's words under a name.
    pub fn said(&self, name: &str) -> Option<&'a str> {
        self.0.get(name).copied()
    }

    fn replicas(&self) -> Result<Vec<Replica>, String> {
        (0..)
            .map_while(|index| self.0.get(format!("slave{index}").as_str()))
            .map(|line| {
                let pairs = Fields::pairs(line);
                Ok(Replica {
                    ip: pairs.text("ip")?.into(),
                    port: pairs.number("port")?,
                    state: pairs.text("state")?.into(),
                    offset: pairs.offset("offset")?,
                })
            })
            .collect()
    }

    fn keyspace(&self) -> Result<BTreeMap<u32, Keyspace>, String> {
        self.databases()
            .into_iter()
            .map(|(database, pairs)| {
                let keyspace = Keyspace {
                    keys: pairs.number("keys")?,
                    expires: pairs.number("expires").unwrap_or(0),
                    expiring_fields: pairs.expiring_fields(),
                };
                Ok((database, keyspace))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests;
