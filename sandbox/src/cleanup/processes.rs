//! The sandbox's processes, found by their environment or their control group.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::Instant;

use super::Owner;
use crate::environment::{ID_VARIABLE, OPERATOR_VARIABLE};
use crate::machines::control_group;
use crate::paths::STATE_VARIABLE;

const GONE_WITHIN: Duration = Duration::from_secs(4);

/// Kills in rounds until no process is left, since one may have started another meanwhile.
pub async fn kill_all(owner: &Owner) {
    let deadline = Instant::now() + GONE_WITHIN;
    loop {
        let found = of(owner);
        if found.is_empty() || Instant::now() > deadline {
            return;
        }
        for pid in found {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Returns every process of the sandbox but this one and its ancestors.
pub fn of(owner: &Owner) -> BTreeSet<i32> {
    let mut found: BTreeSet<i32> = all()
        .into_iter()
        .filter(|pid| belongs(&environment_of(*pid), owner))
        .collect();
    if owner.has_network {
        found.extend(control_group::processes(None));
    }
    let spared = ancestors();
    found.retain(|pid| !spared.contains(pid) && is_running(*pid));
    found
}

/// Returns whether the process was started with this run's id.
pub fn carries_id(pid: i32, id: &str) -> bool {
    environment_of(pid)
        .iter()
        .any(|variable| variable.strip_prefix(ID_VARIABLE) == Some(&format!("={id}")))
        && is_running(pid)
}

/// Returns its command line, for people.
pub fn command_of(pid: i32) -> String {
    let text = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&text).replace('\0', " ").trim().to_owned()
}

fn belongs(environment: &[String], owner: &Owner) -> bool {
    let value = |name: &str| {
        environment
            .iter()
            .find_map(|variable| variable.strip_prefix(name)?.strip_prefix('='))
    };
    let Some(id) = value(ID_VARIABLE) else { return false };
    // Commands that people run against the sandbox are spared.
    if value(OPERATOR_VARIABLE).is_some() {
        return false;
    }
    owner.id.as_deref() == Some(id) || value(STATE_VARIABLE) == Some(owner.state.as_str())
}

fn all() -> Vec<i32> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

fn environment_of(pid: i32) -> Vec<String> {
    let text = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    text.split(|byte| *byte == 0)
        .map(|variable| String::from_utf8_lossy(variable).into_owned())
        .collect()
}

/// Returns state and parent. The second field may contain anything, so the last `)` ends it.
fn state_and_parent(pid: i32) -> Option<(String, i32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    Some((fields.next()?.to_owned(), fields.next()?.parse().ok()?))
}

/// Returns whether the process runs. A killed one stays as a zombie until its parent has asked for it.
pub fn is_running(pid: i32) -> bool {
    state_and_parent(pid).is_some_and(|(state, _)| state != "Z" && state != "X")
}

fn ancestors() -> BTreeSet<i32> {
    let mut spared = BTreeSet::new();
    let mut pid = i32::try_from(std::process::id()).unwrap_or(0);
    while pid > 0 && spared.insert(pid) {
        pid = state_and_parent(pid).map_or(0, |(_, parent)| parent);
    }
    spared
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner() -> Owner {
        Owner {
            state: "/var/lib/x".into(),
            id: Some("sb-1".into()),
            has_network: false,
        }
    }

    fn environment(variables: &[&str]) -> Vec<String> {
        variables.iter().map(|variable| (*variable).to_owned()).collect()
    }

    #[test]
    fn own_processes_are_known_by_id_or_by_folder() {
        assert!(belongs(&environment(&["INFRA_SANDBOX_ID=sb-1"]), &owner()));
        assert!(belongs(
            &environment(&["INFRA_SANDBOX_ID=sb-old", "INFRA_SANDBOX_DIR=/var/lib/x"]),
            &owner()
        ));
    }

    #[test]
    fn processes_of_others_and_of_people_are_spared() {
        assert!(!belongs(
            &environment(&["INFRA_SANDBOX_ID=sb-2", "INFRA_SANDBOX_DIR=/var/lib/y"]),
            &owner()
        ));
        assert!(!belongs(&environment(&["INFRA_SANDBOX_ID=sb-11"]), &owner()));
        assert!(!belongs(&environment(&["INFRA_SANDBOX_DIR=/var/lib/x"]), &owner()));
        assert!(!belongs(
            &environment(&["INFRA_SANDBOX_ID=sb-1", "INFRA_SANDBOX_OPERATOR=1"]),
            &owner()
        ));
    }

    #[test]
    fn this_process_and_its_parents_are_spared() {
        let spared = ancestors();
        assert!(spared.contains(&i32::try_from(std::process::id()).unwrap()) && spared.len() > 1);
    }
}
