//! The platform refuses a change of a live app, in the whole sandbox: the app is on its old side again within seconds, and the same command ends it later.
//!
//! Every change and every way of refusing it is tried in the library's tests, on engines without machines. These six show that hosts, bucket and ssh do not change that.

use crate::sides::{Sides, stop_the_app};
use crate::writable::{self, AppAccess, Write};
use serde_json::{Value, json};
use testkit::world::World;

/// The bound within which the source is open again after a refusal.
const OPEN_AGAIN_MS: u64 = 10_000;

struct Case {
    name: &'static str,
    fence: &'static str,
    /// Failures that the platform plans right before the switch is sent.
    plan: Value,
    codes: &'static [i32],
    /// True if the source takes writes when the command has ended.
    source_is_open: bool,
}

fn cases() -> Vec<Case> {
    let ever = 1_000_000;
    let once = json!([{"status": 422, "count": 1}]);
    let overdue = json!([{"status": 402, "count": ever}]);
    let revoked = json!([{"status": 401, "count": ever, "reads": true}]);
    let unclear = json!([{"status": 503, "count": 1}, {"status": 422, "count": 1}]);
    let case = |name, fence, plan, codes, source_is_open| Case {
        name,
        fence,
        plan,
        codes,
        source_is_open,
    };
    vec![
        case("refused once", "pause", once.clone(), &[1], true),
        case("overdue", "pause", overdue.clone(), &[1], true),
        case("key revoked", "pause", revoked, &[1], true),
        // The first request may still be carried out, so the source stays shut.
        case("lost, then refused", "pause", unclear, &[4], false),
        case("refused once", "platform", once, &[1], true),
        // The app was stopped before, and cannot be started by a platform that refuses everything.
        case("overdue", "platform", overdue, &[4], true),
    ]
}

pub fn six(world: &World, sides: &Sides) {
    let mut wrong = Vec::new();
    for case in cases() {
        sides.back_to_following(world);
        let before = wrong.len();
        one(world, sides, &case, &mut wrong);
        println!(
            "{:<20} {:<9} {}",
            case.name,
            case.fence,
            if wrong.len() == before { "right" } else { "WRONG" }
        );
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn one(world: &World, sides: &Sides, case: &Case, wrong: &mut Vec<String>) {
    let plan = format!(
        "curl -sf -d '{}' -H 'Content-Type: application/json' http://127.0.0.1:5000/_sandbox/failures >/dev/null",
        case.plan
    );
    let variables = [("INFRA_FAULT_ON", "before set vars"), ("INFRA_FAULT_RUN", &plan)];
    let switch = [
        "switch-app",
        "--confirm",
        "demo",
        "--watch",
        "500ms",
        "--grace",
        "2s",
        "--fence",
        case.fence,
    ];
    let first = world.infra_under(&variables, &switch);
    let changes: Value = serde_json::from_str(&world.platform("GET", "/_sandbox/changes", "")).unwrap();
    let refused = changes.as_array().unwrap().iter().find(|asked| {
        let status = asked["status"].as_u64();
        matches!(status, Some(401 | 402 | 422 | 503))
    });
    let ago = refused.map_or(u64::MAX, |asked| asked["ago_ms"].as_u64().unwrap());
    let mut expect = |holds: bool, what: &str| {
        if !holds {
            wrong.push(format!("{}, {}: {what}: {}", case.name, case.fence, first.printed()));
        }
    };
    expect(
        first.code().is_some_and(|code| case.codes.contains(&code)),
        "another exit code",
    );
    expect(
        first.printed().contains("the platform"),
        "the platform's own words are missing",
    );
    let open = writable::try_both(sides, Write::WithoutTrace, true);
    expect(
        (open.source == AppAccess::Open) == case.source_is_open,
        "the source does not take writes as it should",
    );
    // As long as one app may still be changed, app access stays open and the source takes no
    // writes.
    expect(
        !(case.source_is_open && open.endpoint == AppAccess::Open),
        "both let the app in",
    );
    expect(
        !case.source_is_open || ago < OPEN_AGAIN_MS,
        &format!("it took {ago} ms"),
    );
    world.platform("POST", "/_sandbox/failures", "[]");
    let again = world.infra(&switch);
    expect(again.code() == Some(0), &format!("the next run: {}", again.printed()));
    world.wait_for_more_writes(100);
    stop_the_app(world);
    let ledger = world.ledger();
    expect(
        (&ledger["lost"], &ledger["duplicated"]) == (&0.into(), &0.into()),
        &format!("lost {}, doubled {}", ledger["lost"], ledger["duplicated"]),
    );
}
