use super::*;
use infra_agent::record::Parent;

fn segment(number: u64, from: u64, to: u64, whole: bool) -> Segment {
    Segment {
        number,
        increment: 3,
        from,
        to,
        first: 10,
        last: 20,
        until: 19,
        whole,
        sha256: "0".repeat(64),
    }
}

#[test]
fn a_file_is_proven_as_far_as_it_holds_what_was_shipped() {
    let folder = tempfile::tempdir().unwrap();
    let mut memory = Memory::open(folder.path()).unwrap();
    let path = folder.path().join("log");
    for (number, from, to, whole, text) in [
        (1, 0, 4, true, "aaaa"),
        (2, 4, 8, true, "bbbb"),
        (3, 8, 12, false, "cccc"),
    ] {
        memory
            .add(segment(number, from, to, whole), digest::of(text.as_bytes()))
            .unwrap();
    }
    let memory = Memory::open(folder.path()).unwrap();
    assert_eq!(memory.next, 4);
    let proven = |content: &str| {
        fs::write(&path, content).unwrap();
        memory
            .prove(3, &mut File::open(&path).unwrap())
            .map(|proven| (proven.position.offset, proven.all))
    };
    assert_eq!(
        proven("aaaabbbbccccdddd"),
        Some((8, false)),
        "a command that goes over segments is not whole yet"
    );
    assert_eq!(proven("aaaabbbb"), Some((8, false)));
    assert_eq!(proven("aaaabbbXcccc"), Some((4, false)));
    assert_eq!(proven("aaa"), None);
    assert_eq!(proven("Xaaabbbb"), None);
}

#[test]
fn old_increments_are_forgotten_and_the_numbers_continue() {
    let folder = tempfile::tempdir().unwrap();
    let mut memory = Memory::open(folder.path()).unwrap();
    memory.add(segment(1, 0, 4, true), "x".into()).unwrap();
    memory.add(segment(2, 4, 8, true), "y".into()).unwrap();
    memory.forget_before(4).unwrap();
    let memory = Memory::open(folder.path()).unwrap();
    assert_eq!(memory.next, 3);
    assert_eq!(memory.last().unwrap().number, 2);
}

#[test]
fn half_a_line_does_not_spoil_the_next_one() {
    let folder = tempfile::tempdir().unwrap();
    let mut memory = Memory::open(folder.path()).unwrap();
    memory.add(segment(1, 0, 4, true), "x".into()).unwrap();
    let path = folder.path().join("cuts.log");
    let whole = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("{whole}{}", &whole[..30])).unwrap();
    let mut memory = Memory::open(folder.path()).unwrap();
    memory.add(segment(2, 4, 8, true), "y".into()).unwrap();
    assert_eq!(Memory::open(folder.path()).unwrap().cuts.len(), 2);
}

#[test]
fn a_gap_is_known_until_it_is_declared() {
    let folder = tempfile::tempdir().unwrap();
    let gap = Gap {
        after: 7,
        why: "it was off".into(),
    };
    Memory::open(folder.path()).unwrap().declare(gap.clone()).unwrap();
    let mut memory = Memory::open(folder.path()).unwrap();
    assert_eq!(memory.gap(), Some(&gap));
    memory.declared().unwrap();
    assert_eq!(Memory::open(folder.path()).unwrap().gap(), None);
}

/// Adds a segment's object to the spool and returns the segment.
fn spooled(spool: &Spool, timeline: &str, number: u64, until: i64, plain: &[u8]) -> Segment {
    let body = zstd::bulk::compress(plain, 1).unwrap();
    let segment = Segment {
        until,
        sha256: digest::of(&body),
        ..segment(number, (number - 1) * 4, number * 4, true)
    };
    spool.add(timeline, &segment.to_string(), &body).unwrap();
    segment
}

fn timeline(id: &str, parent: Option<&str>) -> Timeline {
    Timeline {
        schema_version: 2,
        id: id.into(),
        host: "master".into(),
        run_id: "r".into(),
        role: "master".into(),
        version: "8".into(),
        started_at: String::new(),
        start: Position::default(),
        parent: parent.map(|parent| Parent {
            timeline: parent.into(),
            up_to: Position {
                increment: 3,
                offset: 4,
            },
        }),
        gap: None,
    }
}

