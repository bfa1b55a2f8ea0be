//! Every change that a cutover asks the platform for: refused once, for good, or left unclear.
//!
//! The calls come from the platform's log of a run without failures, so new calls are covered too.
//! `REFUSALS=all` tries every case; otherwise a printed seed draws a sample, which `REFUSALS_SEED`
//! repeats. `REFUSALS_ONLY` takes cases whose description holds it, such as `mode: Once, at: 20`.

use super::super::{Command, Outcome, Phase};
use super::expect_moved;
use super::stage::{Asked, Stage};
use crate::effects::platform::Formation;
use crate::model::error::{Error, Kind};
use futures_util::StreamExt;
use serde_json::json;
use std::time::Duration;
use wire::info::ServerRole;

/// After a refusal the source must be open again, with the app on it, within this time.
const OPEN_AGAIN: Duration = Duration::from_secs(10);
/// Cases at the same time: most of each is waiting.
const AT_ONCE: usize = 6;
/// One case in so many is in the sample.
const SAMPLE: u64 = 12;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fence {
    Pause,
    Platform,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// This change alone, with 422.
    Once,
    /// Every change from this one on, as for an account that is overdue.
    Overdue,
    /// Every change and every read from this one on, as with a key that was revoked.
    Revoked,
    /// No answer and nothing done; the next change is refused.
    LostThenRefused,
    /// Done, and the answer lost; the next change is refused.
    DoneThenRefused,
}

const MODES: [Mode; 5] = [
    Mode::Once,
    Mode::Overdue,
    Mode::Revoked,
    Mode::LostThenRefused,
    Mode::DoneThenRefused,
];

impl Mode {
    fn plan(self, at: usize) -> serde_json::Value {
        let ever = 1_000_000;
        match self {
            Mode::Once => json!([{"status": 422, "skip": at, "count": 1}]),
            Mode::Overdue => json!([{"status": 402, "skip": at, "count": ever}]),
            Mode::Revoked => json!([{"status": 401, "skip": at, "count": ever, "reads": true}]),
            Mode::LostThenRefused => {
                json!([{"status": 503, "skip": at, "count": 1}, {"status": 422, "count": 1}])
            }
            Mode::DoneThenRefused => {
                json!([{"status": 503, "skip": at, "count": 1, "after_commit": true}, {"status": 422, "count": 1}])
            }
        }
    }

    fn is_for_good(self) -> bool {
        matches!(self, Mode::Overdue | Mode::Revoked)
    }

    fn is_unclear(self) -> bool {
        matches!(self, Mode::LostThenRefused | Mode::DoneThenRefused)
    }
}

#[derive(Clone, Copy, Debug)]
struct Case {
    fence: Fence,
    apps: usize,
    command: Command,
    mode: Mode,
    /// The first change to be refused.
    at: usize,
}

/// Makes a stage of so many apps, the first with preboot. Apps that move back must not write.
async fn stage(fence: Fence, apps: usize, command: Command) -> Stage {
    let mut stage = Stage::with_pace(0.01, "0.4").await;
    stage.limits.hold = Duration::from_secs(20);
    for name in ["second", "third"].iter().take(apps - 1) {
        stage.further_app(name, json!(null), 0).await;
    }
    if fence == Fence::Platform {
        stage.forbid_pausing().await;
    }
    if command == Command::Back {
        stage.run(Command::SwitchApp).await.unwrap();
    } else {
        start(&stage).await;
        stage.more_writes(5).await;
    }
    for app in &stage.apps {
        app.set_preboot(true).await.unwrap();
    }
    stage
}

async fn start(stage: &Stage) {
    for app in &stage.apps {
        app.scale(&Formation::from([("web".into(), 1)])).await.unwrap();
    }
}

/// Returns the changes that a run without failures asks for.
async fn log(fence: Fence, apps: usize, command: Command) -> Vec<Asked> {
    let stage = stage(fence, apps, command).await;
    stage.plan_failures(json!([])).await;
    stage.run(command).await.unwrap();
    let changes = stage.changes().await;
    stage.end().await;
    changes
}

fn text(error: &Error) -> String {
    error.chain().join(": ")
}

async fn try_case(case: Case) {
    let stage = stage(case.fence, case.apps, case.command).await;
    stage.plan_failures(case.mode.plan(case.at)).await;
    let result = stage.run(case.command).await;
    let refused_ago = stage
        .changes()
        .await
        .iter()
        .find(|asked| matches!(asked.status, 401 | 402 | 422 | 503))
        .map(|asked| Duration::from_millis(asked.ago_ms));
    let said = result.as_ref().err().map(text).unwrap_or_default();
    assert!(!said.contains("out of order"), "{case:?}: {said}");
    match &result {
        Ok(outcome) => expect_done(&stage, case, outcome).await,
        Err(error) => expect_open(&stage, case, error, refused_ago).await,
    }
    // The platform works again: the same command finishes, and no acknowledged write is gone.
    stage.plan_failures(json!([])).await;
    finish(&stage, case, &said).await;
    stage.end().await;
}

async fn expect_done(stage: &Stage, case: Case, outcome: &Outcome) {
    let expected = match case.command {
        Command::Back => Phase::Following,
        Command::Promote => Phase::Promoted,
        Command::SwitchApp => Phase::Settled,
    };
    assert_eq!(outcome.phase, Some(expected), "{case:?}");
    let live = match case.command {
        Command::Back => stage.source(),
        _ => stage.master(),
    };
    assert_eq!(stage.lost_on(&live).await, 0, "{case:?}");
}

