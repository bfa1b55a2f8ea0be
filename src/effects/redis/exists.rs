//! Counts the keys, and the fields of hashes, that exist.

use super::Connection;
use crate::model::error::Result;
use ::redis::{Value, cmd, pipe};

/// Keys or fields asked for at once.
const AT_ONCE: usize = 500;

/// Returns how many of these keys the selected database has.
pub async fn keys(connection: &mut Connection, names: &[impl AsRef<[u8]>]) -> Result<u64> {
    let mut count = 0;
    for some in names.chunks(AT_ONCE) {
        let some: Vec<&[u8]> = some.iter().map(AsRef::as_ref).collect();
        count += connection.query::<u64>(cmd("EXISTS").arg(some)).await?;
    }
    Ok(count)
}

/// Returns how many of these fields exist, each named by its key first. A key that is no hash has
/// none.
pub async fn fields(connection: &mut Connection, names: &[(&[u8], &[u8])]) -> Result<u64> {
    let mut count = 0;
    for some in names.chunks(AT_ONCE) {
        let mut asked = pipe();
        for (key, field) in some {
            asked.cmd("HEXISTS").arg(*key).arg(*field);
        }
        let answers = connection.ask_all(&asked).await?;
        count += answers.iter().filter(|answer| **answer == Value::Int(1)).count() as u64;
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effects::redis::testing::TestServer;

    #[tokio::test]
    async fn only_what_exists_is_counted_over_several_requests() {
        let server = TestServer::start(&[]).await;
        server.script("SET a 1\nHSET h f 1 g 1").await;
        let mut connection = server.connect(0).await;
        let mut names = vec![b"none".to_vec(); AT_ONCE];
        names.extend([b"a".to_vec(), b"h".to_vec()]);
        assert_eq!(keys(&mut connection, &names).await.unwrap(), 2);
        assert_eq!(keys(&mut connection, &[b""; 0]).await.unwrap(), 0);
        let mut names: Vec<(&[u8], &[u8])> = vec![(b"h", b"none"); AT_ONCE];
        names.extend([(&b"h"[..], &b"f"[..]), (b"h", b"g"), (b"a", b"f"), (b"none", b"f")]);
        assert_eq!(fields(&mut connection, &names).await.unwrap(), 2);
    }
}
