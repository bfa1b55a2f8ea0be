//! A unit of a host that cannot be started: `up` quotes the unit's own words.

use crate::machine::Machine;
use std::time::Duration;
use testkit::world::World;

const WORDS: &str = "the ink has dried up";

pub fn says_itself_why_it_does_not_start(world: &World) {
    let master = Machine::of_role(world, "master");
    let unit = "infra-agent.service";
    let settings = format!("/run/systemd/system/{unit}.d");
    let broken = master.root(&format!(
        "mkdir -p {settings}; printf '[Service]\\nExecStartPre=/bin/sh -c \"echo {WORDS} >&2; exit 1\"\\n' >{settings}/broken.conf
         systemctl daemon-reload; systemctl stop {unit}; systemctl is-active {unit}"
    ));
    assert_eq!(broken, "inactive\n");
    let answer = world.infra(&["up", "--yes"]);
    let printed = answer.printed();
    assert!(answer.code().is_some_and(|code| code != 0), "{printed}");
    assert!(
        printed.contains(&format!("systemctl start {unit}: {WORDS}")),
        "{printed}"
    );

    master.root(&format!("rm -r {settings}; systemctl daemon-reload"));
    world.infra(&["up", "--yes"]).exits(0);
    // systemd may be between two attempts of its own.
    world.until(Duration::from_secs(30), "the unit to run", || {
        master.root(&format!("systemctl is-active {unit}; true")) == "active\n"
    });
}
