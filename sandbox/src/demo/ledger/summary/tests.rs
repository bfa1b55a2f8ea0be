use super::*;

fn read(ledgers: &[&str]) -> Expectations {
    let mut expectations = Expectations::default();
    for ledger in ledgers {
        read_one(&mut expectations, ledger.as_bytes()).unwrap();
    }
    expectations
}

#[test]
fn a_line_that_is_still_being_written_is_left_out() {
    let expectations = read(&[r#"{"start":["w",1000]}
        {"attempt":[0,5,{"marker":[0,"key",3]}]}
        {"acknowledged":[0,6,"a:1"]}
        {"attempt":[1,7,{"marker":[0,"key",4]}]}"#]);
    assert_eq!(
        expectations.risings[&(0, "key".into(), None)],
        Rising {
            acknowledged: Some(3),
            attempted: 3
        }
    );
}

#[test]
fn the_gap_is_between_the_last_write_of_the_old_and_the_first_of_the_new_endpoint() {
    let old = r#"{"start":["w1",1000000]}
        {"attempt":[0,0,{"push":["j-1"]}]}
        {"acknowledged":[0,1000,"old:1"]}
        {"attempt":[1,2000,{"push":["j-2"]}]}
        {"acknowledged":[1,3000,"old:1"]}
        {"attempt":[2,4000,{"push":["j-3"]}]}
"#;
    let new = r#"{"start":["w2",2000000]}
        {"not_connected":[10,"new:1","refused"]}
        {"attempt":[0,0,{"push":["j-4"]}]}
        {"acknowledged":[0,500,"new:1"]}
        {"attempt":[1,600,{"counter":[0,"k"]}]}
        {"failed":[1,700,"new:1","io"]}
"#;
    let report = report(&read(&[new, old]));
    assert_eq!(report.app_write_gap_ms, Some(997.5));
    assert_eq!((report.acknowledged, report.unanswered), (3, 2));
    assert_eq!((report.client_errors, report.connection_errors), (1, 1));
    assert_eq!(report.switches[0].late_acknowledgements, 0);
    assert_eq!(report.longest_gap_ms, 997.5);
}

#[test]
fn two_endpoints_that_take_writes_show_as_late_acknowledgements() {
    let old = r#"{"start":["w1",0]}
        {"attempt":[0,0,{"push":["j-1"]}]}
        {"acknowledged":[0,1000,"old:1"]}
        {"attempt":[1,0,{"push":["j-2"]}]}
        {"acknowledged":[1,9000,"old:1"]}
"#;
    let new = r#"{"start":["w2",0]}
        {"attempt":[0,0,{"push":["j-3"]}]}
        {"acknowledged":[0,5000,"new:1"]}
"#;
    let report = report(&read(&[old, new]));
    assert_eq!(report.switches[0].late_acknowledgements, 1);
    assert_eq!(report.app_write_gap_ms, Some(-4.0));
}

/// A process that ended before three answers came.
const ENDED: &str = r#"{"start":["w1",0]}
        {"attempt":[0,0,{"counter":[0,"k"]}]}
        {"attempt":[1,0,{"push":["w1-0"]}]}
        {"attempt":[2,0,{"done":["w1-9"]}]}
        {"failed":[0,900,"old:1","unanswered_at_exit"]}
        {"failed":[1,900,"old:1","unanswered_at_exit"]}
        {"failed":[2,900,"old:1","unanswered_at_exit"]}
"#;
/// The one after it.
const NEXT: &str = r#"{"start":["w2",1000]}
        {"attempt":[0,0,{"counter":[0,"k"]},{"process":"w1","operation":0}]}
        {"attempt":[1,0,{"push":["w1-0"]},{"process":"w1","operation":1}]}
        {"acknowledged":[0,50,"new:1",1,true]}
        {"failed":[1,60,"new:1","connection_lost"]}
        {"attempt":[2,70,{"done":["w1-9"]}]}
        {"repeated":[2,75,"new:1","connection_lost"]}
        {"acknowledged":[2,80,"new:1"]}
"#;

#[test]
fn a_repeat_that_was_confirmed_settles_what_failed_before_and_one_that_failed_is_an_error() {
    assert_eq!(report(&read(&[ENDED])).client_errors, 3);
    for order in [[ENDED, NEXT], [NEXT, ENDED]] {
        let expectations = read(&order);
        let report = report(&expectations);
        assert_eq!(
            report.client_errors_by_kind,
            BTreeMap::from([("connection_lost".to_owned(), 1)])
        );
        assert_eq!((report.repeated, report.found_done), (3, 1));
        assert_eq!(report.first_acknowledged_us, Some(1050));
        let counter = &expectations.counters[&(0, "k".into())];
        assert_eq!(counter.attempted, 1, "two attempts at one write may have it done once");
    }
}

#[test]
fn a_claim_without_an_attempt_is_refused() {
    assert!(
        read_one(
            &mut Expectations::default(),
            r#"{"start":["w",0]}
        {"acknowledged":[0,1,"a:1"]}
"#
            .as_bytes()
        )
        .is_err()
    );
}
