//! What `down` removes, and what stays.

use super::cloud::{Address, Change, LockMode, Sign};
use super::names::Names;
use crate::ui::size;
use jiff::Timestamp;
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
    /// The same, old versions not counted.
    pub state_objects: usize,
    /// Retentions that hold now.
    pub state_locked: Option<Locked>,
    pub backups_locked: Option<Locked>,
    /// Objects under the environment's backups, old versions not counted.
    pub backups: usize,
    pub backup_bytes: u64,
    /// With old versions.
    pub backup_versions: usize,
}

/// Objects that may not be removed before a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Locked {
    pub mode: LockMode,
    pub until: Timestamp,
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
        /// Until when nobody can remove it: its objects are then only marked as deleted.
        locked: Option<Timestamp>,
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
    /// Whether a retention in governance mode has to be passed by.
    pub governed: bool,
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
    let compliance = |locked: Option<Locked>| {
        locked
            .filter(|locked| locked.mode == LockMode::Compliance)
            .map(|locked| locked.until)
    };
    let (state_locked, backups_locked) = (compliance(standing.state_locked), compliance(standing.backups_locked));
    plan.governed = [standing.state_locked, standing.backups_locked]
        .iter()
        .flatten()
        .any(|locked| locked.mode == LockMode::Governance);
    let deletes_backups = delete_backups && backups_locked.is_none();
    if standing.backup_versions > 0 && deletes_backups {
        removals.push(Removal::Backups {
            prefix: names.backups(),
            objects: standing.backups,
            bytes: standing.backup_bytes,
        });
    }
    // What is locked and marked as deleted already needs nothing more.
    let state_is_there = match state_locked {
        Some(_) => standing.state_objects > 0,
        None => standing.state_versions > 0,
    };
    if state_is_there {
        removals.push(Removal::State {
            prefix: names.state(),
            locked: state_locked,
        });
    }
    if standing.backup_versions > 0 && !deletes_backups {
        let why = match (delete_backups, backups_locked) {
            (true, Some(until)) => format!(
                "locked in compliance mode: nobody can remove all of it before {until}; run `infra down` with --delete-backups again after that"
            ),
            _ => "backups are removed only when that is asked for by name".into(),
        };
        plan.kept.push(format!(
            "s3://{bucket}/{} ({} objects, {}): {why}",
            names.backups(),
            size::count(standing.backups as u64),
            size::bytes(standing.backup_bytes)
        ));
        plan.kept.push(format!("bucket {bucket}: backups are in it"));
    } else if let Some(until) = state_locked {
        plan.kept.push(format!(
            "bucket {bucket}: old versions of the state in it are locked in compliance mode until {until}"
        ));
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
            Removal::State { prefix, locked: None } => line("state", prefix, "with old versions and journals".into()),
            Removal::State {
                prefix,
                locked: Some(until),
            } => line(
                "state",
                prefix,
                format!("marked as deleted; its versions are locked until {until}"),
            ),
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
            state_objects: 3,
            state_locked: None,
            backups_locked: None,
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

    fn locked(mode: LockMode) -> Standing {
        let lock = Some(Locked {
            mode,
            until: Timestamp::from_second(1_800_000_000).unwrap(),
        });
        Standing {
            state_locked: lock,
            backups_locked: lock,
            ..everything()
        }
    }

    #[test]
    fn governance_is_passed_by_and_compliance_says_until_when() {
        let governed = teardown(&names(), &locked(LockMode::Governance), true);
        assert!(governed.governed);
        assert_eq!(governed.removals, teardown(&names(), &everything(), true).removals);

        let compliance = teardown(&names(), &locked(LockMode::Compliance), true);
        assert!(!compliance.governed);
        insta::assert_snapshot!("delete_backups_under_compliance", compliance);
        // Run once more: the state is marked as deleted, and nothing is left to do.
        let rest = Standing {
            bucket: true,
            state_versions: 12,
            backups: 3,
            backup_versions: 4,
            state_locked: locked(LockMode::Compliance).state_locked,
            backups_locked: locked(LockMode::Compliance).backups_locked,
            ..Standing::default()
        };
        assert!(teardown(&names(), &rest, true).is_empty());
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
