//! Checks that the append-only logs of master and replica are in force; a promotion rests on them.

use super::sides::Sides;
use crate::effects::wait::{Look, Wait};
use crate::model::error::{Error, Result};
use crate::ui::Step;
use std::time::Duration;
use wire::info::Info;

/// The append-only logs of the two hosts.
pub trait Logs {
    /// Returns whether both append-only logs are in force although one of them is being rewritten.
    /// After a full copy a log is not in force until its rewrite has ended.
    fn logs_in_force(&mut self) -> impl Future<Output = Result<bool>> + Send;
}

/// Returns what speaks against relying on the logs of a promotion's two hosts.
pub async fn objections_of<P: Logs>(master: &Info, replica: &Info, pair: &mut P) -> Vec<String> {
    let in_force = in_force(master, replica, pair).await;
    objections(master, replica, in_force)
}

/// Returns whether a running rewrite leaves both logs in force. Asks the hosts only then.
async fn in_force<P: Logs>(master: &Info, replica: &Info, pair: &mut P) -> bool {
    let rewritten = master.persistence.log_is_rewritten() || replica.persistence.log_is_rewritten();
    !rewritten || pair.logs_in_force().await.unwrap_or(false)
}

/// Returns what speaks against relying on the append-only logs. A host whose log is not in force
/// comes back from a crash with the data from before its last full copy. Pure.
fn objections(master: &Info, replica: &Info, in_force: bool) -> Vec<String> {
    let objection = |(name, info): (&str, &Info)| match info.persistence.log_fault() {
        Some(fault) => Some(format!(
            "the append-only log of the {name} cannot be relied on: {fault}"
        )),
        None if info.persistence.log_is_rewritten() && !in_force => Some(format!(
            "the append-only log of the {name} is not in force until its rewrite has ended"
        )),
        None => None,
    };
    [("master", master), ("replica", replica)]
        .into_iter()
        .filter_map(objection)
        .collect()
}

/// Waits until neither host rewrites its append-only log. The rewrite after a full copy has to end
/// before a promotion, and the gate should not meet the rewrite of a backup.
pub async fn wait(sides: &Sides, deadline: Duration, step: &Step) -> Result<()> {
    let wait = Wait::new(
        "the append-only logs to be rewritten",
        deadline,
        "`infra ssh HOST` and `journalctl -u redis-server` there say why the rewrite does not end; a full disk is the usual reason. Then run the same command again",
    );
    wait.until(step, || async {
        let (master, replica) = sides.pair().await?;
        for (host, info) in [("master", &master), ("replica", &replica)] {
            let log = &info.persistence;
            // A rewrite that failed is tried again by the engine; its next success ends the fault.
            if let (Some(fault), false) = (log.log_fault(), log.log_is_rewritten() && log.aof_enabled) {
                return Err(Error::failed(format!(
                    "rely on the append-only log of the {host}: {fault}"
                ))
                .hint(format!(
                    "see `journalctl -u redis-server` on the {host}; once the reason is gone, `infra redis-cli {host} BGREWRITEAOF` writes the log anew"
                )));
            }
            if log.log_is_rewritten() {
                return Ok(Look::NotYet(match log.log_fault() {
                    Some(fault) => format!("the {host} rewrites its append-only log again: {fault}"),
                    None => format!("the {host} rewrites its append-only log"),
                }));
            }
        }
        Ok(Look::Ready(()))
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_is_not_in_force_on_either_host_is_an_objection() {
        use wire::info::Persistence;
        let with = |persistence: Persistence| {
            Info {
            persistence,
            ..Info::parse("redis_version:7.0.15\r\nrun_id:a\r\nused_memory:1\r\nrole:master\r\nmaster_replid:b\r\nmaster_repl_offset:1\r\n").unwrap()
        }
        };
        let well = Persistence {
            aof_enabled: true,
            aof_last_rewrite_ok: true,
            aof_last_write_ok: true,
            ..Persistence::default()
        };
        let rewritten = Persistence {
            aof_rewrite_in_progress: true,
            ..well.clone()
        };
        let scheduled = Persistence {
            aof_rewrite_scheduled: true,
            ..well.clone()
        };
        let none = Vec::<String>::new();
        assert_eq!(objections(&with(well.clone()), &with(well.clone()), true), none);
        // Both hosts say that this rewrite leaves the log in force.
        assert_eq!(objections(&with(rewritten.clone()), &with(well.clone()), true), none);
        let off = Persistence {
            aof_enabled: false,
            ..well.clone()
        };
        let unwritten = Persistence {
            aof_last_write_ok: false,
            ..well.clone()
        };
        let failed = Persistence {
            aof_last_rewrite_ok: false,
            ..rewritten.clone()
        };
        for (wrong, in_force, word) in [
            (&rewritten, false, "until its rewrite has ended"),
            (&scheduled, false, "until its rewrite has ended"),
            (&off, true, "it is off"),
            (&unwritten, true, "its last write failed"),
            (&failed, true, "its last rewrite failed"),
        ] {
            for (master, replica, name) in [(wrong, &well, "master"), (&well, wrong, "replica")] {
                let found = objections(&with(master.clone()), &with(replica.clone()), in_force);
                assert_eq!(found.len(), 1, "{found:?}");
                assert!(found[0].contains(word) && found[0].contains(name), "{found:?}");
            }
        }
    }
}
