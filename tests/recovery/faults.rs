//! The matrix: what can go wrong around a switch, at each of its phases. The program may succeed or stop with a reason; then the trouble is over, and the same
//! command has to bring it to its end. Nothing is lost or done twice by the ledgers, and never do both sides take writes.

use crate::copied;
use crate::sides::{Sides, stop_the_app};
use crate::source::Source;
use crate::way::Way;
use crate::{points, writable};
use serde_json::json;
use std::time::Instant;
use testkit::world::World;

/// The watch is long enough for a straggler that comes ten times a second.
const SWITCH: &[&str] = &["switch-app", "--confirm", "demo", "--watch", "2s", "--grace", "2s"];

/// Where in the run a phase can be met.
const PHASES: [(&str, &str); 6] = [
    ("following", "before compare"),
    ("fenced", "after fence"),
    ("proven", "after prove"),
    ("promoted", "after promote"),
    ("switching", "after journal switching"),
    ("switched", "after journal switched"),
];

/// The results that it may have.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// Done, or stopped with a reason and done by the next run.
    EndsRight,
    /// As above, but for what the source lost by itself: no run may call it a success to move what is left.
    SourceLosesItself,
    /// Found, named by its key, and told by the exit code.
    NamedByKey(&'static str),
    /// Found before app access was open, told by the exit code, and gone back from: nothing is lost.
    GoesBack,
}

pub struct Fault {
    pub name: &'static str,
    /// Run at the point, inside the program that is tried.
    pub happens: String,
    /// Run before the command is run again.
    pub is_over: String,
    pub phases: &'static [&'static str],
    pub expect: Expect,
    /// A key that has to be where the app is in the end.
    pub carried: Option<&'static str>,
}

pub const EVERYWHERE: &[&str] = &["following", "fenced", "proven", "promoted", "switching", "switched"];
const BEFORE_THE_CHANGE: &[&str] = &["following", "fenced", "promoted", "switching"];

fn all(source: &Source) -> Vec<Fault> {
    let fault = |name, happens: String, is_over: &str, phases| Fault {
        name,
        happens,
        is_over: is_over.to_string(),
        phases,
        expect: Expect::EndsRight,
        carried: None,
    };
    // The platform's own port for such things, open to this computer without a key.
    let platform = |behaviour: serde_json::Value| {
        format!(
            "curl -sf -d '{behaviour}' -H 'Content-Type: application/json' http://127.0.0.1:5000/_sandbox/apps/demo/behaviour >/dev/null"
        )
    };
    let well = platform(json!({
        "api_failures": {"status": 503, "count": 0}, "drop_after_commit": 0, "release_phase": null, "sigterm_ignored": false
    }));
    let gone = |seconds: u32| {
        let (broken, mended) = (
            platform(json!({"api_failures": {"status": 503, "count": 1_000_000}})),
            platform(json!({"api_failures": {"status": 503, "count": 0}})),
        );
        format!("{broken}; (sleep {seconds}; {mended}) >/dev/null 2>&1 &")
    };
    let bucket = |what: serde_json::Value| {
        format!("curl -sf -d '{what}' -H 'Content-Type: application/json' $AWS_ENDPOINT_URL/_hv/fault >/dev/null")
    };
    let unplanned = "curl -sf -X DELETE $AWS_ENDPOINT_URL/_hv/fault >/dev/null";
    let straggler = |key: &str| {
        format!(
            "(for i in $(seq 600); do timeout 2 {}; sleep 0.1; done) >/dev/null 2>&1 & echo $! > straggler.pid",
            source.renter(&format!("set {key} 1"))
        )
    };
    let mut faults = vec![
        fault("source restarted with its data", source.restart(), "true", EVERYWHERE),
        Fault {
            expect: Expect::SourceLosesItself,
            ..fault("source restarted empty", source.restart_empty(), "true", EVERYWHERE)
        },
        fault("5 s stall", source.stall(5), "sleep 1", EVERYWHERE),
        fault("100 ms latency", source.delay(100), &source.delay(0), EVERYWHERE),
        fault("platform gone for 30 s", gone(30), &well, BEFORE_THE_CHANGE),
        fault("platform answers 429", platform(json!({"api_failures": {"status": 429, "count": 5}})), &well, BEFORE_THE_CHANGE),
        fault("platform drops after commit", platform(json!({"drop_after_commit": 1})), &well, BEFORE_THE_CHANGE),
        fault("release fails", platform(json!({"release_phase": {"seconds": 1.0, "fails": true}})), &well, BEFORE_THE_CHANGE),
        fault("dynos ignore SIGTERM", platform(json!({"sigterm_ignored": true})), &well, BEFORE_THE_CHANGE),
        fault(
            "a second infra",
            "env -u INFRA_FAULT_ON -u INFRA_FAULT_RUN -u INFRA_FAULT_LOG \"$INFRA\" switch-app --confirm demo >second.log 2>&1; test $? = 3".into(),
            "true",
            EVERYWHERE,
        ),
        fault("bucket refuses once", bucket(json!({"service": "s3", "operation": "PutObject", "status": 503, "count": 1})), unplanned, EVERYWHERE),
        fault("bucket refuses", bucket(json!({"service": "s3", "operation": "PutObject", "status": 403})), unplanned, EVERYWHERE),
        // The source stays paused for as long as somebody comes back to it, and what he writes is never done.
        fault("a straggler reconnects and writes", straggler("straggler:1"), "kill $(cat straggler.pid) 2>/dev/null; true", &["switched"]),
        Fault {
            expect: Expect::GoesBack,
            ..fault(
                "the pause is ended and used",
                source.unpause_and_set("sneaked:source"),
                "true",
                &["promoted", "switching"],
            )
        },
        Fault {
            expect: Expect::NamedByKey("sneaked:source"),
            ..fault(
                "a write sneaked in on the source",
                source.unpause_and_set("sneaked:source"),
                "true",
                &["switched"],
            )
        },
        Fault {
            expect: Expect::NamedByKey("sneaked:master"),
            ..fault(
                "a write sneaked in on the master",
                "env -u INFRA_FAULT_ON -u INFRA_FAULT_RUN -u INFRA_FAULT_LOG \"$INFRA\" redis-cli master SET sneaked:master 1 >/dev/null 2>&1".into(),
                "true",
                &["promoted"],
            )
        },
    ];
    faults.extend(match Way::wanted() {
        Way::Copy => copied::all(source),
        Way::Replication => vec![
            fault(
                "replica link dropped",
                source.redis("client kill type replica"),
                "true",
                EVERYWHERE,
            ),
            fault(
                "replication id changed",
                format!(
                    "{} && {}",
                    source.redis("debug change-repl-id"),
                    source.redis("client kill type replica")
                ),
                "true",
                EVERYWHERE,
            ),
            fault(
                "output buffer too small",
                source.redis("config set client-output-buffer-limit 'replica 1 1 1'"),
                &source.redis("config set client-output-buffer-limit 'replica 268435456 67108864 60'"),
                EVERYWHERE,
            ),
        ],
    });
    faults
}

