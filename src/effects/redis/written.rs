//! Opens MONITOR for a moment: shows whether the host allows it, and how often large keys are
//! written. What clients send is read past, and neither kept nor logged.

use super::bare::Bare;
use super::control::Permission;
use super::key::Key;
use super::server::Server;
use super::stream::Stream;
use super::survey::Sizes;
use crate::model::error::Result;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::time::{Instant, timeout_at};
use wire::monitor::Decoder;
use wire::request::{Change, Requests};

const BUFFER: usize = 64 << 10;
/// A look ends after so many bytes: a busy source sends them within a part of a second.
const MOST_BYTES: usize = 64 << 20;

/// Finds if the host allows MONITOR. If it does, counts the writes to large keys for at most `length`.
pub async fn count_writes(server: &Server, sizes: &mut Sizes, length: Duration) -> Result<Permission> {
    let mut bare = Bare::open(server, format!("see whether {server} allows MONITOR")).await?;
    let answer = bare.ask("MONITOR", &[b"MONITOR"]).await?;
    if let Some(reason) = answer.strip_prefix('-') {
        return Ok(Permission::Denied(reason.into()));
    }
    if !sizes.whole.is_empty() && !length.is_zero() {
        sizes.looked = look(bare.into_stream(), sizes, length).await;
    }
    Ok(Permission::Allowed)
}

/// Counts writes, and returns for how long; `None` if it does not understand what MONITOR sends, or it ends.
async fn look(mut stream: Stream, sizes: &mut Sizes, length: Duration) -> Option<Duration> {
    let begun = Instant::now();
    let (mut decoder, mut requests) = (Decoder::default(), Requests::default());
    let (mut buffer, mut bytes) = (vec![0; BUFFER], 0);
    while bytes < MOST_BYTES {
        let Ok(read) = timeout_at(begun + length, stream.read(&mut buffer)).await else {
            break;
        };
        let read = read.ok().filter(|read| *read > 0)?;
        bytes += read;
        let fed = decoder.feed(&buffer[..read], |request| {
            // A command that is not known here counts for no key.
            if let Change::Keys(keys) = requests.change(&request)? {
                keys.into_iter()
                    .for_each(|(database, name)| note(sizes, &Key { database, name }));
            }
            Ok(())
        });
        fed.ok()?;
    }
    Some(begun.elapsed().min(length))
}

fn note(sizes: &mut Sizes, written: &Key) {
    if let Some(large) = sizes.whole.iter_mut().find(|large| large.key == *written) {
        large.writes += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effects::redis::survey::Large;
    use crate::effects::redis::testing::TestServer;
    use crate::model::secret::Secret;

    fn sizes() -> Sizes {
        let large = |database, name: &[u8]| Large {
            key: Key {
                database,
                name: name.to_vec(),
            },
            bytes: 2 << 20,
            writes: 0,
        };
        Sizes {
            whole: vec![large(0, b"events"), large(3, b"events"), large(0, b"quiet")],
            ..Sizes::default()
        }
    }

    #[tokio::test]
    async fn writes_to_large_keys_are_counted_for_a_moment() {
        let server = TestServer::start(&[]).await;
        let (mut sizes, length) = (sizes(), Duration::from_millis(1500));
        let bound = server.server();
        let (found, ()) = tokio::join!(count_writes(&bound, &mut sizes, length), async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            server
                .script(
                    "RPUSH events a\nLLEN events\nLTRIM events 0 5\nRENAME events other\nSET small 1\n3> SET events 1",
                )
                .await;
        });
        assert_eq!((found.unwrap(), sizes.looked), (Permission::Allowed, Some(length)));
        let writes: Vec<u64> = sizes.whole.iter().map(|large| large.writes).collect();
        assert_eq!(writes, [3, 1, 0]);
    }

    #[tokio::test]
    async fn nothing_is_counted_where_monitor_is_denied_or_no_key_is_large() {
        let server = TestServer::start(&[]).await;
        let length = Duration::from_secs(60);
        let mut none = Sizes::default();
        let found = count_writes(&server.server(), &mut none, length).await.unwrap();
        assert_eq!((found, none.looked), (Permission::Allowed, None));
        server.script("ACL SETUSER app on >pw ~* &* +@all -monitor").await;
        let mut bound = server.server();
        (bound.user, bound.password) = (Some("app".into()), Some(Secret::new("pw")));
        let mut denied = sizes();
        let found = count_writes(&bound, &mut denied, length).await.unwrap();
        assert!(matches!(found, Permission::Denied(why) if why.contains("NOPERM")));
        assert_eq!(denied.looked, None);
    }
}
