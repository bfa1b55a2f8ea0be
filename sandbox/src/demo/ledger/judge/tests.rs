use super::*;
use crate::demo::ledger::summary::{Count, Job, Rising};

fn marker(acknowledged: Option<u64>, attempted: u64) -> Expectations {
    let mut expectations = Expectations::default();
    expectations.risings.insert(
        (1, "marker".into(), None),
        Rising {
            acknowledged,
            attempted,
        },
    );
    expectations
}

fn marker_verdict(acknowledged: Option<u64>, attempted: u64, found: Option<Option<u64>>) -> Verdict {
    let expectations = marker(acknowledged, attempted);
    let mut observed = Observed::default();
    observed
        .risings
        .extend(found.map(|value| ((1, "marker".to_owned(), None), value)));
    judge(&expectations, &expectations, &observed)
}

#[test]
fn a_marker_may_stand_anywhere_between_acknowledged_and_attempted() {
    assert!(marker_verdict(Some(5), 7, Some(Some(5))).is_clean());
    assert!(marker_verdict(Some(5), 7, Some(Some(7))).is_clean());
    assert!(marker_verdict(None, 7, None).is_clean());
    assert_eq!(marker_verdict(Some(5), 7, Some(Some(4))).lost, 1);
    assert_eq!(marker_verdict(Some(5), 7, None).lost, 1);
    assert_eq!(marker_verdict(Some(5), 7, Some(None)).lost, 1);
    assert_eq!(marker_verdict(Some(5), 7, Some(Some(8))).unexplained, 1);
}

#[test]
fn a_write_that_was_tried_while_redis_was_read_is_explained() {
    let mut observed = Observed::default();
    observed.risings.insert((1, "marker".into(), None), Some(9));
    assert!(judge(&marker(Some(5), 5), &marker(Some(9), 9), &observed).is_clean());
}

#[test]
fn a_score_that_is_gone_or_older_is_lost() {
    let place = (0, "scores".to_owned(), Some("member".to_owned()));
    let mut expectations = Expectations::default();
    expectations.risings.insert(
        place.clone(),
        Rising {
            acknowledged: Some(5),
            attempted: 5,
        },
    );
    let mut observed = Observed::default();
    assert_eq!(judge(&expectations, &expectations, &observed).lost, 1);
    observed.risings.insert(place.clone(), Some(4));
    assert_eq!(judge(&expectations, &expectations, &observed).lost, 1);
    observed.risings.insert(place, Some(5));
    assert!(judge(&expectations, &expectations, &observed).is_clean());
}

fn counter_verdict(answers: &[i64], attempted: u64, found: Option<i64>) -> Verdict {
    let place = (0, "counter".to_owned());
    let mut count = Count {
        attempted,
        ..Count::default()
    };
    for answer in answers {
        count.repeated += u64::from(!count.answers.insert(*answer));
        count.highest = count.highest.max(*answer);
    }
    let mut expectations = Expectations::default();
    expectations.counters.insert(place.clone(), count);
    let mut observed = Observed::default();
    observed.counters.extend(found.map(|value| (place, Some(value))));
    judge(&expectations, &expectations, &observed)
}

#[test]
fn a_counter_lies_between_acknowledgements_and_attempts() {
    assert!(counter_verdict(&[1, 2, 3], 3, Some(3)).is_clean());
    assert!(counter_verdict(&[1, 2, 3], 5, Some(5)).is_clean());
    assert_eq!(counter_verdict(&[1, 2, 3], 3, Some(2)).lost, 1);
    assert_eq!(counter_verdict(&[1, 2, 3], 3, None).lost, 3);
    assert_eq!(counter_verdict(&[1, 2, 3], 3, Some(5)).duplicated, 2);
}

#[test]
fn a_counter_that_gave_a_number_twice_went_back_whatever_it_says_now() {
    let verdict = counter_verdict(&[1, 2, 2, 3], 6, Some(4));
    assert_eq!(verdict.by_kind[&FindingKind::CounterWentBack], 1);
}