/// Expects that the app can write unless the platform prevents it; the error says what is left.
async fn expect_open(stage: &Stage, case: Case, error: &Error, refused_ago: Option<Duration>) {
    let history = stage.history();
    let said = text(error);
    let in_use = matches!(history.phase, Some(Phase::Switching | Phase::Switched | Phase::Settled));
    let kind = error.kind();
    assert!(
        matches!(kind, Kind::Failed | Kind::Partial),
        "{case:?}: {kind:?} {said}"
    );
    if kind == Kind::Failed && history.phase != Some(Phase::Settled) {
        // The refusal changed nothing: the source is open, and every app is on it as it stood.
        assert!(stage.source_takes_writes().await, "{case:?}: {said}");
        assert!(
            refused_ago.is_some_and(|ago| ago < OPEN_AGAIN),
            "{case:?}: {refused_ago:?} {said}"
        );
        let info = stage.master.connect(0).await.info().await.unwrap();
        assert_eq!(info.role, ServerRole::Replica, "{case:?}: {said}");
        assert_eq!(stage.lost_on(&stage.source()).await, 0, "{case:?}: {said}");
        if case.mode == Mode::Once && case.command != Command::Back {
            stage.more_writes(5).await;
        }
    }
    if case.mode == Mode::Once && kind == Kind::Partial {
        assert!(in_use, "{case:?}: refused once, and not put back: {said}");
    }
    if case.mode.is_for_good() && kind == Kind::Partial {
        assert!(said.contains("app "), "{case:?}: nobody is named: {said}");
        let unused = !in_use && case.command != Command::Back;
        if unused && case.fence == Fence::Pause {
            assert!(stage.source_takes_writes().await, "{case:?}: the pause goes on: {said}");
        }
    }
    assert!(
        kind == Kind::Failed || in_use || case.mode.is_for_good() || case.mode.is_unclear(),
        "{case:?}: {said}"
    );
}

/// Runs the command again until it is done, and then moves the app, whichever way it went before.
async fn finish(stage: &Stage, case: Case, said: &str) {
    let mut last = run_until_done(stage, case.command).await;
    if case.command == Command::Back {
        last = last.and(run_until_done(stage, Command::SwitchApp).await);
        start(stage).await;
    }
    if let Err(errors) = last {
        panic!(
            "{case:?}: never ends: {}; first it said: {said}",
            errors.join("; then: ")
        );
    }
    expect_moved(stage).await;
    for app in &stage.apps {
        assert!(
            !app.app().await.unwrap().maintenance,
            "{case:?}: under maintenance; {said}"
        );
        assert!(app.preboot().await.unwrap(), "{case:?}: preboot is off; {said}");
        let vars = app.config_vars().await.unwrap();
        let url = vars.get("REDIS_URL").unwrap().unwrap();
        assert!(url.expose().contains(&format!(":{}", stage.master.port)), "{case:?}");
    }
}

/// Returns what each attempt said if none came to the end.
async fn run_until_done(stage: &Stage, command: Command) -> std::result::Result<(), Vec<String>> {
    let mut errors = Vec::new();
    for _ in 0..3 {
        match stage.run(command).await {
            Ok(_) => return Ok(()),
            Err(error) => errors.push(text(&error)),
        }
    }
    Err(errors)
}

/// Returns the same answer for the same seed and case.
fn drawn(seed: u64, number: u64) -> bool {
    let mixed = (seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed ^ (mixed >> 31)).is_multiple_of(SAMPLE)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_the_platform_refuses_nobody_is_blocked_and_nothing_is_lost() {
    let all = std::env::var("REFUSALS").is_ok_and(|value| value == "all");
    let seed = std::env::var("REFUSALS_SEED")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(|| u64::from(std::process::id()));
    println!("REFUSALS_SEED={seed}");
    let mut cases = Vec::new();
    for fence in [Fence::Pause, Fence::Platform] {
        for apps in [1, 3] {
            for command in [Command::SwitchApp, Command::Back] {
                let calls = log(fence, apps, command).await;
                assert!(!calls.is_empty(), "{fence:?} {apps} {command}: no change was logged");
                println!("{fence:?}, {apps} apps, {command}: {} changes", calls.len());
                // A request without a readable body only asks whether a change would be refused.
                let changes = (0..calls.len()).filter(|at| calls[*at].status != 400);
                let of_this = changes.flat_map(|at| MODES.map(|mode| (at, mode)));
                cases.extend(of_this.map(|(at, mode)| Case {
                    fence,
                    apps,
                    command,
                    mode,
                    at,
                }));
            }
        }
    }
    let whole = cases.len();
    let mut number = 0;
    let only = std::env::var("REFUSALS_ONLY").ok();
    cases.retain(|case| {
        number += 1;
        match &only {
            Some(only) => format!("{case:?}").contains(only),
            None => all || drawn(seed, number),
        }
    });
    println!("{} of {whole} cases", cases.len());
    let tried = futures_util::stream::iter(cases).map(|case| async move {
        tokio::spawn(try_case(case))
            .await
            .map_err(|error| format!("{case:?}: {error}"))
    });
    let outcomes: Vec<_> = tried.buffer_unordered(AT_ONCE).collect().await;
    let failed: Vec<String> = outcomes.into_iter().filter_map(|outcome| outcome.err()).collect();
    assert!(failed.is_empty(), "{} failed:\n{}", failed.len(), failed.join("\n"));
}
