//! Expects of any history of runs that no write is lost and that nobody stays blocked.

use super::run::run;
use super::*;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};

fn any_refusing() -> impl Strategy<Value = (Refusing, usize)> {
    let kind = prop_oneof![
        4 => Just(Refusing::Nothing),
        2 => Just(Refusing::Once),
        2 => Just(Refusing::ForGood),
        1 => any::<bool>().prop_map(|made| Refusing::UnclearThenOnce { made }),
    ];
    (kind, 0usize..14)
}

fn any_run() -> impl Strategy<Value = Run> {
    let command = prop_oneof![
        3 => Just(Command::Promote),
        5 => Just(Command::SwitchApp),
        2 => Just(Command::Back)
    ];
    let release = || prop_oneof![Just(Release::AtOnce), Just(Release::Phased), Just(Release::Fails)];
    let releases = (release(), release(), release());
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    (
        command,
        0usize..60,
        0usize..80,
        releases,
        flags,
        0usize..3,
        any_refusing(),
    )
        .prop_map(
            |(command, dies_after, sleeps_after, releases, flags, writes_between, (refusing, refuses_at))| Run {
                command,
                dies_after,
                sleeps_after,
                long_ends: flags.0,
                releases: [releases.0, releases.1, releases.2],
                release_ends: flags.1,
                straggler_goes: flags.2,
                replicate: flags.3,
                writes_between,
                refusing,
                refuses_at,
            },
        )
}

/// Expects that a few runs without a fault end it, and that no acknowledged write is lost.
fn ends_well(fence: FenceKind, straggler: bool, apps: usize, runs: &[Run]) {
    let mut model = Model::new(fence, straggler, apps);
    for one in runs {
        let refused = run(&mut model, one).err();
        let expected = match one.command {
            Command::Back => matches!(
                refused,
                None | Some(Refusal::SwitchIsHalfDone | Refusal::WrittenSinceSwitch)
            ),
            _ => matches!(refused, None | Some(Refusal::SwitchIsHalfDone)),
        };
        assert!(expected, "the tool refuses its own work: {refused:?} in {model:?}");
        model.die(one);
        for _ in 0..one.writes_between {
            model.app_writes(one.replicate);
        }
    }
    model.straggler = false;
    let last = Run {
        command: Command::SwitchApp,
        dies_after: usize::MAX,
        sleeps_after: usize::MAX,
        long_ends: false,
        releases: [Release::AtOnce; 3],
        release_ends: true,
        straggler_goes: true,
        replicate: true,
        writes_between: 0,
        refusing: Refusing::Nothing,
        refuses_at: 0,
    };
    let done = (0..3).any(|_| run(&mut model, &last) == Ok(true));
    assert!(done, "never ends: {model:?}");
    assert_eq!(model.phase, Some(Phase::Settled));
    assert!(!model.stopped, "the app is left stopped");
    model.app_writes(true);
    assert!(model.new_side_writable());
    let lost = model.acknowledged.iter().find(|write| !model.ours.contains(write));
    assert_eq!(lost, None, "lost: {model:?}");
}

/// Expects that a single refusal blocks nobody: some app can write after the command.
fn blocks_nobody(fence: FenceKind, apps: usize, one: &Run) {
    let mut model = Model::new(fence, false, apps);
    let whole = Run {
        dies_after: usize::MAX,
        sleeps_after: usize::MAX,
        ..one.clone()
    };
    let _ = run(&mut model, &whole);
    let unclear = matches!(one.refusing, Refusing::UnclearThenOnce { .. });
    let held = one.command == Command::Promote;
    let stopped = model.apps.iter().any(|app| app.stopped);
    // A platform that refuses for good cannot be made to start what it stopped.
    let cannot_start = one.refusing == Refusing::ForGood && (stopped || model.apps.iter().any(|app| app.not_back));
    assert!(
        unclear || held || cannot_start || model.old_side_writable() || model.new_side_writable(),
        "nobody can write: {model:?}"
    );
    if one.refusing == Refusing::ForGood && model.phase != Some(Phase::Settled) {
        assert!(
            held || model.pause == Pause::None || model.new_side_writable(),
            "the pause goes on: {model:?}"
        );
    }
}

/// The seed is printed, and INFRA_MODEL_SEED (64 hexadecimal digits) repeats a run.
#[test]
fn no_crash_opens_both_sides_or_loses_a_write_and_a_rerun_always_ends_it() {
    let seed = match std::env::var("INFRA_MODEL_SEED") {
        Ok(text) => text,
        Err(_) => crate::model::secret::Secret::generate().expose().to_string(),
    };
    println!("INFRA_MODEL_SEED={seed}");
    let bytes: Vec<u8> = (0..32)
        .map(|at| u8::from_str_radix(&seed[2 * at..2 * at + 2], 16).unwrap())
        .collect();
    let config = Config {
        cases: 40_000,
        failure_persistence: None,
        ..Config::default()
    };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let fences = prop_oneof![Just(FenceKind::Pause), Just(FenceKind::Platform)];
    let histories = (fences, any::<bool>(), 1usize..4, prop::collection::vec(any_run(), 0..6));
    let result = runner.run(&histories, |(fence, straggler, apps, runs)| {
        ends_well(fence, straggler, apps, &runs);
        if let Some(first) = runs.first() {
            blocks_nobody(fence, apps, first);
        }
        Ok(())
    });
    match result {
        Ok(()) => {}
        Err(TestError::Fail(why, history)) => panic!("seed {seed}: {why}\n{history:#?}"),
        Err(TestError::Abort(why)) => panic!("seed {seed}: {why}"),
    }
    let steps = STEPS.load(Ordering::Relaxed);
    println!("{steps} steps");
    assert!(steps >= 1_000_000, "only {steps} steps were tried");
}
