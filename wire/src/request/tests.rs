use super::*;

fn request(client: &str, at: u64, words: &str) -> Request {
    let origin = match client {
        "lua" => Origin::Script,
        client => Origin::Client(client.into()),
    };
    Request {
        at,
        database: 0,
        origin,
        arguments: words.split(' ').map(|word| Argument::Kept(word.into())).collect(),
    }
}

fn of(words: &str) -> Change {
    Requests::default().change(&request("a:1", 0, words)).unwrap()
}

fn here(names: &[&str]) -> Change {
    Change::Keys(names.iter().map(|name| (0, (*name).into())).collect())
}

#[test]
fn requests_name_the_keys_that_they_may_change() {
    for (words, change) in [
        ("spop a", here(&["a"])),
        ("BLPOP a b 0", here(&["a", "b"])),
        ("blmove a b left right 0", here(&["a", "b"])),
        ("LMPOP 2 a b LEFT COUNT 3", here(&["a", "b"])),
        ("BZMPOP 1 2 a b MIN", here(&["a", "b"])),
        ("GETEX a", here(&["a"])),
        ("EXPIRE a 5 NX", here(&["a"])),
        ("PFCOUNT a", here(&["a"])),
        ("SORT a STORE b", here(&["b"])),
        ("SORT a", Change::Nothing),
        ("GEORADIUS a 1 1 5 km STORE b", here(&["b"])),
        ("XREADGROUP GROUP g c COUNT 1 STREAMS a b > >", here(&["a", "b"])),
        (
            "XREADGROUP BLOCK 5 GROUP streams streams NOACK streams a >",
            here(&["a"]),
        ),
        (
            "XREADGROUP GROUP g c MAXCOUNT 9 MAXSIZE 9 CLAIM 5 STREAMS a >",
            here(&["a"]),
        ),
        (
            "XREADGROUP GROUP g c LATER 1 STREAMS a >",
            Change::Everything { flushed: false },
        ),
        ("XAUTOCLAIM a g c 0 0", here(&["a"])),
        ("MIGRATE h 1 a 0 5", here(&["a"])),
        ("MIGRATE h 1  0 5 KEYS a b", here(&["a", "b"])),
        ("MIGRATE h 1 x 0 5 KEYS a b", here(&["x", "a", "b"])),
        ("MOVE a 2", Change::Keys(vec![(0, "a".into()), (2, "a".into())])),
        ("COPY a b DB 3", Change::Keys(vec![(3, "b".into())])),
        ("EVAL script 1 a", Change::Nothing),
        ("FUNCTION LOAD x", Change::Functions),
        ("FUNCTION LIST", Change::Nothing),
        ("PUBLISH a b", Change::Nothing),
        ("FLUSHDB", Change::Everything { flushed: true }),
        ("SWAPDB 0 1", Change::Everything { flushed: false }),
        ("NEVER.HEARD a", Change::Everything { flushed: false }),
        ("LMPOP 5 a", Change::Everything { flushed: false }),
    ] {
        assert_eq!(of(words), change, "{words}");
    }
}

#[test]
fn a_key_that_was_too_long_to_keep_may_be_any() {
    let mut long = request("a:1", 0, "SET a 1");
    long.arguments[1] = Argument::Skipped(1 << 20);
    let change = Requests::default().change(&long).unwrap();
    assert_eq!(change, Change::Everything { flushed: false });
    // The value may be as long as it likes.
    let mut long = request("a:1", 0, "SET a 1");
    long.arguments[2] = Argument::Skipped(1 << 30);
    assert_eq!(Requests::default().change(&long).unwrap(), here(&["a"]));
}

/// Returns what a push to `a` changes after these requests.
fn after(before: &[(&str, u64, &str)], at: u64) -> Change {
    let mut requests = Requests::default();
    for (client, at, words) in before {
        requests.change(&request(client, *at, words)).unwrap();
    }
    requests.change(&request("pusher:1", at, "RPUSH a 1")).unwrap()
}

#[test]
fn a_push_writes_where_waiting_clients_move_its_element() {
    let waits = ("w:1", 0, "BLMOVE a b LEFT RIGHT 0");
    assert_eq!(after(&[waits], 1), here(&["a", "b"]));
    let chain = ("w:2", 0, "BRPOPLPUSH b c 0");
    assert_eq!(after(&[chain, waits], 1), here(&["a", "b", "c"]));
    // Moves in a circle end.
    let circle = ("w:2", 0, "BRPOPLPUSH b a 0");
    assert_eq!(after(&[circle, waits], 1), here(&["a", "b"]));
}

#[test]
fn a_client_that_asks_again_or_whose_time_is_over_waits_no_more() {
    let waits = ("w:1", 0, "BLMOVE a b LEFT RIGHT 0");
    assert_eq!(after(&[waits, ("w:1", 1, "PING")], 2), here(&["a"]));
    assert_eq!(after(&[waits, ("w:2", 1, "PING")], 2), here(&["a", "b"]));
    let limited = ("w:1", 0, "BLMOVE a b LEFT RIGHT 1.5");
    assert_eq!(after(&[limited], 1_500_000 + SLACK), here(&["a", "b"]));
    assert_eq!(after(&[limited], 1_500_001 + SLACK), here(&["a"]));
    // A script never waits.
    assert_eq!(after(&[("lua", 0, "BLMOVE a b LEFT RIGHT 0")], 1), here(&["a"]));
}

#[test]
fn a_push_may_write_anything_while_a_client_waits_from_before() {
    let unseen = || {
        let mut requests = Requests::default();
        requests.wait_unseen(HashSet::from(["w:1".to_owned()]));
        requests
    };
    let everything = Change::Everything { flushed: false };
    let mut requests = unseen();
    let mut change = |words: &str| requests.change(&request("pusher:1", 0, words)).unwrap();
    assert_eq!(change("SET a 1"), here(&["a"]));
    for words in ["RPUSH a 1", "LMOVE b a LEFT LEFT", "RENAME b a", "SORT b STORE a"] {
        assert_eq!(change(words), everything, "{words}");
    }
    let asks_again = |requests: &mut Requests| drop(requests.change(&request("w:1", 1, "PING")));
    let is_gone = |requests: &mut Requests| requests.still_wait(&HashSet::new());
    for ends in [asks_again, is_gone] {
        let mut requests = unseen();
        requests.still_wait(&HashSet::from(["w:1".to_owned()]));
        assert!(requests.has_unseen());
        ends(&mut requests);
        assert_eq!(
            requests.change(&request("pusher:1", 2, "RPUSH a 1")).unwrap(),
            here(&["a"])
        );
    }
}

#[test]
fn so_many_waiting_clients_that_they_cannot_be_followed_are_an_error() {
    let mut requests = Requests::default();
    let mut wait = |client: usize| requests.change(&request(&client.to_string(), 0, "BLMOVE a b LEFT RIGHT 0"));
    for client in 0..MOST_WAITING {
        wait(client).unwrap();
    }
    assert!(wait(MOST_WAITING).is_err());
}
