//! The app's writes: what each does in PostgreSQL and in Redis, and where its value is read back.

use redis::Cmd;
use serde::{Deserialize, Serialize};

use super::tables::{HOURS, Sizes};

/// Where a value is in Redis.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// A string.
    Key(String),
    /// A field of a hash.
    Field(String, String),
    /// The score of a member of a sorted set, which only grows.
    Score(String, String),
}

impl Place {
    /// Returns the command that reads the value.
    pub fn read(&self) -> Cmd {
        match self {
            Self::Key(key) => Cmd::get(key),
            Self::Field(key, field) => Cmd::hget(key, field),
            Self::Score(key, member) => Cmd::zscore(key, member),
        }
    }
}

/// One write of the app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// The row of a key gets a value, or it is deleted.
    Set {
        place: Place,
        sql: String,
        value: Option<String>,
    },
    /// A row's number grows by one.
    Hit { hour: String, app: String },
}

impl Write {
    pub fn place(&self) -> Place {
        match self {
            Self::Set { place, .. } => place.clone(),
            Self::Hit { hour, app } => Place::Score(format!("stats:{hour}"), app.clone()),
        }
    }

    /// Returns the value that the write sets; `None` for a deletion, and for a number that the server counts.
    pub fn value(&self) -> Option<String> {
        match self {
            Self::Set { value, .. } => value.clone(),
            Self::Hit { .. } => None,
        }
    }

    /// Returns the statement; that of a number that grows returns its new value.
    pub fn sql(&self) -> String {
        match self {
            Self::Set { sql, .. } => sql.clone(),
            Self::Hit { hour, app } => format!(
                "INSERT INTO stats VALUES ('{hour}', '{app}', 1) ON CONFLICT (hour, app) DO UPDATE SET hits = stats.hits + 1 RETURNING hits"
            ),
        }
    }

    /// Returns the command of Redis. `counted` is the number that PostgreSQL has counted; without it Redis counts.
    pub fn command(&self, counted: Option<&str>) -> Cmd {
        match (self, self.place()) {
            (Self::Set { value: Some(value), .. }, Place::Field(key, field)) => Cmd::hset(key, field, value),
            (Self::Set { value: Some(value), .. }, Place::Key(key) | Place::Score(key, _)) => Cmd::set(key, value),
            (Self::Set { value: None, .. }, Place::Key(key) | Place::Field(key, _) | Place::Score(key, _)) => {
                Cmd::del(key)
            }
            (Self::Hit { app, .. }, Place::Key(key) | Place::Field(key, _) | Place::Score(key, _)) => match counted {
                Some(counted) => redis::cmd("ZADD").arg(key).arg(counted).arg(app).take(),
                None => redis::cmd("ZINCRBY").arg(key).arg(1).arg(app).take(),
            },
        }
    }
}

/// Chooses the writes, the same ones for the same seed.
pub struct Choice {
    random: u64,
    sizes: Sizes,
}

impl Choice {
    pub(super) fn new(seed: u64, sizes: Sizes) -> Self {
        Choice {
            random: seed | 1,
            sizes,
        }
    }

    fn number(&mut self, below: u64) -> u64 {
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) % below.max(1)
    }

    /// Returns the next place that the app reads, and the statement that reads it.
    pub fn next_read(&mut self) -> (Place, String) {
        let user = self.number(self.sizes.markers);
        let sql = format!("SELECT status FROM markers WHERE user_id = {user} AND collection = 'timeline'");
        (Place::Key(format!("marker:{user}:timeline")), sql)
    }

    /// Returns the next write. Some are of rows that are not there yet.
    pub fn next(&mut self) -> Write {
        let kind = self.number(12);
        let user = self.number(self.sizes.markers + self.sizes.markers / 100 + 1);
        let token = format!(
            "token{}",
            self.number(self.sizes.sessions + self.sizes.sessions / 100 + 1)
        );
        let value = self.number(1_000_000).to_string();
        match kind {
            0..=4 => Write::Set {
                place: Place::Key(format!("marker:{user}:timeline")),
                sql: format!(
                    "INSERT INTO markers VALUES ({user}, 'timeline', {value}) ON CONFLICT (user_id, collection) DO UPDATE SET status = excluded.status"
                ),
                value: Some(value),
            },
            5 => Write::Set {
                place: Place::Key(format!("marker:{user}:timeline")),
                sql: format!("DELETE FROM markers WHERE user_id = {user} AND collection = 'timeline'"),
                value: None,
            },
            6..=7 => Write::Set {
                place: Place::Key(format!("session:{token}")),
                sql: format!(
                    "INSERT INTO sessions VALUES ('{token}', {value}) ON CONFLICT (token) DO UPDATE SET user_id = excluded.user_id"
                ),
                value: Some(value),
            },
            8 => Write::Set {
                place: Place::Key(format!("session:{token}")),
                sql: format!("DELETE FROM sessions WHERE token = '{token}'"),
                value: None,
            },
            9 => {
                let id = user % self.sizes.users.max(1);
                Write::Set {
                    place: Place::Field(format!("user:{id}"), "name".into()),
                    sql: format!("UPDATE users SET name = 'name {value}' WHERE id = {id}"),
                    value: Some(format!("name {value}")),
                }
            }
            _ => Write::Hit {
                hour: format!("2026-01-31T{}", user % HOURS),
                app: format!("app{}", self.number(self.sizes.apps)),
            },
        }
    }
}