#[test]
fn a_counter_below_a_number_that_it_gave_went_back_even_if_the_count_fits() {
    // Two other increments, which no ledger has as acknowledged, made it reach 5.
    assert_eq!(counter_verdict(&[5], 5, Some(3)).lost, 2);
}

fn job_verdict(job: Job, done: u8, waiting: usize) -> Verdict {
    let mut expectations = Expectations::default();
    expectations.jobs.insert("web.1-0".into(), job);
    let mut observed = Observed::default();
    observed.done.insert("web.1".into(), vec![done << 6]);
    observed.waiting = vec!["web.1-0".to_owned(); waiting];
    judge(&expectations, &expectations, &observed)
}

#[test]
fn a_pushed_job_is_done_once_or_waits_once() {
    let pushed = || Job {
        pushed: true,
        ..Job::default()
    };
    let finished = || Job {
        pushed: true,
        done_acknowledged: 1,
        ..Job::default()
    };
    assert!(job_verdict(pushed(), 0, 1).is_clean());
    assert!(job_verdict(pushed(), 1, 0).is_clean());
    assert!(job_verdict(finished(), 1, 0).is_clean());
    assert!(job_verdict(Job::default(), 0, 0).is_clean());
    assert_eq!(job_verdict(pushed(), 0, 0).by_kind[&FindingKind::LostJob], 1);
    assert_eq!(job_verdict(finished(), 0, 0).by_kind[&FindingKind::LostCompletion], 1);
    assert_eq!(job_verdict(finished(), 0, 1).by_kind[&FindingKind::LostCompletion], 1);
    assert_eq!(job_verdict(finished(), 0, 1).duplicated, 0);
}

#[test]
fn a_job_that_ran_or_stands_twice_is_doubled() {
    let finished = |done_acknowledged| Job {
        pushed: true,
        done_acknowledged,
        ..Job::default()
    };
    for (job, done, waiting) in [
        (finished(1), 2, 0),
        (finished(1), 1, 1),
        (finished(2), 1, 0),
        (finished(0), 0, 2),
    ] {
        let verdict = job_verdict(job.clone(), done, waiting);
        assert_eq!(
            (verdict.duplicated, verdict.lost),
            (1, 0),
            "{job:?} done {done} waiting {waiting}"
        );
    }
}

#[test]
fn a_held_job_need_not_be_in_redis_until_it_was_put_back() {
    let job = |holds_attempted, put_backs_acknowledged| Job {
        pushed: true,
        holds_attempted,
        put_backs_acknowledged,
        ..Job::default()
    };
    assert!(job_verdict(job(1, 0), 0, 0).is_clean());
    assert!(job_verdict(job(1, 1), 0, 1).is_clean());
    assert!(job_verdict(job(1, 1), 1, 0).is_clean());
    assert!(job_verdict(job(2, 1), 0, 0).is_clean());
    for lost in [job(1, 1), job(2, 2)] {
        assert_eq!(job_verdict(lost, 0, 0).by_kind[&FindingKind::LostJob], 1);
    }
    assert_eq!(job_verdict(job(1, 1), 1, 1).by_kind[&FindingKind::DoubledJob], 1);
}

#[test]
fn a_job_that_nobody_pushed_is_unexplained() {
    let observed = Observed {
        waiting: vec!["web.9-1".into()],
        ..Observed::default()
    };
    assert_eq!(
        judge(&Expectations::default(), &Expectations::default(), &observed).unexplained,
        1
    );
}

#[test]
fn only_the_first_findings_of_a_kind_are_listed_and_all_are_counted() {
    let mut expectations = Expectations::default();
    for number in 0..50 {
        expectations.jobs.insert(
            format!("web.1-{number}"),
            Job {
                pushed: true,
                ..Job::default()
            },
        );
    }
    let verdict = judge(&expectations, &expectations, &Observed::default());
    assert_eq!((verdict.lost, verdict.findings.len()), (50, LISTED));
}
