//! Judges whether the replica is fit to take over, from what both servers say of themselves. Pure.

use crate::model::error::{Error, Result};
use crate::model::size;
use wire::info::{Info, ServerRole};

/// More than this is not drained within a short pause.
const MOST_BEHIND: u64 = 8 << 20;

/// Fails with a reason and a next step unless the replica may take over.
pub fn fit(master: &Info, replica: &Info) -> Result<()> {
    let refuse = |found: String, hint: &str| Err(Error::failed(format!("fail over: {found}")).hint(hint));
    if master.role != ServerRole::Master || replica.role != ServerRole::Replica {
        return refuse(
            "the hosts do not have the roles of a pair".into(),
            "`infra status` shows the roles; `infra up` puts them right",
        );
    }
    if master.loading || replica.loading {
        return refuse(
            "a host still loads its data".into(),
            "wait until `infra status` shows both, then run the same command again",
        );
    }
    let link = replica.link.as_ref();
    if !link.is_some_and(|link| link.up && link.sync.is_none()) {
        return refuse(
            "the replica's link to the master is down".into(),
            "`infra status` shows the link; `infra up` brings it back",
        );
    }
    if replica.replid != master.replid {
        return refuse(
            "the replica follows another server than the master".into(),
            "`infra up` makes it follow the master",
        );
    }
    let applied = replica.applied_offset.unwrap_or(0);
    let behind = master.master_repl_offset.saturating_sub(applied);
    if behind > MOST_BEHIND {
        return refuse(
            format!("the replica is {} behind", size::bytes(behind)),
            "wait until it has caught up, then run the same command again",
        );
    }
    if let Some(fault) = replica.persistence.log_fault() {
        return refuse(
            format!("the replica's append-only log is not well: {fault}"),
            "see the engine's journal on the replica with `infra ssh replica`",
        );
    }
    // A replica ignores its limit, a master does not.
    if replica.maxmemory > 0 && replica.used_memory > replica.maxmemory {
        return refuse(
            format!(
                "the replica uses {} and may use {} as a master",
                size::bytes(replica.used_memory),
                size::bytes(replica.maxmemory)
            ),
            "raise `redis.maxmemory` in infra.yml or take larger instances, and run `infra up`",
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MASTER: &str = "redis_version:7.0.15\r\nrun_id:a\r\nused_memory:100\r\nrole:master\r\nmaster_replid:b\r\nmaster_repl_offset:20000000\r\n";
    const REPLICA: &str = "redis_version:7.0.15\r\nrun_id:c\r\nused_memory:100\r\nmaxmemory:1000\r\nrole:slave\r\nmaster_host:h\r\nmaster_port:1\r\nmaster_link_status:up\r\nmaster_sync_in_progress:0\r\nslave_repl_offset:19999990\r\nmaster_replid:b\r\nmaster_repl_offset:19999990\r\naof_enabled:1\r\naof_last_write_status:ok\r\naof_last_bgrewrite_status:ok\r\n";

    fn judge(master: &str, replica: &str) -> Result<()> {
        fit(&Info::parse(master).unwrap(), &Info::parse(replica).unwrap())
    }

    #[test]
    fn a_replica_that_follows_closely_may_take_over() {
        judge(MASTER, REPLICA).unwrap();
    }

    #[test]
    fn each_reason_against_a_failover_is_named_with_a_next_step() {
        for (was, is, reason) in [
            (
                "master_link_status:up",
                "master_link_status:down",
                "link to the master is down",
            ),
            ("slave_repl_offset:19999990", "slave_repl_offset:1000", "behind"),
            ("master_replid:b", "master_replid:x", "another server"),
            ("used_memory:100", "used_memory:2000", "may use"),
            (
                "aof_last_write_status:ok",
                "aof_last_write_status:err",
                "append-only log",
            ),
        ] {
            let error = judge(MASTER, &REPLICA.replace(was, is)).unwrap_err();
            assert!(error.to_string().contains(reason), "{is}: {error}");
            assert!(error.next_step().is_some(), "{is}");
        }
        assert!(judge(REPLICA, REPLICA).is_err());
        assert!(judge(MASTER, MASTER).is_err());
    }
}
