//! The table: at each point the command dies as by `kill -9`, a write is tried on each side, and the same command is run again.

use crate::points;
use crate::sides::{Sides, stop_the_app};
use crate::writable::{self, Writable, Write};
use infra::model::cloud::Standing;
use std::time::{Duration, Instant};
use testkit::world::World;

/// The platform kills what ignores SIGTERM in a fiftieth of its real time.
const PROMOTE: &[&str] = &["promote", "--confirm", "demo", "--hold", "60s", "--grace", "2s"];
/// Watching longer would find nothing that the ledgers do not find too.
const SWITCH: &[&str] = &["switch-app", "--confirm", "demo", "--watch", "500ms", "--grace", "2s"];
const BACK: &[&str] = &["switch-app", "--back", "--confirm", "demo"];
/// The source's pause ends by itself some seconds after whoever renewed it died.
const LAPSED: Duration = Duration::from_millis(3500);

/// How the source is fenced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fence {
    Pause,
    Platform,
}

impl Fence {
    /// Returns the fences that the variable FENCE names, such as `pause,platform`; without it, the
    /// pause.
    pub fn wanted() -> Vec<Fence> {
        let words = std::env::var("FENCE").unwrap_or_else(|_| "pause".into());
        let fences = words.split(',').map(|word| match word.trim() {
            "pause" => Fence::Pause,
            "platform" => Fence::Platform,
            other => panic!("FENCE={other}: want pause, platform or both with a comma"),
        });
        fences.collect()
    }
}

/// The command that is killed, with what comes before and after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    SwitchAlone,
    /// `promote`, and then the switch.
    PromoteFirst,
    /// `--back` from a promotion.
    BackFromPromotion,
    /// `--back` from a switch of an app that stood still, so that nothing was written since.
    BackFromSwitch,
}

impl Order {
    fn before(self, world: &World) {
        match self {
            Order::SwitchAlone | Order::PromoteFirst => {}
            Order::BackFromPromotion => {
                world.infra(PROMOTE).exits(0);
            }
            Order::BackFromSwitch => {
                stop_the_app(world);
                world.infra(SWITCH).exits(0);
            }
        }
    }

    fn killed(self) -> &'static [&'static str] {
        match self {
            Order::SwitchAlone => SWITCH,
            Order::PromoteFirst => PROMOTE,
            Order::BackFromPromotion | Order::BackFromSwitch => BACK,
        }
    }

    fn finish(self, world: &World) {
        world.infra(self.killed()).exits(0);
        self.after(world);
    }

    fn after(self, world: &World) {
        match self {
            Order::PromoteFirst => {
                world.infra(SWITCH).exits(0);
            }
            Order::BackFromSwitch => world.scale(2, 1),
            Order::SwitchAlone | Order::BackFromPromotion => {}
        }
    }

    fn goes_back(self) -> bool {
        matches!(self, Order::BackFromPromotion | Order::BackFromSwitch)
    }

    /// Phase and side of the app at the end.
    fn end(self) -> (&'static str, &'static str) {
        if self.goes_back() {
            ("following", "source")
        } else {
            ("settled", "endpoint")
        }
    }
}

struct Row {
    number: usize,
    point: String,
    writable: String,
    second_s: f64,
    /// Nothing, or what is wrong.
    wrong: Vec<String>,
}

