//! Reads what the kernel says about a process. Source: proc(5).

use crate::Outcome;
use std::collections::BTreeMap;
use std::fs;

/// The kernel counts in hundredths of a second on every architecture that hosts have.
const TICKS_PER_S: f64 = 100.0;

/// Returns the most memory that was ever resident, in megabytes.
pub fn peak_mb(pid: i32) -> Outcome<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .ok_or("no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
}

/// Returns the seconds of a core that the process took so far, ended threads included.
pub fn cpu_s(pid: i32) -> Outcome<f64> {
    Ok(spent(&fs::read_to_string(format!("/proc/{pid}/stat"))?)?.1)
}

/// Returns the seconds of a core by the names of the threads.
pub fn cpu_s_by_thread(pid: i32) -> Outcome<BTreeMap<String, f64>> {
    let mut threads = BTreeMap::new();
    for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread that ended meanwhile has no file.
        if let Ok(stat) = fs::read_to_string(entry?.path().join("stat")) {
            let (name, seconds) = spent(&stat)?;
            *threads.entry(name).or_default() += seconds;
        }
    }
    Ok(threads)
}

/// Returns name, and user plus system time in seconds. The name may hold spaces and brackets.
fn spent(stat: &str) -> Outcome<(String, f64)> {
    let (begin, rest) = stat.rsplit_once(") ").ok_or("no name in stat")?;
    let name = begin.split_once('(').ok_or("no name in stat")?.1;
    let fields: Vec<&str> = rest.split(' ').collect();
    let ticks = |at: usize| -> Outcome<f64> { Ok(fields.get(at).ok_or("stat is too short")?.parse()?) };
    // Fields 14 and 15; the third is the first behind the name.
    Ok((name.into(), (ticks(11)? + ticks(12)?) / TICKS_PER_S))
}