/// On a sandbox with the source in the test's hands, where the pair follows and the app writes; leaves it with the app stopped, anywhere.
pub fn matrix(world: &World, sides: &Sides, source: &Source, sample: usize) {
    let faults = all(source);
    let cases: Vec<(&Fault, &str, &str)> = faults
        .iter()
        .flat_map(|fault| {
            let met = PHASES.iter().filter(|(phase, _)| fault.phases.contains(phase));
            met.map(move |(phase, point)| (fault, *phase, *point))
        })
        .collect();
    let (mut wrong, mut tried, mut first) = (Vec::new(), 0, true);
    for number in points::choose(cases.len(), sample) {
        let (fault, phase, point) = cases[number - 1];
        if !std::mem::replace(&mut first, false) {
            sides.back_to_following(world);
        }
        let begun = Instant::now();
        let row = one(world, sides, source, fault, point);
        let seconds = begun.elapsed().as_secs_f64();
        println!(
            "{number:>3} {:<34} {phase:<10} {}  ({seconds:.1} s)",
            fault.name, row.shown
        );
        for line in &row.wrong {
            println!("      WRONG: {line}");
        }
        tried += 1;
        wrong.extend(
            row.wrong
                .into_iter()
                .map(|line| format!("{} at {phase}: {line}", fault.name)),
        );
    }
    println!("faults: {} wrong of {tried} tried", wrong.len());
    assert!(wrong.is_empty(), "{wrong:#?}");
}

struct Row {
    shown: String,
    wrong: Vec<String>,
}

