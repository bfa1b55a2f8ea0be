//! What `down` removes, and what stays.

use super::cloud::{Address, Change, Sign};
use super::names::Names;
use crate::ui::size;
use serde::{Serialize, Serializer};
use std::fmt;

/// Everything of an environment that stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Ids of instances that are not terminated.
    pub instances: Vec<String>,
    pub addresses: Vec<Address>,
    /// Ids.
    pub groups: Vec<String>,
    pub role: bool,
    pub profile: bool,
    pub key_pair: bool,
    /// Full names.
    pub parameters: Vec<String>,
    pub bucket: bool,
    /// Objects under the environment's state, old versions counted.
    pub state_versions: usize,
    /// Objects under the environment's backups, old versions not counted.
    pub backups: usize,
    pub backup_bytes: u64,
    /// With old versions.
    pub backup_versions: usize,
}

/// One thing that is removed. They are listed in the order in which it happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removal {
    Instance {
        id: String,
    },
    Address(Address),
    Group {
        id: String,
        name: String,
    },
    Profile {
        name: String,
    },
    Role {
        name: String,
    },
    KeyPair {
        name: String,
    },
    Parameters {
        prefix: String,
        names: Vec<String>,
    },
    Backups {
        prefix: String,
        objects: usize,
        bytes: u64,
    },
    State {
        prefix: String,
    },
    /// Only when nothing is left in it: other environments may share it.
    EmptyBucket {
        name: String,
    },
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TeardownPlan {
    pub removals: Vec<Removal>,
    /// What stays, and why.
    pub kept: Vec<String>,
}

/// What to remove. Backups only when `delete_backups` says so.
pub fn teardown(names: &Names, standing: &Standing, delete_backups: bool) -> TeardownPlan {
    let mut plan = TeardownPlan::default();
    let removals = &mut plan.removals;
    let name = names.resource();
    removals.extend(standing.instances.iter().map(|id| Removal::Instance { id: id.clone() }));
    removals.extend(standing.addresses.iter().cloned().map(Removal::Address));
    removals.extend(standing.groups.iter().map(|id| Removal::Group {
        id: id.clone(),
        name: name.clone(),
    }));
    if standing.profile {
        removals.push(Removal::Profile { name: name.clone() });
    }
    if standing.role {
        removals.push(Removal::Role { name: name.clone() });
    }
    if standing.key_pair {
        removals.push(Removal::KeyPair { name });
    }
    if !standing.parameters.is_empty() {
        removals.push(Removal::Parameters {
            prefix: names.parameters(),
            names: standing.parameters.clone(),
        });
    }
    if !standing.bucket {
        return plan;
    }
    let bucket = names.bucket();
    if standing.backup_versions > 0 && delete_backups {
        removals.push(Removal::Backups {
            prefix: names.backups(),
            objects: standing.backups,
            bytes: standing.backup_bytes,
        });
    }
    if standing.state_versions > 0 {
        removals.push(Removal::State { prefix: names.state() });
    }
    if standing.backup_versions > 0 && !delete_backups {
        plan.kept.push(format!(
            "s3://{bucket}/{} ({} objects, {}): backups are removed only when that is asked for by name",
            names.backups(),
            size::count(standing.backups as u64),
            size::bytes(standing.backup_bytes)
        ));
        plan.kept.push(format!("bucket {bucket}: backups are in it"));
    } else {
        removals.push(Removal::EmptyBucket { name: bucket.into() });
    }
    plan
}

impl TeardownPlan {
    pub fn is_empty(&self) -> bool {
        self.removals.is_empty()
    }

    pub fn changes(&self) -> Vec<Change> {
        self.removals.iter().map(Removal::change).collect()
    }
}

impl Removal {
    pub fn change(&self) -> Change {
        let line = |resource, name: &str, detail: String| Change {
            sign: Sign::Remove,
            resource,
            name: name.to_string(),
            detail,
        };
        match self {
            Removal::Instance { id } => line("instance", id, "with its disk".into()),
            Removal::Address(address) => line("address", &address.public_ip, address.allocation_id.clone()),
            Removal::Group { id, name } => line("security group", name, id.clone()),
            Removal::Profile { name } => line("instance profile", name, String::new()),
            Removal::Role { name } => line("role", name, String::new()),
            Removal::KeyPair { name } => line("key pair", name, String::new()),
            Removal::Parameters { prefix, names } => line("parameters", prefix, format!("{} of them", names.len())),
            Removal::Backups { prefix, objects, bytes } => line(
                "backups",
                prefix,
                format!(
                    "{} objects, {}, with old versions",
                    size::count(*objects as u64),
                    size::bytes(*bytes)
                ),
            ),
            Removal::State { prefix } => line("state", prefix, "with old versions and journals".into()),
            Removal::EmptyBucket { name } => line("bucket", name, "if nothing else is in it".into()),
        }
    }
}

impl fmt::Display for TeardownPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for change in self.changes() {
            writeln!(f, "  {change}")?;
        }
        for kept in &self.kept {
            writeln!(f, "  = {kept}")?;
        }
        match self.removals.len() {
            0 => write!(f, "Nothing to remove."),
            count => write!(f, "Plan: {count} to remove."),
        }
    }
}

impl Serialize for TeardownPlan {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Shown<'a> {
            changes: Vec<Change>,
            kept: &'a [String],
        }
        let shown = Shown {
            changes: self.changes(),
            kept: &self.kept,
        };
        shown.serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        Names::new("demo", "production", "123456789012", "us-east-1").unwrap()
    }

    fn everything() -> Standing {
        Standing {
            instances: vec!["i-1".into(), "i-2".into()],
            addresses: vec![Address {
                allocation_id: "eipalloc-1".into(),
                public_ip: "192.0.2.1".into(),
                instance: Some("i-1".into()),
            }],
            groups: vec!["sg-1".into()],
            role: true,
            profile: true,
            key_pair: true,
            parameters: vec!["/infra/demo/production/ssh-key".into()],
            bucket: true,
            state_versions: 12,
            backups: 3,
            backup_bytes: 3 << 20,
            backup_versions: 4,
        }
    }

    #[test]
    fn backups_stay_unless_they_are_named() {
        insta::assert_snapshot!("keep_backups", teardown(&names(), &everything(), false));
        insta::assert_snapshot!("delete_backups", teardown(&names(), &everything(), true));
    }

    #[test]
    fn nothing_is_removed_twice() {
        let only_backups = Standing {
            bucket: true,
            backups: 3,
            backup_versions: 4,
            ..Standing::default()
        };
        assert!(teardown(&names(), &only_backups, false).is_empty());
        assert!(teardown(&names(), &Standing::default(), true).is_empty());
    }

    #[test]
    fn expired_backups_that_still_have_versions_count_as_backups() {
        let standing = Standing {
            bucket: true,
            backup_versions: 1,
            ..Standing::default()
        };
        assert_eq!(teardown(&names(), &standing, false).removals, []);
    }
}
