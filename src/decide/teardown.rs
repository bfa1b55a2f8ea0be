//! Decides what `down` removes, and what stays.

use crate::model::cloud::{LockMode, Locked, Removal, Standing, TeardownPlan};
use crate::model::names::Names;
use crate::model::size;

/// Returns what to remove. Backups are removed only if `delete_backups` says so.
pub fn teardown(names: &Names, standing: &Standing, delete_backups: bool) -> TeardownPlan {
    let mut plan = TeardownPlan::default();
    let removals = &mut plan.removals;
    let name = names.resource();
    removals.extend(standing.instances.iter().map(|id| Removal::Instance { id: id.clone() }));
    removals.extend(standing.addresses.iter().cloned().map(Removal::Address));
    removals.extend(standing.fences.iter().cloned().map(Removal::Fence));
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
    // A locked state that is already marked as deleted needs nothing more.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::cloud::Address;
    use jiff::Timestamp;

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
            fences: Vec::new(),
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
    fn governance_is_bypassed_and_a_compliance_lock_is_shown_with_its_end() {
        let governed = teardown(&names(), &locked(LockMode::Governance), true);
        assert!(governed.governed);
        assert_eq!(governed.removals, teardown(&names(), &everything(), true).removals);

        let compliance = teardown(&names(), &locked(LockMode::Compliance), true);
        assert!(!compliance.governed);
        insta::assert_snapshot!("delete_backups_under_compliance", compliance);
        // On a second run the state is marked as deleted already, and nothing is left to do.
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
