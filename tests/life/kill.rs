//! The table: at each point the command dies as by `kill -9`, a write is tried on both hosts, and the same command is run again.

use crate::hosts::Hosts;
use crate::{PROMOTE, is_whole, roles};
use std::time::Instant;
use testkit::points;
use testkit::world::World;

/// Numbers from 1 on: all with LIFE=all, those of LIFE_POINTS=3,17-20, else a sample of those at which
/// the role is about to move or has moved, by LIFE_SEED.
fn chosen(names: &[String], sample: usize) -> Vec<usize> {
    if let Some(named) = points::named("LIFE_POINTS", names.len()) {
        return named;
    }
    if crate::all() {
        return (1..=names.len()).collect();
    }
    let at = |name: &str| names.iter().position(|point| point.contains(name)).unwrap();
    let (first, last) = (at("failover preparing"), at("failover tag"));
    let among = points::sample("LIFE_SEED", last - first, sample);
    among.into_iter().map(|number| first + number).collect()
}

/// On a sandbox whose app was moved and runs.
pub fn table(world: &World, hosts: &Hosts, sample: usize) {
    let log = world.folder().join("promote.points");
    let log_path = log.to_str().unwrap().to_string();
    world.infra_under(&[("INFRA_FAULT_LOG", &log_path)], &PROMOTE).exits(0);
    let names = points::read(&log);
    let numbers = chosen(&names, sample);
    for number in &numbers {
        let _ = std::fs::remove_file(&log);
        let begun = Instant::now();
        let before = roles(world);
        let text = number.to_string();
        let killed = world.infra_under(&[("INFRA_FAULT_LOG", &log_path), ("INFRA_FAULT_AT", &text)], &PROMOTE);
        assert!(killed.was_killed(), "{}", killed.printed());
        let point = points::read(&log).pop().unwrap_or_default();
        let took = hosts.take_writes();
        assert!(
            took.iter().filter(|(_, takes)| *takes).count() <= 1,
            "{point}: {took:?}"
        );
        let answer = world.infra(&PROMOTE).exits(0).json();
        world.wait_for_more_writes(100);
        if answer["master"] == before.1.as_str() {
            is_whole(world, &answer, &before);
        } else {
            // The killed command had come to its end, and the next one moved the role again.
            is_whole(world, &answer, &(before.1, before.0));
        }
        let open: Vec<&str> = took
            .iter()
            .filter(|(_, takes)| *takes)
            .map(|(id, _)| id.as_str())
            .collect();
        println!(
            "{number:>3} {point:<60} writes at {open:?} {:>5.1} s  ok",
            begun.elapsed().as_secs_f64()
        );
    }
    println!(
        "`infra promote` killed and run again: {0} of {0}, of {1} points",
        numbers.len(),
        names.len()
    );
}
