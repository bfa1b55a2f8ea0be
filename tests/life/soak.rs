//! Both hosts at the memory limit of their instances, while keys are written again and backups are made one after the other.

use crate::hosts::Hosts;
use crate::roles;
use sandbox::machines::control_group;
use std::time::{Duration, Instant};
use testkit::world::World;

/// Unless `make soak` says how long by LIFE_SOAK_MINUTES.
const SHORT: Duration = Duration::from_secs(20);
/// Of the engine's limit, so that the app's own keys have room.
const FILLED_PERCENT: u64 = 92;

fn minutes() -> Option<u64> {
    std::env::var("LIFE_SOAK_MINUTES").ok()?.parse().ok()
}

pub fn is_wanted() -> bool {
    minutes().is_some()
}

/// The kernel ends no program of a host, and no engine starts anew.
pub fn no_program_runs_out_of_memory(world: &World, hosts: &Hosts) {
    let lasts = minutes().map_or(SHORT, |minutes| Duration::from_secs(60 * minutes));
    let (master, replica) = roles(world);
    let engines = || {
        let status = world.status();
        ["master", "replica"].map(|role| status["servers"][role]["run_id"].clone())
    };
    let before = engines();
    let killed = || [&master, &replica].map(|id| control_group::killed_for_memory(id).unwrap());
    let killed_before = killed();
    let mut filler = hosts.connect_for(&master, Duration::from_secs(60));
    let (used, limit) = hosts.memory(&mut filler);
    let fill = (limit * FILLED_PERCENT / 100).saturating_sub(used);
    println!(
        "the engine has {} of {} MiB; filling {} MiB",
        used >> 20,
        limit >> 20,
        fill >> 20
    );
    let keys = hosts.fill(&mut filler, fill);
    let (begun, mut backups, mut written) = (Instant::now(), 0, 0);
    while begun.elapsed() < lasts {
        let mut backup = world.begin(&["backup", "now"]);
        // Whatever is written while a child has the old pages needs pages of its own.
        let ended = loop {
            written += hosts.rewrite(&mut filler, keys);
            if let Some(ended) = backup.try_wait().unwrap() {
                break ended;
            }
        };
        assert!(ended.success(), "a backup failed: {ended}");
        backups += 1;
    }
    assert_eq!(killed(), killed_before, "the kernel ended a program for its memory");
    assert_eq!(engines(), before, "an engine started anew");
    println!(
        "{} s at the limit: {backups} backups, {written} values written again, no program ended for its memory",
        lasts.as_secs()
    );
    hosts.empty(&mut filler, keys);
}
