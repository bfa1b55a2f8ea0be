//! A rotation of every password, killed before and after each of its effects, and run again. One password a user is then left, the one that SSM holds, on both hosts; the
//! app wrote all along and saw no error.

use crate::points;
use std::time::Instant;
use testkit::world::World;

const ROTATE: [&str; 4] = ["rotate", "--yes", "--grace", "1s"];

/// On a sandbox whose app was moved and runs.
pub fn table(world: &World, sample: usize) {
    let log = world.folder().join("rotate.points");
    let log_path = log.to_str().unwrap().to_string();
    let errors = || {
        let ledger = world.ledger();
        (ledger["client_errors"].clone(), ledger["connection_errors"].clone())
    };
    let before = errors();
    world.infra_under(&[("INFRA_FAULT_LOG", &log_path)], &ROTATE).exits(0);
    let count = points::read(&log).len();
    let numbers = points::choose(count, sample);
    for number in &numbers {
        let _ = std::fs::remove_file(&log);
        let begun = Instant::now();
        let text = number.to_string();
        let killed = world.infra_under(&[("INFRA_FAULT_LOG", &log_path), ("INFRA_FAULT_AT", &text)], &ROTATE);
        assert!(killed.was_killed(), "{}", killed.printed());
        let point = points::read(&log).pop().unwrap_or_default();
        // `up` meanwhile neither loses its way nor takes a password from anybody.
        if number.is_multiple_of(5) || point.contains("PutParameter password/") {
            world.infra(&["up", "--yes"]).exits(0);
        }
        world.infra(&ROTATE).exits(0);
        world.wait_for_more_writes(200);
        for host in ["master", "replica"] {
            for user in ["app", "replication", "backup", "monitoring", "admin"] {
                let known = world
                    .infra(&["redis-cli", host, "ACL", "GETUSER", user])
                    .exits(0)
                    .printed();
                let digests = known.split_whitespace().filter(|word| word.len() == 64).count();
                assert_eq!(digests, 1, "{point}: {user} on {host}: {known}");
            }
        }
        let status = world.status();
        assert_eq!(status["drift"], serde_json::json!([]), "{point}: {status}");
        assert_eq!(status["servers"]["replica"]["link_up"], true, "{point}: {status}");
        assert_eq!(errors(), before, "{point}: clients saw errors");
        println!("{number:>3} {point:<60} {:>5.1} s  ok", begun.elapsed().as_secs_f64());
    }
    println!(
        "`infra rotate` killed and run again: {0} of {0}, of {count} points",
        numbers.len()
    );
}
