use super::*;
use wire::monitor::Origin;

fn request(words: &str) -> Request {
    Request {
        at: 7,
        database: 2,
        origin: Origin::Client("a:1".into()),
        arguments: words.split(' ').map(|word| Argument::Kept(word.into())).collect(),
    }
}

fn named(names: &[&str]) -> Members {
    Members {
        names: names.iter().map(|name| name.as_bytes().to_vec()).collect(),
        ..Members::default()
    }
}

fn open() -> Marks {
    let mut marks = Marks::default();
    marks.open("one".into(), Requests::default());
    marks.validate();
    marks
}

fn whole() -> Marks {
    let mut marks = open();
    let token = marks.sweep_begins().unwrap();
    marks.sweep_ended(&token);
    assert!(marks.is_whole());
    marks
}

#[test]
fn a_key_that_is_written_while_it_is_read_is_marked_again() {
    let mut marks = whole();
    marks.take(&request("SET a 1")).unwrap();
    assert_eq!(marks.some(9), Some((2, vec![b"a".to_vec()])));
    assert_eq!(marks.marked(), 0);
    marks.take(&request("SET a 2")).unwrap();
    assert_eq!(marks.marked(), 1);
}

#[test]
fn a_watch_is_whole_after_a_sweep_that_began_within_it() {
    let mut marks = Marks::default();
    assert_eq!(marks.sweep_begins(), None);
    marks.open("one".into(), Requests::default());
    assert_eq!(marks.sweep_begins(), None, "it was not validated");
    marks.validate();
    let token = marks.sweep_begins().unwrap();
    assert!(!marks.is_whole());
    marks.close("cut");
    marks.open("two".into(), Requests::default());
    marks.validate();
    marks.sweep_ended(&token);
    assert!(!marks.is_whole(), "the sweep began within another watch");
    let token = marks.sweep_begins().unwrap();
    marks.take(&request("SWAPDB 0 1")).unwrap();
    marks.sweep_ended(&token);
    assert!(!marks.is_whole(), "anything may have changed during the sweep");
    let token = marks.sweep_begins().unwrap();
    marks.sweep_ended(&token);
    assert!(marks.is_whole());
    assert_eq!(marks.now().breaks, 1);
}

#[test]
fn too_many_marks_are_a_new_sweep() {
    let mut marks = whole();
    marks.record();
    for key in 0..=MOST_KEYS {
        marks.take(&request(&format!("SET {key} 1"))).unwrap();
    }
    assert!(!marks.is_whole() && marks.marked() == 0);
    assert_eq!(marks.recorded(), None);
    let mut marks = whole();
    let long = "k".repeat(60_000);
    for key in 0..=MOST_BYTES / long.len() {
        marks.take(&request(&format!("SET {key}{long} 1"))).unwrap();
    }
    assert!(!marks.is_whole());
}

#[test]
fn recorded_are_the_keys_that_were_marked_before_and_those_written_since() {
    let mut marks = whole();
    marks.take(&request("SET a 1")).unwrap();
    marks.record();
    marks.some(9);
    marks.take(&request("RPUSH b 1")).unwrap();
    let mut keys: Vec<String> = marks.recorded().unwrap().into_iter().map(|key| key.name).collect();
    keys.sort();
    assert_eq!(keys, ["YQ==", "Yg=="]);
    marks.take(&request("FLUSHDB")).unwrap();
    assert_eq!(marks.recorded(), None);
}

#[test]
fn an_emptied_database_explains_deletions_only_of_a_watch_that_knew_all_keys() {
    let mut marks = open();
    marks.take(&request("FLUSHALL")).unwrap();
    assert!(!marks.sweep_begins().unwrap().flushed);
    let mut marks = whole();
    marks.take(&request("FLUSHALL")).unwrap();
    let token = marks.sweep_begins().unwrap();
    assert!(token.flushed);
    marks.sweep_ended(&token);
    assert!(!marks.sweep_begins().unwrap().flushed, "it explains one sweep");
}

