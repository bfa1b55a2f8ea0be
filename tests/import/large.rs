//! A million rows: flat memory, and one planted change among them is found.

use super::rig::Rig;
use std::process::Stdio;
use std::time::{Duration, Instant};

const ROWS: u32 = 1_000_000;
/// Peak memory of the program.
const MOST_KIB: u64 = 64 << 10;

/// Runs a verb and returns its exit code, its peak memory in KiB and its time.
fn measured(rig: &Rig, arguments: &[&str]) -> (Option<i32>, u64, Duration) {
    let begun = Instant::now();
    let mut command = rig.command(arguments, &[]);
    let mut running = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let status = format!("/proc/{}/status", running.id());
    let mut peak = 0;
    loop {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let found = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        peak = peak.max(found.unwrap_or(0));
        if let Some(ended) = running.try_wait().unwrap() {
            return (ended.code(), peak, begun.elapsed());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_million_rows_take_flat_memory_and_one_change_among_them_is_found_both_ways() {
    let rig = Rig::start();
    rig.postgres.sql(&format!(
        "CREATE TABLE markers (user_id bigint PRIMARY KEY, status text);
         INSERT INTO markers SELECT n, 'status ' || n FROM generate_series(1, {ROWS}) n; ANALYZE markers"
    ));
    rig.mapping_with(
        "limits: {rows_per_s: unlimited}",
        "- {table: markers, key: 'marker:{{ user_id }}', type: string, value: status}",
    );
    for (arguments, code) in [(&["run"][..], 0), (&["verify"], 0)] {
        let (ended, peak, took) = measured(&rig, arguments);
        let rate = f64::from(ROWS) / took.as_secs_f64();
        eprintln!("{arguments:?}: {rate:.0} rows a second, {peak} KiB at most");
        assert_eq!(ended, Some(code));
        assert!((1..=MOST_KIB).contains(&peak), "{arguments:?} took {peak} KiB");
    }
    assert_eq!(rig.redis_text("DBSIZE"), ROWS.to_string());
    for (change, undo) in [
        ("SET marker:654321 other", "DEL marker:654321"),
        ("SET marker:1654321 other", "DEL marker:1654321"),
    ] {
        rig.redis(change);
        let verified = rig.infra(&["verify", "--rounds", "2", "--pause", "10ms", "--json"]);
        assert_eq!(verified.code, 5, "{}", verified.text);
        assert_eq!(verified.json["verdict"]["differing"], 1, "{}", verified.text);
        rig.redis(undo);
        assert_eq!(rig.infra(&["run", "--restart"]).code, 0);
    }
}
