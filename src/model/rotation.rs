//! The progress of a password rotation, stored before each effect for the next run to continue.

use super::secrets::RedisUser;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;

#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub struct Rotation {
    pub user: RedisUser,
    pub stage: Stage,
    pub begun_at: Timestamp,
    /// Users to rotate after this one.
    #[serde(default)]
    pub left: Vec<RedisUser>,
    /// The master's connections when the users of the password got the new one.
    #[serde(default)]
    pub told: Option<ConnectionMark>,
}

/// A place in the order of a server's connections: ids grow while it runs.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub struct ConnectionMark {
    pub run_id: String,
    /// Connections with a lower id are older.
    pub connection: u64,
}

/// The steps of a rotation: which passwords are accepted, and which one is used.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Both hosts learn to accept both; the old one is used.
    Adding,
    /// Both are accepted; its users change to the new one.
    Switching,
    /// Only the new one is used; the hosts learn to refuse the old one.
    Removing,
}

impl Rotation {
    pub fn begin(user: RedisUser, left: Vec<RedisUser>, now: Timestamp) -> Self {
        Rotation {
            user,
            stage: Stage::Adding,
            begun_at: now,
            left,
            told: None,
        }
    }

    pub fn next(&self, now: Timestamp) -> Option<Rotation> {
        let (user, left) = self.left.split_first()?;
        Some(Rotation::begin(*user, left.to_vec(), now))
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stage::Adding => "the hosts begin to accept both passwords",
            Stage::Switching => "both passwords are accepted, and the new one comes into use",
            Stage::Removing => "the hosts begin to refuse the old password",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_rotated_one_by_one_until_none_is_left() {
        let now = Timestamp::UNIX_EPOCH;
        let first = Rotation::begin(RedisUser::App, vec![RedisUser::Backup, RedisUser::Admin], now);
        let second = first.next(now).unwrap();
        assert_eq!((second.user, second.left.len()), (RedisUser::Backup, 1));
        let third = second.next(now).unwrap();
        assert_eq!(third.user, RedisUser::Admin);
        assert_eq!(third.next(now), None);
    }
}
