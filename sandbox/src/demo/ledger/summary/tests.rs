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
    let expectations = read(&["L 1 w 1000\nh 0 a:1\na 0 5 m 0 key 3\nk 0 6 0\na 1 7 m 0 key 4"]);
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
    let old = "L 1 w1 1000000\nh 0 old:1\na 0 0 p j-1\nk 0 1000 0\na 1 2000 p j-2\nk 1 3000 0\na 2 4000 p j-3\n";
    let new = "L 1 w2 2000000\nh 0 new:1\nc 10 0 refused\na 0 0 p j-4\nk 0 500 0\na 1 600 c 0 k\ne 1 700 0 io\n";
    let report = report(&read(&[new, old]));
    assert_eq!(report.app_write_gap_ms, Some(997.5));
    assert_eq!((report.acknowledged, report.unanswered), (3, 2));
    assert_eq!((report.client_errors, report.connection_errors), (1, 1));
    assert_eq!(report.switches[0].late_acknowledgements, 0);
    assert_eq!(report.longest_gap_ms, 997.5);
}

#[test]
fn two_endpoints_that_take_writes_show_as_late_acknowledgements() {
    let old = "L 1 w1 0\nh 0 old:1\na 0 0 p j-1\nk 0 1000 0\na 1 0 p j-2\nk 1 9000 0\n";
    let new = "L 1 w2 0\nh 0 new:1\na 0 0 p j-3\nk 0 5000 0\n";
    let report = report(&read(&[old, new]));
    assert_eq!(report.switches[0].late_acknowledgements, 1);
    assert_eq!(report.app_write_gap_ms, Some(-4.0));
}

#[test]
fn a_claim_without_an_attempt_is_refused() {
    assert!(read_one(&mut Expectations::default(), "L 1 w 0\nh 0 a:1\nk 0 1 0\n".as_bytes()).is_err());
}
