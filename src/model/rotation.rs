//! How far the replacement of a password is. Stored before each stage's effect, so that whoever comes next goes on from it.

use super::secrets::RedisUser;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;

#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub struct Rotation {
    pub user: RedisUser,
    pub stage: Stage,
    pub begun_at: Timestamp,
    /// Users whose turn comes after this one's.
    #[serde(default)]
    pub left: Vec<RedisUser>,
    /// What the master's connections were when whoever uses the password was told of the new one.
    #[serde(default)]
    pub told: Option<ConnectionMark>,
}

/// A place in the order of a server's connections: ids rise as long as it runs.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub struct ConnectionMark {
    pub run_id: String,
    /// Connections with a lower id were made before.
    pub connection: u64,
}

/// Which passwords are accepted, and which is used.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Both hosts come to accept both; the old one is used.
    Adding,
    /// Both are accepted; whoever uses it comes to use the new one.
    Switching,
    /// The new one alone is used, and comes to be the only one that is accepted.
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

    /// The rotation after this one, if there is one to come.
    pub fn next(&self, now: Timestamp) -> Option<Rotation> {
        let (user, left) = self.left.split_first()?;
        Some(Rotation::begin(*user, left.to_vec(), now))
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stage::Adding => "the hosts come to accept both passwords",
            Stage::Switching => "both passwords are accepted, and the new one comes into use",
            Stage::Removing => "the old password comes to be refused",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_user_follows_the_other_until_none_is_left() {
        let now = Timestamp::UNIX_EPOCH;
        let first = Rotation::begin(RedisUser::App, vec![RedisUser::Backup, RedisUser::Admin], now);
        let second = first.next(now).unwrap();
        assert_eq!((second.user, second.left.len()), (RedisUser::Backup, 1));
        let third = second.next(now).unwrap();
        assert_eq!(third.user, RedisUser::Admin);
        assert_eq!(third.next(now), None);
    }
}
