//! Finds out whether a copied source and our two sides stand as they did.

use super::super::history::Promotion;
use super::super::keys::too_many_gone;
use crate::decide::cutover::Stillness;
use crate::effects::redis::Server;
use crate::effects::redis::compare::{Comparator, Options};
use crate::model::error::Result;
use std::time::Duration;
use wire::info::{Info, ServerRole};

/// Returns what changed on the source between the fence and the end of the comparison. Pure.
pub fn changed(fenced: &Info, now: &Info, keys: u64) -> Vec<String> {
    let mut wrong = Vec::new();
    if now.run_id != fenced.run_id {
        wrong.push("the source was restarted since the fence".to_string());
    }
    if now.role != ServerRole::Master {
        wrong.push("the source follows another server".into());
    }
    if now.evicted_keys != fenced.evicted_keys {
        wrong.push("the source evicted keys since the fence".into());
    }
    let own = now.own_removals.since(fenced.own_removals);
    if too_many_gone(keys, now.keys().saturating_add(own.expired_keys)) {
        wrong.push(format!(
            "the source has {} keys, and had {keys} at the fence",
            now.keys()
        ));
    }
    // A second witness beside the comparison.
    if counted_since(fenced, now) > 0 {
        wrong.push("the source counts writes since the fence".into());
    }
    wrong
}

/// Returns by how much the source's count of changes (`rdb_changes_since_last_save`) grew since the fence. Zero if
/// INFO has no count, or the source saved or was restarted since. Pure.
pub fn counted_since(fenced: &Info, now: &Info) -> u64 {
    if now.run_id != fenced.run_id {
        return 0;
    }
    let fenced = &fenced.persistence;
    let changes = fenced.unsaved_changes;
    changes
        .and_then(|changes| counted_after(changes, fenced.last_save, now))
        .unwrap_or(0)
}

/// Returns by how much the server's count of changes grew. Keys and fields that the server expires or evicts are not in
/// it. `None` if INFO has no count, or the server saved meanwhile, which resets it. Pure.
fn counted_after(changes: u64, last_save: Option<i64>, now: &Info) -> Option<u64> {
    if now.persistence.last_save != last_save {
        return None;
    }
    now.persistence.unsaved_changes?.checked_sub(changes)
}

/// Returns what speaks against our two sides after the last sweep. Pure.
pub fn moved(swept: &Info, master: &Info, replica: &Info) -> Vec<String> {
    let mut wrong = Vec::new();
    if master.role != ServerRole::Master {
        wrong.push("the master follows another server".to_string());
    }
    if master.replid != swept.replid || master.run_id != swept.run_id {
        wrong.push("the master was restarted since the last sweep".into());
    }
    if master.evicted_keys != swept.evicted_keys {
        wrong.push("the master evicted keys since the last sweep".into());
    }
    if replica.replid != swept.replid || !replica.link.as_ref().is_some_and(|link| link.up) {
        wrong.push("the replica does not follow the master".into());
    }
    if replica.applied_offset.unwrap_or(0) < swept.master_repl_offset {
        wrong.push("the replica has not applied all that was copied".into());
    }
    wrong
}

/// Returns whether a copied source was written to since the promotion, by the count of the same
/// process. Unknown if it does not tell, or has saved since, which begins the count anew. Pure.
pub fn as_counted(promotion: &Promotion, now: &Info) -> Stillness {
    let then = promotion.counted;
    match then.and_then(|then| counted_after(then.changes, Some(then.last_save), now)) {
        Some(0) => Stillness::Still,
        Some(_) => Stillness::Moved,
        None => Stillness::Unknown,
    }
}

