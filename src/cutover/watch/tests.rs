use super::*;
use crate::redis::testing::TestServer;

async fn offset(server: &TestServer) -> (String, u64) {
    let info = Info::read(&mut server.connect(0).await).await.unwrap();
    (info.replid, info.master_repl_offset)
}

#[tokio::test]
async fn the_stream_tells_which_keys_were_written_and_that_nothing_was() {
    let master = TestServer::start(&[]).await;
    let _replica = TestServer::replica_of(&master).await;
    master.script("SET a 1\n3> SET b 1").await;
    let (replid, from) = offset(&master).await;
    let watch = Watch::begin(&master.server(), &replid, from).await.unwrap().unwrap();
    let (_, now) = offset(&master).await;
    watch.reach(now, Duration::from_secs(5)).await.unwrap();
    assert_eq!(watch.seen().writes, 0);
    assert!(watch.take_dirty().is_nothing());

    master.script("3> SET x 1\n3> INCR x\nLPUSH l 1\nDEL a").await;
    let (_, now) = offset(&master).await;
    watch.reach(now, Duration::from_secs(5)).await.unwrap();
    let seen = watch.seen();
    assert_eq!((seen.writes, seen.deletions), (3, 1));
    let Dirty::Keys(keys) = watch.take_dirty() else {
        panic!()
    };
    let keys: BTreeSet<(u32, &[u8])> = keys.iter().map(|key| (key.database, key.name.as_slice())).collect();
    assert!(
        keys.contains(&(3, b"x".as_slice()))
            && keys.contains(&(0, b"l".as_slice()))
            && keys.contains(&(0, b"a".as_slice()))
    );
    watch.mark();
    assert_eq!(watch.seen().writes, 0);
}

#[tokio::test]
async fn a_promoted_replica_continues_the_stream_of_its_old_master() {
    let master = TestServer::start(&[]).await;
    let replica = TestServer::replica_of(&master).await;
    let _second = TestServer::replica_of(&replica).await;
    master.script("SET a 1").await;
    let (replid, from) = offset(&master).await;
    let deadline = Instant::now().after(Duration::from_secs(5));
    while Info::read(&mut replica.connect(0).await)
        .await
        .unwrap()
        .applied_offset
        .unwrap()
        < from
    {
        assert!(!deadline.has_passed());
    }
    replica.script("REPLICAOF NO ONE\nSET own 1").await;
    let watch = Watch::begin(&replica.server(), &replid, from).await.unwrap().unwrap();
    let (_, now) = offset(&replica).await;
    watch.reach(now, Duration::from_secs(5)).await.unwrap();
    assert_eq!(watch.seen().writes, 1);
}

#[tokio::test]
async fn a_stream_that_cannot_be_continued_is_not_asked_for() {
    let master = TestServer::start(&[]).await;
    let _replica = TestServer::replica_of(&master).await;
    let (replid, from) = offset(&master).await;
    let unknown = "0123456789012345678901234567890123456789";
    assert!(Watch::begin(&master.server(), unknown, from).await.unwrap().is_none());
    assert!(
        Watch::begin(&master.server(), &replid, from + 1000)
            .await
            .unwrap()
            .is_none()
    );
}

#[tokio::test]
async fn a_server_that_dies_breaks_the_watch() {
    let mut master = TestServer::start(&[]).await;
    let _replica = TestServer::replica_of(&master).await;
    let (replid, from) = offset(&master).await;
    let watch = Watch::begin(&master.server(), &replid, from).await.unwrap().unwrap();
    master.kill();
    let error = watch.reach(from + 1, Duration::from_secs(5)).await.unwrap_err();
    assert_eq!(error.kind(), crate::error::Kind::Unproven);
    assert!(watch.unbroken().is_err());
}
