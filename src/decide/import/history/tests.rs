use super::watch as watch_of;
use super::*;

const HOUR: u64 = 3600;

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds as i64).unwrap()
}

fn look(seconds: u64, differing: u64) -> Look {
    Look {
        at: at(seconds),
        rows: 1_200,
        keys: 1_100,
        differing,
        rounds: 1,
        ..Look::default()
    }
}

fn failed(seconds: u64) -> Look {
    Look {
        failure: Some("no answer".into()),
        ..look(seconds, 0)
    }
}

fn watch(looks: Vec<Look>) -> Watch {
    Watch {
        begun_at: at(0),
        of: "one".into(),
        finished: false,
        looks,
    }
}

#[test]
fn two_days_without_a_difference_end_with_one_sentence_and_its_figures() {
    let looks = (0..=96).map(|number| look(number * HOUR / 2, 0)).collect();
    let summary = Summary::of(&watch(looks));
    assert!(summary.is_identical());
    assert_eq!(summary.sentence(), "identical in 97 of 97 looks over 48 h");
    assert_eq!(
        summary.evidence(),
        "the last look compared 1,200 rows and 1,100 keys, and 0 differed; the longest time between two looks was 30 min"
    );
}

#[test]
fn a_look_that_differs_or_fails_is_counted_and_a_watch_without_looks_proves_nothing() {
    let summary = Summary::of(&watch(vec![look(0, 0), look(60, 3), failed(120), look(180, 0)]));
    assert!(!summary.is_identical());
    assert_eq!(
        summary.sentence(),
        "identical in 2 of 3 looks over 3 min; 1 could not be made"
    );
    assert_eq!(summary.longest_pause_seconds, 120);
    let failing = Summary::of(&watch(vec![failed(0)]));
    assert!(!failing.is_identical() && !Summary::of(&watch(Vec::new())).is_identical());
    assert!(failing.evidence().contains("no answer"), "{}", failing.evidence());
}

#[test]
fn looks_come_at_each_interval_and_the_last_one_at_the_end() {
    let (lasts, every) = (Duration::from_secs(100), Duration::from_secs(40));
    let due = |looks: Vec<Look>| next_look(&watch(looks), lasts, every);
    assert_eq!(due(Vec::new()), Some(at(0)));
    assert_eq!(due(vec![look(1, 0)]), Some(at(41)));
    assert_eq!(due(vec![look(1, 0), look(81, 0)]), Some(at(101)));
    assert_eq!(due(vec![look(1, 0), look(101, 0)]), None);
    // After a kill the next look is overdue.
    assert_eq!(due(vec![look(1, 0), look(90, 0)]), Some(at(101)));
}

#[test]
fn an_interrupted_watch_goes_on_and_another_mapping_or_a_finished_one_begins_anew() {
    let mut history = History::default();
    let mut begun = |of: &str, seconds: u64, restart: bool| {
        let begun_at = begin(&history, of, at(seconds), restart);
        watch_of(&mut history, of, begun_at).looks.push(look(seconds, 0));
        begun_at
    };
    assert_eq!(begun("one", 0, false), at(0));
    assert_eq!(begun("one", 50, false), at(0));
    assert_eq!(begun("two", 60, false), at(60));
    assert_eq!(begun("one", 70, false), at(0));
    assert_eq!(begun("one", 80, true), at(80));
    assert_eq!(history.watches[0].looks.len(), 3);
    watch_of(&mut history, "one", at(80)).finished = true;
    assert_eq!(begin(&history, "one", at(95), false), at(95));
    for number in 0..30 {
        watch_of(&mut history, "one", at(1_000 + number));
    }
    assert_eq!(history.watches.len(), KEPT);
}

#[test]
fn histories_from_two_places_become_one_without_doubled_looks() {
    let both = |looks| History {
        watches: vec![watch(looks)],
    };
    let mut later = both(vec![look(0, 0), look(60, 1)]);
    later.watches[0].finished = true;
    let all = merged(&both(vec![look(0, 0), look(30, 0)]), &later);
    assert_eq!(all.watches.len(), 1);
    assert!(all.watches[0].finished);
    let times: Vec<Timestamp> = all.watches[0].looks.iter().map(|look| look.at).collect();
    assert_eq!(times, [at(0), at(30), at(60)]);
    assert_eq!(merged(&all, &History::default()), all);
    assert_eq!(merged(&History::default(), &all), all);
}

#[test]
fn spans_have_no_part_that_is_zero() {
    let shown = |seconds| span(Duration::from_secs(seconds));
    assert_eq!(
        [0, 4, 300, 330, HOUR, 48 * HOUR, 47 * HOUR + 120].map(shown),
        ["0 s", "4 s", "5 min", "5 min 30 s", "1 h", "48 h", "47 h 2 min"]
    );
}