#[test]
fn a_barrier_counts_what_stands_before_it_and_only_its_own_nonce_ends_the_wait() {
    let mut marks = whole();
    marks.expect(b"n:1");
    for words in ["SET a 1", "GET a", "ECHO n:0"] {
        assert!(!marks.take(&request(words)).unwrap());
    }
    assert!(marks.echo().is_none());
    assert!(marks.take(&request("echo n:1")).unwrap());
    marks.take(&request("SET b 1")).unwrap();
    let echo = marks.echo().unwrap();
    // Without the server's table of commands, GET and ECHO may have written too.
    assert_eq!((echo.writes, echo.counts["get"], echo.counts["echo"]), (4, 1, 2));
}

#[test]
fn a_watch_that_ended_says_why_and_knows_nothing_more() {
    let mut marks = whole();
    marks.take(&request("SET a 1")).unwrap();
    marks.close("the source closed MONITOR");
    let report = marks.now();
    assert_eq!((report.kind, report.marked, report.whole), (WatchKind::None, 0, false));
    assert_eq!(report.why.as_deref(), Some("the source closed MONITOR"));
}

#[test]
fn only_members_of_a_followed_key_are_marked_until_a_request_may_change_any() {
    let mut marks = whole();
    let key = (2, b"h".to_vec());
    assert!(marks.follow(2, b"h"));
    marks.take(&request("HSET h a 1 b 2")).unwrap();
    marks.take(&request("HDEL h a")).unwrap();
    marks.take(&request("HSET other a 1")).unwrap();
    assert_eq!(marks.some(9), Some((2, vec![b"other".to_vec()])));
    assert_eq!((marks.marked(), marks.with_members()), (1, vec![key.clone()]));
    assert_eq!(marks.members(&key), named(&["a", "b"]));
    assert_eq!((marks.marked(), marks.some(9)), (0, None));
    // A member that is written while the marked ones are read is marked again.
    marks.take(&request("HSET h a 2")).unwrap();
    assert_eq!(marks.members(&key), named(&["a"]));
    marks.take(&request("HSET h a 3")).unwrap();
    marks.take(&request("DEL h")).unwrap();
    marks.take(&request("HSET h a 4")).unwrap();
    assert_eq!(
        marks.with_members(),
        [],
        "members of a key that was deleted are not enough"
    );
    assert_eq!(marks.some(9), Some((2, vec![b"h".to_vec()])));
}

#[test]
fn a_followed_key_with_very_many_marked_members_is_marked_whole() {
    let mut marks = whole();
    assert!(marks.follow(2, b"s"));
    for number in 0..=MOST_MEMBERS {
        marks.take(&request(&format!("SADD s {number}"))).unwrap();
    }
    assert_eq!((marks.with_members(), marks.member_bytes), (vec![], 0));
    assert_eq!(marks.some(9), Some((2, vec![b"s".to_vec()])));
    // A mark of before the key is followed stays.
    marks.take(&request("DEL s")).unwrap();
    assert!(marks.follow(2, b"s"));
    assert!(marks.unmark(2, b"s"));
    marks.record();
    marks.take(&request("SADD s 1")).unwrap();
    assert_eq!(marks.recorded().map(|keys| keys.len()), Some(1));
    marks.everything();
    assert_eq!(marks.with_members(), []);
}

#[test]
fn a_followed_stream_is_marked_by_its_ends_its_ids_and_its_groups() {
    let mut marks = whole();
    let key = (2, b"x".to_vec());
    assert!(marks.follow(2, b"x") && marks.follow(2, b"y"));
    for words in ["XADD x MAXLEN ~ 5 * a 1", "XDEL x 1-1", "XACK x jobs 1-1"] {
        marks.take(&request(words)).unwrap();
    }
    marks
        .take(&request("XREADGROUP GROUP more me STREAMS y x > >"))
        .unwrap();
    let groups = |names: &[&str]| named(names).names;
    assert_eq!(
        marks.members(&key),
        Members {
            groups: groups(&["jobs", "more"]),
            ends: true,
            ..named(&["1-1"])
        }
    );
    assert_eq!(marks.with_members(), [(2, b"y".to_vec())]);
    assert_eq!(marks.members(&(2, b"y".to_vec())).groups, groups(&["more"]));
    assert_eq!((marks.member_bytes, marks.marked()), (0, 0));
    marks.take(&request("XADD x * a 1")).unwrap();
    marks.take(&request("XSETID x 5-1")).unwrap();
    assert_eq!(
        (marks.with_members(), marks.some(9)),
        (vec![], Some((2, vec![b"x".to_vec()])))
    );
}
