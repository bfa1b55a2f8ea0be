//! Writing, reading and taking away, on a real server.

use super::super::testing::TestServer;
use super::*;
use crate::model::import::Held;

fn text(text: &str) -> Vec<u8> {
    text.as_bytes().to_vec()
}

fn entry(key: &str, part: Part, expires_at: Option<i64>) -> Entry {
    Entry {
        database: 0,
        key: text(key),
        part,
        expires_at,
    }
}

/// One entry of each type, and of each type that may expire.
fn all() -> Vec<Entry> {
    let later = Some(4_000_000_000_000);
    let parts = || {
        vec![
            Part::String(text("a\r\n\0")),
            Part::Hash(vec![(text("f"), text("1")), (text("g"), text(""))]),
            Part::List(vec![text("x"), text("x"), text("y")]),
            Part::Set(vec![text("m"), text("n")]),
            Part::SortedSet(vec![(text("m"), 0.1), (text("n"), f64::INFINITY)]),
        ]
    };
    let forever = parts()
        .into_iter()
        .enumerate()
        .map(|(at, part)| entry(&format!("k{at}"), part, None));
    let ending = parts()
        .into_iter()
        .enumerate()
        .map(|(at, part)| entry(&format!("e{at}"), part, later));
    forever.chain(ending).collect()
}

#[tokio::test]
async fn every_type_is_written_once_read_back_and_taken_away_again() {
    let server = TestServer::start(&[]).await;
    let mut entries = Entries::connect(&server.server(), 0).await.unwrap();
    let all = all();
    let wanted: Vec<&Entry> = all.iter().collect();
    for (entry, written) in all.iter().zip(entries.write_new(&wanted).await.unwrap()) {
        assert_eq!(
            written,
            Written {
                made: Some(entry.part.clone()),
                was_there: false
            }
        );
    }
    for (entry, held) in all.iter().zip(entries.held(&wanted, false).await.unwrap()) {
        let Held::Part(found, expires_at) = held else {
            panic!("{entry:?} is not there: {held:?}")
        };
        assert_eq!(expires_at, entry.expires_at);
        match (&entry.part, found) {
            (Part::Set(expected), Part::Set(mut found)) => {
                found.sort();
                assert_eq!(expected, &found);
            }
            (expected, found) => assert_eq!(expected, &found),
        }
    }
    for written in entries.write_new(&wanted).await.unwrap() {
        assert_eq!(
            written,
            Written {
                made: None,
                was_there: true
            }
        );
    }
    for entry in &all {
        assert!(entries.remove(&entry.key, &entry.part).await.unwrap(), "{entry:?}");
    }
    assert_eq!(server.run::<u64>("DBSIZE").await, 0);
}

#[tokio::test]
async fn what_somebody_else_wrote_is_completed_and_never_changed_or_taken_away() {
    let server = TestServer::start(&[]).await;
    server
        .script("SET k0 theirs\nHSET k1 f theirs\nRPUSH k2 theirs\nSADD k3 m theirs\nZADD k4 9 m\nSET e1 theirs")
        .await;
    let mut entries = Entries::connect(&server.server(), 0).await.unwrap();
    let all = all();
    let wanted: Vec<&Entry> = all.iter().collect();
    let written = entries.write_new(&wanted).await.unwrap();
    let made = |at: usize| written[at].made.clone();
    assert_eq!((made(0), made(2), made(6)), (None, None, None));
    assert_eq!(made(1), Some(Part::Hash(vec![(text("g"), text(""))])));
    assert_eq!(made(3), Some(Part::Set(vec![text("n")])));
    assert_eq!(made(4), Some(Part::SortedSet(vec![(text("n"), f64::INFINITY)])));
    assert_eq!(server.run::<String>("GET k0").await, "theirs");
    assert_eq!(server.run::<String>("HGET k1 f").await, "theirs");
    assert_eq!(server.run::<String>("ZSCORE k4 m").await, "9");
    let held = entries.held(&[&all[6]], false).await.unwrap();
    assert!(matches!(held[0], Held::OtherType(_)), "{held:?}");

    server
        .script("SET e0 theirs\nHSET k1 g theirs\nRPUSH e2 theirs\nZADD k4 1 n")
        .await;
    for at in [1, 4, 5, 7] {
        let made = written[at].made.clone().unwrap();
        assert!(!entries.remove(&all[at].key, &made).await.unwrap(), "{:?}", all[at]);
    }
    assert_eq!(server.run::<String>("GET e0").await, "theirs");
    assert_eq!(server.run::<String>("HGET k1 g").await, "theirs");
}

#[tokio::test]
async fn replacing_gives_a_key_the_entry_s_value_and_keeps_other_members_of_a_shared_one() {
    let server = TestServer::start(&[]).await;
    server.script("SET k1 theirs\nHSET e1 h theirs\nSADD k3 theirs").await;
    let mut entries = Entries::connect(&server.server(), 0).await.unwrap();
    let all = all();
    entries.replace(&[&all[1], &all[6]], false).await.unwrap();
    entries.replace(&[&all[3]], true).await.unwrap();
    let held = entries.held(&[&all[1], &all[6]], false).await.unwrap();
    assert_eq!(held[0], Held::Part(all[1].part.clone(), None));
    assert_eq!(held[1], Held::Part(all[6].part.clone(), all[6].expires_at));
    assert_eq!(server.run::<u64>("SCARD k3").await, 3);
}
