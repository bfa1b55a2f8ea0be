//! A command that is frozen right before an effect while its lock is removed and another command does all the work. The freeze is shorter than the time between
//! two renewals, so that its own clock tells it nothing, as on a machine that slept: it must change nothing more when it goes on.

use crate::sides::Sides;
use std::time::Instant;
use testkit::world::World;

const SWITCH: &[&str] = &["switch-app", "--confirm", "demo", "--watch", "500ms", "--grace", "2s"];

/// Runs while it is frozen: the refusal that the next command gets has the id of its lock.
const TAKEN_OVER: &str = r#"kill -STOP $PPID
unset INFRA_FAULT_ON INFRA_FAULT_RUN INFRA_FAULT_LOG
switch() { "$INFRA" switch-app --confirm demo --watch 500ms --grace 2s; }
id=$(switch 2>&1 | sed -n 's/.*, lock \([0-9a-f]*\)$/\1/p' | head -n 1)
"$INFRA" unlock "$id" --yes >taken-over.log 2>&1 && switch >>taken-over.log 2>&1
status=$?
kill -CONT $PPID
exit $status"#;

/// The points at which the program is frozen: right before the bucket is asked once more, and right
/// before a host gets an order. The host refuses it too.
const POINTS: [&str; 3] = [
    "before prove",
    "before role promote on master",
    "before role door open on master",
];

/// On a sandbox where the pair follows and the app writes; leaves it so.
pub fn table(world: &World, sides: &Sides) {
    for point in POINTS {
        let begun = Instant::now();
        let variables = [
            ("INFRA_FAULT_ON", point),
            ("INFRA_FAULT_RUN", TAKEN_OVER),
            ("INFRA", env!("CARGO_BIN_EXE_infra")),
        ];
        let frozen = world.infra_under(&variables, SWITCH);
        let log = std::fs::read_to_string(world.folder().join("taken-over.log")).unwrap_or_default();
        assert!(
            !frozen.printed().contains("the fault at"),
            "{}\n{log}",
            frozen.printed()
        );
        let printed = frozen.printed();
        assert_eq!(frozen.code(), Some(3), "{point}: {printed}");
        assert_eq!(world.status()["phase"], "settled", "{point}");
        assert!(world.vars()["REDIS_URL"].starts_with("rediss://"), "{point}");
        world.nothing_was_lost(200);
        println!("frozen {point:<40} {:>5.1} s  ok", begun.elapsed().as_secs_f64());
        sides.back_to_following(world);
    }
}