#[test]
fn a_segment_is_remembered_before_the_uploader_can_take_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut memory = Memory::open(folder.path()).unwrap();
    memory.begin(&timeline("a", None)).unwrap();
    // The agent crashes after it wrote the spool and before it wrote its memory.
    spooled(&Spool::open(folder.path().join("spool")).unwrap(), "a", 1, 9, b"aaaa");
    let spool = Spool::open(folder.path().join("spool")).unwrap();
    let mut memory = Memory::open(folder.path()).unwrap();
    assert_eq!(memory.next, 1);
    memory.recover(&spool).unwrap();
    assert_eq!((memory.next, memory.covered_until()), (2, 9));
    assert!(spool.oldest(Duration::ZERO).is_some());
}

#[test]
fn a_segment_whose_number_was_given_to_another_is_not_put() {
    let folder = tempfile::tempdir().unwrap();
    let spool = Spool::open(folder.path().join("spool")).unwrap();
    let mut memory = Memory::open(folder.path()).unwrap();
    memory.begin(&timeline("a", None)).unwrap();
    let right = spooled(&spool, "a", 1, 9, b"aaaa");
    memory.add(right.clone(), digest::of(b"aaaa")).unwrap();
    spooled(&spool, "a", 1, 8, b"bbbb");
    memory.recover(&spool).unwrap();
    let names: Vec<String> = spool.items().into_iter().map(|item| item.name).collect();
    assert_eq!(names, [right.to_string()]);
}

#[test]
fn the_uploader_gets_no_segment_that_could_not_be_recovered() {
    let folder = tempfile::tempdir().unwrap();
    let spool = Spool::open(folder.path().join("spool")).unwrap();
    let mut memory = Memory::open(folder.path()).unwrap();
    memory.begin(&timeline("a", None)).unwrap();
    spooled(&spool, "a", 1, 30, b"aaaa");
    // The agent crashed before it wrote this segment down.
    let spool = Spool::open(folder.path().join("spool")).unwrap();
    let oldest = || spool.oldest(std::time::Duration::ZERO).map(|item| item.timeline);
    let cuts = folder.path().join("cuts.log");
    fs::remove_file(&cuts).unwrap();
    fs::create_dir(&cuts).unwrap();
    assert!(memory.recover(&spool).is_err(), "a folder is no file to write to");
    assert_eq!(oldest(), None);
    fs::remove_dir(&cuts).unwrap();
    memory.recover(&spool).unwrap();
    assert_eq!(oldest().as_deref(), Some("a"));
}

#[test]
fn a_gap_claims_nothing_of_the_segments_that_were_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let spool = Spool::open(folder.path().join("spool")).unwrap();
    let mut memory = Memory::open(folder.path()).unwrap();
    memory.begin(&timeline("a", None)).unwrap();
    memory.add(segment(1, 0, 4, true), "x".into()).unwrap();
    memory.begin(&timeline("b", Some("a"))).unwrap();
    spool.add("b", "timeline.json", b"{}").unwrap();
    for (number, until) in [(1, 30), (2, 40)] {
        let segment = spooled(&spool, "b", number, until, b"cccc");
        memory.add(segment, digest::of(b"cccc")).unwrap();
    }
    assert_eq!(memory.covered_until(), 40);
    let waiting = spool.items();
    assert_eq!(
        memory.covered_without(&waiting, 5),
        19,
        "the last segment of the timeline before"
    );
    assert_eq!(memory.covered_without(&waiting[1..], 5), 30, "the oldest segment stays");
    memory.begin(&timeline("b", None)).unwrap();
    let segment = spooled(&spool, "b", 3, 50, b"dddd");
    memory.add(segment, digest::of(b"dddd")).unwrap();
    let waiting = [waiting[0].clone(), spool.items().pop().unwrap()];
    assert_eq!(
        memory.covered_without(&waiting, 5),
        5,
        "nothing of before is remembered"
    );
}

#[test]
fn a_log_that_began_anew_needs_a_base_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let mut memory = Memory::open(folder.path()).unwrap();
    memory.begin(&timeline("b", None)).unwrap();
    memory.begin(&timeline("c", Some("b"))).unwrap();
    has_base(folder.path(), "a").unwrap();
    assert!(is_baseless(folder.path()), "that base is of an earlier log");
    has_base(folder.path(), "c").unwrap();
    assert!(!is_baseless(folder.path()));
}
