//! A live restore, killed before and after each of its effects, and run again. The master and its replica then have the data of the second that was asked for, the log is
//! shipped, and nothing of the killed run is left on the host.

use crate::points;
use crate::sides::stop_the_app;
use std::time::{Duration, Instant};
use testkit::world::World;

/// On a sandbox whose app was moved.
pub fn table(world: &World, sample: usize) {
    stop_the_app(world);
    let redis = |host: &str, words: &[&str]| world.infra(&[&["redis-cli", host], words].concat()).exits(0);
    redis("master", &["SET", "marker", "before"]);
    std::thread::sleep(Duration::from_secs(1));
    let second = jiff::Timestamp::from_second(jiff::Timestamp::now().as_second()).unwrap();
    std::thread::sleep(Duration::from_secs(2));
    redis("master", &["SET", "marker", "after"]);
    world.until(Duration::from_secs(60), "the log to be shipped", || {
        let until = world.status()["log_until"]
            .as_str()
            .map(|text| text.parse::<jiff::Timestamp>().unwrap());
        until.is_some_and(|until| until > second)
    });
    let at = second.to_string();
    let restore = ["restore", "--at", &at, "--to", "live", "--confirm", "demo"];
    let log = world.folder().join("restore.points");
    let log_path = log.to_str().unwrap().to_string();
    world.infra_under(&[("INFRA_FAULT_LOG", &log_path)], &restore).exits(0);
    let count = points::read(&log).len();
    let numbers = points::choose(count, sample);
    for number in &numbers {
        redis("master", &["SET", "marker", "after"]);
        let _ = std::fs::remove_file(&log);
        let begun = Instant::now();
        let text = number.to_string();
        let killed = world.infra_under(&[("INFRA_FAULT_LOG", &log_path), ("INFRA_FAULT_AT", &text)], &restore);
        assert!(killed.was_killed(), "{}", killed.printed());
        world.infra(&restore).exits(0);
        for host in ["master", "replica"] {
            redis(host, &["GET", "marker"]).says("before");
        }
        let folders = world.infra(&["ssh", "master", "sudo", "ls", "/var/lib/redis"]).exits(0);
        assert!(!folders.printed().contains("\nrestore-"), "{}", folders.printed());
        assert_eq!(world.infra(&["up", "--yes", "--json"]).exits(0).json()["changes"], 0);
        let point = points::read(&log).pop().unwrap_or_default();
        println!("{number:>3} {point:<60} {:>5.1} s  ok", begun.elapsed().as_secs_f64());
    }
    println!(
        "`infra restore --to live` killed and run again: {0} of {0}, of {count} points",
        numbers.len()
    );
}
