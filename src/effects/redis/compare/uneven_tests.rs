//! Compares values whose elements are of very different sizes. A server estimates a value's size
//! from a few of its elements, and a window of ten thousand others may be longer than a connection
//! takes.

use super::*;
use crate::effects::redis::key::Key;
use crate::effects::redis::testing::TestServer;
use ::redis::{Value, cmd};

/// Five small elements that a server looks at, and then 40 MB: more than a test's connection takes.
const FILL: &str = "
    local big = string.rep('x', 400000)
    for i = 1, 4000 do redis.call('RPUSH', 'list', 'small:' .. i) end
    for i = 1, 100 do redis.call('RPUSH', 'list', big .. i) end
    for i = 1, 4000 do redis.call('ZADD', 'zset', i, 'small:' .. i) end
    for i = 1, 100 do redis.call('ZADD', 'zset', 10000 + i, big .. i) end
    for i = 1, 4000 do redis.call('HSET', 'hash', 'small:' .. i, i) end
    for i = 1, 100 do redis.call('HSET', 'hash', 'big:' .. i, big .. i) end
    for i = 1, 4000 do redis.call('SADD', 'set', 'small:' .. i) end
    for i = 1, 100 do redis.call('SADD', 'set', big .. i) end
    for i = 1, 100 do redis.call('XADD', 'stream', i .. '-1', 'f', big .. i) end
    for i = 1, 3000 do redis.call('SET', 'other:' .. i, i) redis.call('SADD', 'others:' .. i, i) end
    return 1";

async fn filled() -> TestServer {
    let server = TestServer::start(&[]).await;
    let mut connection = server.connect(0).await;
    connection.answer_within(Duration::from_secs(60));
    let answer = connection.ask(cmd("EVAL").arg(FILL).arg(0)).await.unwrap();
    assert_eq!(answer, Value::Int(1));
    server
}

fn once() -> Options {
    Options {
        rounds: 1,
        ..Options::default()
    }
}

#[tokio::test]
async fn values_that_are_larger_than_estimated_are_compared_in_smaller_windows() {
    let (source, target) = (filled().await, filled().await);
    let all = compare(&source.server(), &target.server(), &once(), |_| {})
        .await
        .unwrap();
    assert!(all.identical(), "{all:?}");
    assert_eq!(all.compared, 6005);

    target
        .script("LSET list 4050 changed\n ZINCRBY zset 1 small:7\n HSET hash big:50 changed")
        .await;
    target
        .script("SREM set small:9\n SADD set another\n XDEL stream 70-1\n SET other:5 changed")
        .await;
    let all = compare(&source.server(), &target.server(), &once(), |_| {})
        .await
        .unwrap();
    let found: Vec<&str> = all.first.iter().map(|key| key.key.as_str()).collect();
    assert_eq!(all.different, 6, "{:?}", all.first);
    for key in ["list", "zset", "hash", "set", "stream", "other:5"] {
        assert!(found.contains(&key), "{key}: {found:?}");
    }

    let keys: Vec<Key> = ["list", "zset", "hash", "set", "stream", "other:6"]
        .map(|name| Key {
            database: 0,
            name: name.into(),
        })
        .into();
    let some = compare_keys(&source.server(), &target.server(), &keys, &once())
        .await
        .unwrap();
    assert_eq!((some.compared, some.different), (6, 5), "{:?}", some.first);
}
