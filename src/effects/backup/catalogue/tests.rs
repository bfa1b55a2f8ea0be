use super::*;
use infra_agent::record::Parent;

fn base(timeline: &str, increment: u64, from: i64) -> Commit {
    Commit {
        schema_version: 2,
        place: format!("p/{timeline}/{from}"),
        class: "hourly".into(),
        timeline: timeline.into(),
        generation: from.to_string(),
        host: "master".into(),
        role: "master".into(),
        version: "8".into(),
        run_id: "r".into(),
        replication_id: "i".into(),
        offset: 0,
        start: Position { increment, offset: 0 },
        covers_from: from,
        rdb_version: 12,
        keys: 1,
        keyspace: BTreeMap::new(),
        parts: Vec::new(),
        bytes: 0,
        plain_sha256: String::new(),
        plain_bytes: 0,
        started: String::new(),
        finished: String::new(),
        fell_from: None,
        redis_conf: String::new(),
        users_acl: String::new(),
    }
}

/// Each segment: (increment, from, to, first, last).
fn log(start: (u64, u64), parent: Option<(&str, (u64, u64))>, pieces: &[(u64, u64, u64, i64, i64)]) -> Log {
    let position = |(increment, offset)| Position { increment, offset };
    Log {
        record: Some(Timeline {
            schema_version: 2,
            id: String::new(),
            host: "master".into(),
            run_id: "r".into(),
            role: "master".into(),
            version: "8".into(),
            started_at: String::new(),
            start: position(start),
            parent: parent.map(|(timeline, up_to)| Parent {
                timeline: timeline.into(),
                up_to: position(up_to),
            }),
            gap: None,
        }),
        pieces: pieces
            .iter()
            .enumerate()
            .map(|(index, (increment, from, to, first, last))| Piece {
                segment: Segment {
                    number: index as u64 + 1,
                    increment: *increment,
                    from: *from,
                    to: *to,
                    first: *first,
                    last: *last,
                    until: last - 1,
                    whole: true,
                    sha256: "0".repeat(64),
                },
                bytes: 10,
            })
            .collect(),
    }
}

fn at(second: i64) -> Wish {
    Wish::At(Timestamp::from_second(second).unwrap())
}

/// Returns a base per hour and one log with a rewrite in it.
fn plain() -> Catalogue {
    Catalogue {
        bases: vec![base("a", 1, 100), base("a", 2, 200)],
        timelines: BTreeMap::from([(
            "a".into(),
            log(
                (1, 0),
                None,
                &[
                    (1, 0, 10, 100, 150),
                    (1, 10, 20, 150, 201),
                    (2, 0, 0, 201, 201),
                    (2, 0, 30, 201, 300),
                ],
            ),
        )]),
        findings: Vec::new(),
    }
}

#[test]
fn the_newest_base_before_a_second_serves_it_with_no_more_log_than_needed() {
    let catalogue = plain();
    let chosen = |second| {
        let choice = catalogue.choose(&at(second)).unwrap();
        (choice.base.covers_from, choice.steps.len())
    };
    assert_eq!(chosen(100), (100, 1));
    assert_eq!(chosen(149), (100, 1));
    assert_eq!(chosen(150), (100, 2));
    assert_eq!(chosen(199), (100, 2));
    // The second of the rewrite uses its base, and the log behind it.
    assert_eq!(chosen(201), (200, 2));
    assert_eq!(chosen(299), (200, 2));
    assert_eq!(catalogue.covered().len(), 1);
}

