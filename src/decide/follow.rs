//! Decides how a source is followed, and estimates what the copy takes. Pure.

use crate::effects::redis::control::Permission;
use crate::effects::redis::survey::Survey;
use crate::model::follow::{Follow, Follower};
use std::time::Duration;

/// A careful guess of how many keys a sweep and a comparison go through in a second, together.
const KEYS_PER_S: u64 = 15_000;
/// The same, in bytes.
const BYTES_PER_S: u64 = 20 << 20;
/// MONITOR is not opened for longer than it takes to see that it is allowed if the source has less memory left than this, or
/// less than a tenth of its limit if that is less.
const ROOM: u64 = 64 << 20;
/// The app should not wait for longer than this without a word.
pub const LONG: Duration = Duration::from_secs(60);

/// Returns how to follow a source. Whether a replica may follow is not known at times; then it is
/// tried, since a refused replica says so at once.
pub fn follower(wanted: Follow, psync: &Permission) -> Follower {
    match (wanted, psync) {
        (Follow::Copy, _) | (Follow::Auto, Permission::Denied(_)) => Follower::Copy,
        (Follow::Replication, _) | (Follow::Auto, Permission::Allowed | Permission::Unknown(_)) => {
            Follower::Replication
        }
    }
}

/// Returns whether a copy can be watched by MONITOR; the error says why not. The copy itself decides
/// it again, by comparing what it was shown with the source's own counts.
pub fn watch(monitor: &Permission, survey: &Survey) -> Result<(), String> {
    if let Permission::Denied(reason) = monitor {
        return Err(format!("MONITOR is not allowed ({reason})"));
    }
    if survey.cluster {
        return Err("the source is a cluster, and MONITOR shows the requests of one of its servers".into());
    }
    if survey.commands.is_empty() {
        return Err(
            "the source does not count its commands (INFO commandstats), so nothing tells whether MONITOR shows all"
                .into(),
        );
    }
    Ok(())
}

/// Returns true if MONITOR may be read for a while: what it has not sent takes the source's memory.
pub fn has_room(used: u64, limit: u64) -> bool {
    limit == 0 || limit.saturating_sub(used) >= ROOM.min(limit / 10)
}

/// Returns about how long a last sweep and the whole comparison take, while the app waits.
pub fn inside_the_fence(keys: u64, bytes: u64) -> Duration {
    Duration::from_secs((keys / KEYS_PER_S).max(bytes / BYTES_PER_S) + 1)
}

/// Returns about how long one large key takes.
pub fn one_key(bytes: u64) -> Duration {
    Duration::from_millis(bytes.saturating_mul(1000) / BYTES_PER_S)
}

/// Returns how long one gentle sweep takes: its bytes at the rate that infra.yml gives.
pub fn gentle_sweep(bytes: u64, rate: u64) -> Duration {
    Duration::from_secs(bytes / rate.max(1) + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_copied_where_no_replica_may_follow_or_by_choice() {
        let denied = Permission::Denied("NOPERM".into());
        let unknown = Permission::Unknown("MULTI is not allowed".into());
        for (wanted, psync, expected) in [
            (Follow::Auto, &Permission::Allowed, Follower::Replication),
            (Follow::Auto, &unknown, Follower::Replication),
            (Follow::Auto, &denied, Follower::Copy),
            (Follow::Copy, &Permission::Allowed, Follower::Copy),
            (Follow::Replication, &denied, Follower::Replication),
        ] {
            assert_eq!(follower(wanted, psync), expected, "{wanted:?} {psync:?}");
        }
    }

    #[test]
    fn a_source_that_is_nearly_full_is_not_watched_for_a_while() {
        for (used, limit, fits) in [
            (1 << 30, 0, true),
            (20 << 20, 25 << 20, true),
            (24 << 20, 25 << 20, false),
            (10 << 30, (10 << 30) + (63 << 20), false),
            (10 << 30, (10 << 30) + (64 << 20), true),
        ] {
            assert_eq!(has_room(used, limit), fits, "{used} of {limit}");
        }
    }

    #[test]
    fn the_estimates_grow_with_keys_and_bytes() {
        assert_eq!(inside_the_fence(0, 0), Duration::from_secs(1));
        assert_eq!(inside_the_fence(150_000, 0), Duration::from_secs(11));
        assert!(inside_the_fence(0, 4 << 30) > LONG);
        assert_eq!(gentle_sweep(80 << 20, 8 << 20), Duration::from_secs(11));
    }
}