/// Returns whether the source is as it was at the promotion, if nobody wrote to our side since: the two
/// are identical then.
pub async fn as_compared(source: &Server, master: &Server, leave_out: &[String]) -> Result<Stillness> {
    let options = Options {
        rounds: 3,
        pause: Duration::from_millis(100),
        leave_out: leave_out.to_vec(),
        ..Options::default()
    };
    let comparison = Comparator::connect(source, master)
        .await?
        .everything(&options, &|_| ())
        .await?;
    Ok(if comparison.identical() {
        Stillness::Still
    } else {
        Stillness::Moved
    })
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::effects::redis::testing::{TestServer, command};
    use sandbox::addon::Engine;
    use wire::info::OwnRemovals;

    pub fn info(lines: &str) -> Info {
        let usual = "redis_version:7.0.15\r\nrun_id:a\r\nused_memory:1\r\nrole:master\r\nmaster_replid:b\r\nmaster_repl_offset:9\r\n\
                     rdb_changes_since_last_save:5\r\nrdb_last_save_time:100\r\ndb0:keys=1000,expires=0\r\n";
        let mut text = usual.to_string();
        for line in lines.lines() {
            let name = line.split(':').next().unwrap();
            text = text
                .lines()
                .filter(|old| old.split(':').next() != Some(name))
                .map(|old| format!("{old}\r\n"))
                .collect();
            text += &format!("{line}\r\n");
        }
        Info::parse(&text).unwrap()
    }

    #[test]
    fn a_source_that_moved_inside_the_fence_proves_nothing() {
        let fenced = info("");
        assert_eq!(changed(&fenced, &info(""), 1000), [] as [&str; 0]);
        for (now, why) in [
            ("run_id:c", "was restarted"),
            ("evicted_keys:1", "evicted keys"),
            ("rdb_changes_since_last_save:6", "counts writes"),
            ("rdb_changes_since_last_save:6\nexpired_keys:1", "counts writes"),
            ("db0:keys=10,expires=0", "has 10 keys"),
        ] {
            let wrong = changed(&fenced, &info(now), 1000);
            assert!(wrong.len() == 1 && wrong[0].contains(why), "{now}: {wrong:?}");
        }
        // A save resets the count, and what expires is not in it.
        for harmless in [
            "rdb_changes_since_last_save:0\nrdb_last_save_time:101",
            "expired_keys:1",
        ] {
            assert_eq!(changed(&fenced, &info(harmless), 1000), [] as [&str; 0], "{harmless}");
        }
    }

    /// Waits for removals by the server since an earlier look, and returns how it stands then.
    async fn removed_by_itself(server: &TestServer, since: &Info, enough: impl Fn(OwnRemovals) -> bool) -> Info {
        for _ in 0..200 {
            // Any command makes a server that is over its limit evict.
            server.run::<Option<String>>("GET nothing").await;
            let now = server.connect(0).await.info().await.unwrap();
            if enough(now.own_removals.since(since.own_removals)) {
                return now;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("nothing was removed in 10 s")
    }

    /// A write that came late must not hide behind a key that expired or was evicted meanwhile.
    #[tokio::test]
    async fn engines_count_each_write_and_not_what_they_remove_by_themselves() {
        let policy = ["--maxmemory-policy", "allkeys-random"];
        let mut servers = vec![TestServer::start(&policy).await];
        for engine in [Engine::Redis6, Engine::Redis62, Engine::Redis8, Engine::Valkey8] {
            servers.extend(TestServer::start_engine(engine, &policy).await);
        }
        for server in servers {
            for number in 0..200 {
                server
                    .run::<()>(&format!("SET evicted:{number} {}", "x".repeat(4000)))
                    .await;
            }
            server.run::<()>("SET a b PX 2000").await;
            server.run::<()>("HSET h f v g w").await;
            let fields = server
                .connect(0)
                .await
                .query::<()>(&command("HPEXPIRE h 2000 FIELDS 1 f"))
                .await;
            let fenced = server.connect(0).await.info().await.unwrap();
            let version = &fenced.version;
            let expired = removed_by_itself(&server, &fenced, |own| {
                own.expired_keys > 0 && own.expired_fields >= u64::from(fields.is_ok())
            })
            .await;
            assert_eq!(counted_since(&fenced, &expired), 0, "{version}");
            let limit = expired.used_memory - 300_000;
            server.run::<()>(&format!("CONFIG SET maxmemory {limit}")).await;
            let evicted = removed_by_itself(&server, &fenced, |own| own.evicted_keys > 0).await;
            assert_eq!(counted_since(&fenced, &evicted), 0, "{version}");
            server.run::<()>("CONFIG SET maxmemory 0").await;
            server.run::<()>("SET late write").await;
            let written = server.connect(0).await.info().await.unwrap();
            assert_eq!(counted_since(&fenced, &written), 1, "{version}");
        }
    }

    #[test]
    fn a_master_that_is_not_as_the_last_sweep_left_it_proves_nothing() {
        let swept = info("");
        let replica = info("role:slave\nmaster_link_status:up\nmaster_host:a\nmaster_port:1\nslave_repl_offset:9");
        assert_eq!(moved(&swept, &info(""), &replica), [] as [&str; 0]);
        for (now, why) in [("run_id:c", "was restarted"), ("evicted_keys:1", "evicted keys")] {
            let wrong = moved(&swept, &info(now), &replica);
            assert!(wrong.len() == 1 && wrong[0].contains(why), "{now}: {wrong:?}");
        }
        let behind = info("role:slave\nmaster_link_status:up\nmaster_host:a\nmaster_port:1\nslave_repl_offset:8");
        let wrong = moved(&swept, &info(""), &behind);
        assert!(wrong.len() == 1 && wrong[0].contains("has not applied"), "{wrong:?}");
    }

    #[test]
    fn a_count_that_stands_still_tells_that_nothing_was_written() {
        // A host that hides when it saved still tells how much it took.
        let hidden = |changes| {
            let mut info = info("");
            info.persistence.last_save = None;
            info.persistence.unsaved_changes = Some(changes);
            info
        };
        assert_eq!(counted_since(&hidden(5), &hidden(7)), 2);
        let promotion = |counted: &str| -> Promotion {
            let text = format!(
                r#"{{"source_run_id": "a", "source_replid": "b", "offset": 7, "fenced_at": "2026-01-01T00:00:00Z",
                    "source_removals": {{"expired_keys": 1, "evicted_keys": 0, "expired_fields": 0}},
                    {counted} "keys_compared": 3}}"#
            );
            serde_json::from_str(&text).unwrap()
        };
        let counting = promotion(r#""counted": {"changes": 5, "last_save": 100},"#);
        for (now, told) in [
            ("expired_keys:1", Stillness::Still),
            ("expired_keys:2", Stillness::Still),
            ("expired_keys:2\nrdb_changes_since_last_save:6", Stillness::Moved),
            ("expired_keys:1\nrdb_changes_since_last_save:4", Stillness::Unknown),
            ("expired_keys:1\nrdb_last_save_time:101", Stillness::Unknown),
        ] {
            assert_eq!(as_counted(&counting, &info(now)), told, "{now}");
        }
        assert_eq!(as_counted(&promotion(""), &info("")), Stillness::Unknown);
    }
}
