//! Samples keys of a database by SCAN. RANDOMKEY is not used: if writes are paused and all keys of
//! a database have expired, RANDOMKEY of Redis 7.0 never ends, and the server hangs.

use super::Connection;
use crate::model::error::{Error, Result};
use ::redis::cmd;
use std::collections::BTreeSet;

/// Places of the server's table that one request may look at.
const AT_ONCE: u64 = 500;
/// Maximum number of requests, since a table that was emptied has many places without a key.
const MOST_REQUESTS: u32 = 20;

/// Returns up to `many` keys of the selected database, from `start` on. Any start is as good as
/// another, since the order is that of a hash.
pub async fn keys(connection: &mut Connection, many: usize, start: u64) -> Result<Vec<Vec<u8>>> {
    let mut found = BTreeSet::new();
    let mut cursor = start;
    let mut is_second_walk = start == 0;
    for _ in 0..MOST_REQUESTS {
        let (next, keys): (String, Vec<Vec<u8>>) = connection
            .query(
                cmd("SCAN")
                    .arg(cursor)
                    .arg("COUNT")
                    .arg(AT_ONCE.min(many.max(10) as u64)),
            )
            .await?;
        found.extend(keys);
        // A cursor uses all 64 bits.
        cursor = next
            .parse()
            .map_err(|_| Error::failed(format!("read the answer to SCAN of {}", connection.place())))?;
        if found.len() >= many || (cursor == 0 && is_second_walk) {
            break;
        }
        // The walk continues at the beginning of the table.
        is_second_walk |= cursor == 0;
    }
    Ok(found.into_iter().take(many).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effects::redis::testing::{TestServer, command};
    use std::time::Duration;

    #[tokio::test]
    async fn keys_are_found_from_any_start_and_each_once() {
        let server = TestServer::start(&[]).await;
        let names: Vec<String> = (0..50).map(|at| format!("key:{at}")).collect();
        server
            .script(&names.iter().map(|name| format!("SET {name} 1\n")).collect::<String>())
            .await;
        let mut connection = server.connect(0).await;
        for start in [0, 1, 7, u64::MAX, 0x1234_5678_9abc_def0] {
            assert_eq!(keys(&mut connection, 1_000, start).await.unwrap().len(), 50, "{start}");
            assert_eq!(keys(&mut connection, 3, start).await.unwrap().len(), 3, "{start}");
        }
        server.script("FLUSHALL").await;
        assert_eq!(keys(&mut connection, 10, 5).await.unwrap(), [[0u8; 0]; 0]);
    }

    #[tokio::test]
    async fn a_paused_server_that_has_only_expired_keys_answers() {
        let server = TestServer::start(&[]).await;
        server
            .script("SET a 1 PX 30\n SET b 1 PX 30\n CLIENT PAUSE 20000 WRITE")
            .await;
        tokio::time::sleep(Duration::from_millis(60)).await;
        let mut connection = server.connect(0).await;
        connection.answer_within(Duration::from_secs(5));
        assert!(keys(&mut connection, 10, 0).await.is_ok());
        assert!(connection.ask(&command("PING")).await.is_ok());
    }
}