#[test]
fn a_second_that_is_not_covered_is_refused_with_its_neighbours() {
    let mut catalogue = plain();
    catalogue.bases.push(base("b", 7, 500));
    catalogue
        .timelines
        .insert("b".into(), log((7, 0), None, &[(7, 0, 5, 500, 600)]));
    let refusal = |second| match catalogue.choose(&at(second)) {
        Err(Uncovered::Between { before, after }) => {
            (before.map(Timestamp::as_second), after.map(Timestamp::as_second))
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(refusal(50), (None, Some(100)));
    assert_eq!(refusal(400), (Some(299), Some(500)));
    assert_eq!(refusal(900), (Some(599), None));
}

#[test]
fn a_later_timeline_replaces_what_its_files_had_lost() {
    // The machine lost power: bytes after 10 were shipped and never written to its disk.
    let mut catalogue = plain();
    catalogue.bases.truncate(1);
    catalogue
        .timelines
        .insert("b".into(), log((1, 10), Some(("a", (1, 10))), &[(1, 10, 40, 150, 250)]));
    let line = catalogue.line(&catalogue.bases[0]);
    let path: Vec<(&str, u64, u64)> = line
        .steps
        .iter()
        .map(|step| (step.timeline, step.piece.segment.from, step.up_to))
        .collect();
    assert_eq!(path, [("a", 0, 10), ("b", 10, 40)]);
    assert_eq!(line.until, 249);
}

#[test]
fn timelines_are_followed_over_several_restarts() {
    let mut catalogue = plain();
    catalogue.bases.truncate(1);
    catalogue
        .timelines
        .insert("b".into(), log((2, 30), Some(("a", (2, 30))), &[(2, 30, 50, 300, 400)]));
    catalogue.timelines.insert(
        "c".into(),
        log(
            (2, 50),
            Some(("b", (2, 50))),
            &[(2, 50, 60, 400, 500), (3, 0, 9, 500, 600)],
        ),
    );
    assert_eq!(catalogue.line(&catalogue.bases[0]).until, 599);
    assert!(catalogue.holes(0).is_empty());
}

#[test]
fn a_missing_piece_ends_a_line_and_is_found() {
    for missing in 0..4 {
        let mut catalogue = plain();
        let before = catalogue.line(&catalogue.bases[0]).until;
        let removed = catalogue.timelines.get_mut("a").unwrap().pieces.remove(missing);
        let ended = catalogue.line(&catalogue.bases[0]).until;
        let found = catalogue.holes(0);
        if missing == 3 {
            // The newest segment: only the age of the log can show that it is missing.
            assert!(found.is_empty());
        } else {
            assert_eq!(found.len(), 1, "{missing}: {found:?}");
        }
        let holds_nothing = removed.segment.from == removed.segment.to;
        assert!(ended < before || holds_nothing, "{missing}: {ended}");
    }
}

#[test]
fn a_base_can_be_chosen_by_its_id_and_the_latest_has_no_end() {
    let catalogue = plain();
    let alone = catalogue.choose(&Wish::Base("100".into())).unwrap();
    assert!(alone.steps.is_empty() && alone.until.is_none());
    assert_eq!(
        catalogue.choose(&Wish::Base("101".into())).err(),
        Some(Uncovered::NoSuchBase)
    );
    let latest = catalogue.choose(&Wish::Latest).unwrap();
    assert_eq!((latest.base.covers_from, latest.until), (200, None));
    assert_eq!(
        Catalogue::default().choose(&Wish::Latest).err(),
        Some(Uncovered::NoBackup)
    );
}

#[test]
fn the_base_of_a_new_and_empty_master_hides_what_was_before() {
    let mut catalogue = plain();
    let latest = |catalogue: &Catalogue| catalogue.choose(&Wish::Latest).unwrap().base.place.clone();
    let before = latest(&catalogue);
    let empty = Commit {
        keys: 0,
        ..base("empty", 1, 1_000_000)
    };
    catalogue.bases.push(empty.clone());
    assert_eq!(latest(&catalogue), empty.place);
    assert_eq!(latest(&catalogue.without_empty_bases()), before);
}

#[test]
fn a_log_whose_beginning_has_expired_has_no_gap() {
    let id = "20010909T014640.000Z-master-0";
    assert_eq!(began(id), Some(1_000_000_000));
    let old = log(
        (1, 0),
        None,
        &[
            (1, 0, 10, 1_000_000_000, 1_000_100_000),
            (1, 10, 20, 1_000_100_000, 1_000_200_000),
        ],
    );
    let mut catalogue = Catalogue {
        timelines: BTreeMap::from([(id.to_string(), old)]),
        ..Catalogue::default()
    };
    let log = catalogue.timelines.get_mut(id).unwrap();
    log.record = None;
    log.pieces.remove(0);
    assert_eq!(catalogue.holes(1_000_150_000), []);
    // A segment too new to have expired must be there.
    assert_eq!(catalogue.holes(1_000_050_000).len(), 1);
    assert_eq!(catalogue.holes(0).len(), 2);
}

#[test]
fn the_newest_base_and_log_say_whether_the_app_was_on_the_pair() {
    let following = "user default off\nuser app off resetpass #00 ~* &* +@all\n";
    let serving = "user default off\nuser app on resetpass #00 ~* &* +@all\n";
    let of = |acl: &str, role: &str| {
        let mut old = base("t1", 1, 100);
        old.users_acl = following.into();
        let mut new = base("t1", 2, 200);
        new.users_acl = acl.into();
        let mut catalogue = Catalogue {
            bases: vec![old, new],
            timelines: [("t1", "master"), ("t2", role)]
                .map(|(id, role)| {
                    let mut log = log((1, 0), None, &[]);
                    log.record.as_mut().unwrap().role = role.into();
                    (id.to_string(), log)
                })
                .into(),
            findings: Vec::new(),
        };
        catalogue.bases.reverse();
        catalogue
    };
    assert!(of(serving, "master").served_an_app());
    assert!(!of(following, "master").served_an_app(), "the app was not let in");
    // It went back to its source after that base.
    assert!(!of(serving, "slave").served_an_app(), "the pair followed again");
    assert!(!Catalogue::default().served_an_app(), "there is no base");
    let mut without_record = of(serving, "master");
    without_record.timelines.get_mut("t2").unwrap().record = None;
    assert!(without_record.served_an_app());
}

#[test]
fn what_came_from_the_source_is_read_from_the_newest_redis_conf() {
    let mut catalogue = plain();
    let newest = catalogue.bases.last_mut().unwrap();
    newest.redis_conf =
        "port 0\nmaxmemory 400\ndatabases 32\nmaxmemory-policy allkeys-lru\nnotify-keyspace-events \"xE\"\n# role: master\n".into();
    let expected = [
        ("databases", "32"),
        ("maxmemory-policy", "allkeys-lru"),
        ("notify-keyspace-events", "xE"),
    ];
    assert_eq!(
        catalogue.source_settings(),
        expected
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .into()
    );
    assert_eq!(Catalogue::default().source_settings(), BTreeMap::new());
}