fn one(world: &World, sides: &Sides, source: &Source, fault: &Fault, point: &str) -> Row {
    let mut wrong = Vec::new();
    let log = world.folder().join("points.log");
    let _ = std::fs::remove_file(&log);
    let variables = [
        ("INFRA_FAULT_LOG", log.to_str().unwrap()),
        ("INFRA_FAULT_ON", point),
        ("INFRA_FAULT_RUN", &fault.happens),
        ("INFRA", env!("CARGO_BIN_EXE_infra")),
    ];
    let first = world.infra_under(&variables, SWITCH);
    let passed = points::read(&log);
    if !passed.iter().any(|name| name == point) {
        wrong.push(format!("the point {point:?} was not reached: {}", first.printed()));
    }
    if first.printed().contains("the fault at") {
        wrong.push(format!("the fault did not happen: {}", first.printed()));
    }
    let reason = first.reason();
    let mut shown = format!("exit {}", first.code().map_or("none".into(), |code| code.to_string()));
    if let Some(reason) = &reason {
        shown.push_str(&format!(" ({})", reason.chars().take(110).collect::<String>()));
    }
    if first.code() != Some(0) && reason.is_none() {
        wrong.push(format!("no reason was given: {}", first.printed()));
    }
    if let Expect::NamedByKey(key) = fault.expect
        && (first.code() != Some(5) || !(first.printed() + &late_lists(world)).contains(key))
    {
        wrong.push(format!("{key} was not named with exit 5: {}", first.printed()));
    }
    if fault.expect == Expect::GoesBack && (first.code() != Some(5) || !first.printed().contains("after the proof")) {
        wrong.push(format!("it did not go back with exit 5: {}", first.printed()));
    }
    let released = passed.iter().any(|name| name == "before unpause");
    let writable = writable::try_both(sides, writable::Write::Kept, !released);
    shown.push_str(&format!(", writable {writable}"));
    // A source that is started again has forgotten its pause. Once every process of the app runs on the endpoint, nobody of it is left to write there.
    let nobody_is_left =
        fault.name.starts_with("source restarted") && passed.iter().any(|name| name == "after journal switched");
    if writable.both_open() && !nobody_is_left {
        wrong.push("both sides took writes".into());
    }
    world.in_the_sandbox(&fault.is_over);
    let mut code = first.code();
    if code != Some(0) {
        sides.wait_until_the_pair_follows(world);
        let again = world.infra(SWITCH);
        code = again.code();
        shown.push_str(&format!(
            ", again: exit {}",
            code.map_or("none".into(), |code| code.to_string())
        ));
        if let Some(reason) = again.reason() {
            shown.push_str(&format!(" ({reason})"));
        }
        let sneaked = matches!(fault.expect, Expect::NamedByKey(_)) && code == Some(5);
        // A source that is another process now, or has another history, has ended its stream: what it took meanwhile is not known, and that is said.
        let another = ["source restarted", "replication id changed"];
        let unknown = another.iter().any(|name| fault.name.starts_with(name))
            && code == Some(5)
            && again.printed().contains("could not be watched to the end");
        if code != Some(0) && !sneaked && !unknown && fault.expect != Expect::SourceLosesItself {
            wrong.push(format!("the second run: {}", again.printed()));
        }
    }
    let status = world.status();
    shown.push_str(&format!(
        ", {} on {}",
        status["phase"].as_str().unwrap_or("?"),
        status["app"].as_str().unwrap_or("?")
    ));
    if let Some(key) = fault.carried {
        let side = match status["app"].as_str() {
            Some("endpoint") => &sides.endpoint,
            _ => &sides.source,
        };
        if !sides.has(side, key) {
            wrong.push(format!("{key} was not carried to the {}", status["app"]));
        }
    }
    // The app's ledgers are held against whatever its var names: nothing else is its truth.
    world.wait_for_more_writes(200);
    stop_the_app(world);
    let ledger = world.ledger();
    let clean = (&ledger["lost"], &ledger["duplicated"]) == (&0.into(), &0.into());
    shown.push_str(&format!(", lost {}, doubled {}", ledger["lost"], ledger["duplicated"]));
    let told = first.printed() + &late_lists(world);
    match fault.expect {
        Expect::SourceLosesItself if !clean && code == Some(0) => {
            wrong.push("it was called a success though the source had lost its data".into());
        }
        Expect::SourceLosesItself => {}
        // The end of the pause also let the app's last old processes write. The error must name
        // those writes too, by key.
        Expect::NamedByKey(_) if ledger["duplicated"] == 0 && all_are_named(&ledger, &told) => {}
        // A copied source is only compared once more, which leaves out the keys that the app has
        // written on the new side as well.
        Expect::NamedByKey(_) if ledger["duplicated"] == 0 && Way::wanted() == Way::Copy => {}
        _ if !clean => wrong.push(format!(
            "lost {}, doubled {}: {}",
            ledger["lost"], ledger["duplicated"], ledger["findings"]
        )),
        _ => {}
    }
    source.shell(&source.delay(0));
    Row { shown, wrong }
}

/// The lists of late writes that were too long to be shown.
fn late_lists(world: &World) -> String {
    let files = std::fs::read_dir(world.folder().join("inventory")).unwrap();
    let lists = files
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|kind| kind == "txt"));
    lists.map(|path| std::fs::read_to_string(path).unwrap()).collect()
}

/// Returns true if the report names each key in which the ledgers miss something. A job is no key, its queue is.
fn all_are_named(ledger: &serde_json::Value, told: &str) -> bool {
    let findings = ledger["findings"].as_array().unwrap();
    findings.iter().all(|finding| match finding["kind"].as_str() {
        Some("lost_job" | "lost_completion") => told.contains("demo:queue"),
        _ => {
            let key = finding["key"].as_str().unwrap();
            told.contains(key.split(' ').next().unwrap_or(key))
        }
    })
}