/// On a sandbox where the pair follows and the app writes; leaves it with the app stopped.
pub fn table(world: &World, sides: &Sides, order: Order, fence: Fence, sample: usize) {
    let log = world.folder().join("points.log");
    let log_path = log.to_str().unwrap().to_string();

    // Finds the points of a run without any fault, and the things that it leaves.
    order.before(world);
    let _ = std::fs::remove_file(&log);
    let begun = Instant::now();
    world
        .infra_under(&[("INFRA_FAULT_LOG", &log_path)], order.killed())
        .exits(0);
    let passed = points::read(&log);
    println!(
        "{order:?}, fence by {fence:?}: `infra {}` passes {} points in {:.1} s",
        order.killed().join(" "),
        passed.len(),
        begun.elapsed().as_secs_f64()
    );
    order.after(world);
    let clean = sides.standing();
    let mut wrong = proven(world, sides, order, &clean);
    assert!(wrong.is_empty(), "without any fault: {wrong:?}");

    let mut rows = Vec::new();
    for number in points::choose(passed.len(), sample) {
        let begun = Instant::now();
        sides.back_to_following(world);
        let reset = begun.elapsed().as_secs_f64();
        order.before(world);
        let _ = std::fs::remove_file(&log);
        let number_text = number.to_string();
        let killed = world.infra_under(
            &[("INFRA_FAULT_LOG", &log_path), ("INFRA_FAULT_AT", &number_text)],
            order.killed(),
        );
        let names = points::read(&log);
        let mut row = Row {
            number,
            point: names.last().cloned().unwrap_or_default(),
            writable: String::new(),
            second_s: 0.0,
            wrong: Vec::new(),
        };
        if !killed.was_killed() {
            row.wrong
                .push(format!("not killed, {} points: {}", names.len(), killed.printed()));
        }
        let seen = look_at_both(sides, order, fence, &names, number);
        row.writable = seen.iter().map(ToString::to_string).collect::<Vec<_>>().join(" then ");
        // A switch that has settled left the source open to whoever has its URL still, which is nobody of the app.
        let was_settled =
            order == Order::BackFromSwitch && !names.iter().any(|name| name == "after role door closed on master");
        if !was_settled && seen.iter().any(|writable| writable.both_open()) {
            row.wrong.push("both sides took writes".into());
        }
        let second = Instant::now();
        let finished = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| order.finish(world)));
        row.second_s = second.elapsed().as_secs_f64();
        match finished {
            Ok(()) => row.wrong.extend(proven(world, sides, order, &clean)),
            Err(_) => row.wrong.push("the second run failed, as printed above".into()),
        }
        println!(
            "{:>3} {:<52} {:<22} {:>5.1} s  {}  (reset {reset:.1} s, round {:.1} s)",
            row.number,
            row.point,
            row.writable,
            row.second_s,
            if row.wrong.is_empty() {
                "ok".to_string()
            } else {
                format!("WRONG: {}", row.wrong.join("; "))
            },
            begun.elapsed().as_secs_f64()
        );
        rows.push(row);
    }
    let good = rows.iter().filter(|row| row.wrong.is_empty()).count();
    println!(
        "{order:?}, fence by {fence:?}: killed and run again: {good} of {}",
        rows.len()
    );
    wrong.extend(
        rows.into_iter()
            .filter(|row| !row.wrong.is_empty())
            .map(|row| format!("{} {}: {}", row.number, row.point, row.wrong.join("; "))),
    );
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// At once, and at every second point also when a pause that nobody renews has ended by itself.
fn look_at_both(sides: &Sides, order: Order, fence: Fence, passed: &[String], number: usize) -> Vec<Writable> {
    let has = |name: &str| passed.iter().any(|passed| passed == name);
    // On the way back a write on the new side would be one to be lost.
    let write = if order.goes_back() {
        Write::WithoutTrace
    } else {
        Write::Kept
    };
    // A source that is fenced by the platform takes writes all along: nobody of the app is left to make one. Nor is anybody when a pause is ended after a switch.
    let source_too = match fence {
        Fence::Pause => order.goes_back() || !has("before unpause"),
        Fence::Platform => !order.goes_back() && !has("before stop app"),
    };
    let mut seen = vec![writable::try_both(sides, write, source_too)];
    if fence == Fence::Pause && source_too && number.is_multiple_of(2) && has("after fence") {
        std::thread::sleep(LAPSED);
        seen.push(writable::try_both(sides, write, true));
    }
    seen
}

/// Returns the faults at the end: none, if the app writes where it should, its ledgers are clean, and the account holds what a clean run leaves.
fn proven(world: &World, sides: &Sides, order: Order, clean: &Standing) -> Vec<String> {
    let mut wrong = Vec::new();
    let status = world.status();
    let (phase, app) = order.end();
    if (&status["phase"], &status["app"]) != (&phase.into(), &app.into()) {
        wrong.push(format!(
            "it ended as {} with the app on {}",
            status["phase"], status["app"]
        ));
    }
    world.wait_for_more_writes(500);
    stop_the_app(world);
    let ledger = world.ledger();
    if (&ledger["lost"], &ledger["duplicated"]) != (&0.into(), &0.into()) {
        wrong.push(format!(
            "lost {}, doubled {}: {}",
            ledger["lost"], ledger["duplicated"], ledger["findings"]
        ));
    }
    let standing = sides.standing();
    if standing != *clean {
        wrong.push(format!("the account holds {standing:?} and not {clean:?}"));
    }
    wrong
}
