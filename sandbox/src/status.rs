//! `sandbox status`: what runs, where it answers, and whether anything is dead.

use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::cleanup::is_running;
use crate::paths::Paths;
use crate::record::{Part, Phase, Record};

const SCHEMA_VERSION: u32 = 1;

/// Prints the state; the exit code is 1 unless everything lives.
pub fn status(paths: &Paths, json: bool) -> Result<ExitCode> {
    crate::tools::check_root("status")?;
    let Some(mut record) = Record::read(paths) else {
        if json {
            let absent = serde_json::json!({"schema_version": SCHEMA_VERSION, "up": false, "healthy": false});
            crate::output::line(&absent.to_string())?;
        } else {
            eprintln!(
                "no sandbox is up in {}: raise one with `sandbox up`",
                paths.state().display()
            );
        }
        return Ok(ExitCode::FAILURE);
    };
    let supervised = record.supervisor_lives();
    look_after(&mut record, supervised);
    let healthy = supervised
        && record.phase == Phase::Ready
        && record.parts.iter().all(|part| part.problem.is_none())
        && record.machines.values().all(|machine| machine.problem.is_none());
    if json {
        let mut document = serde_json::to_value(&record).context("print the state")?;
        if let Some(fields) = document.as_object_mut() {
            fields.insert("schema_version".into(), SCHEMA_VERSION.into());
            fields.insert("up".into(), supervised.into());
            fields.insert("healthy".into(), healthy.into());
        }
        crate::output::line(&serde_json::to_string_pretty(&document).context("print the state")?)?;
    } else {
        crate::output::line(table(&record, supervised).trim_end())?;
    }
    Ok(if healthy { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Adds what the record cannot know: whether its processes live now.
fn look_after(record: &mut Record, supervised: bool) {
    for part in &mut record.parts {
        let own_process_gone = part
            .pid
            .and_then(|pid| i32::try_from(pid).ok())
            .is_some_and(|pid| !is_running(pid));
        if part.problem.is_none() && (own_process_gone || (part.pid.is_none() && !supervised)) {
            part.problem = Some("its process is gone".to_owned());
        }
    }
    for machine in record.machines.values_mut() {
        if machine.problem.is_none() && machine.leader.is_some_and(|pid| !is_running(pid)) {
            machine.problem = Some("its init is gone".to_owned());
        }
    }
}

fn table(record: &Record, supervised: bool) -> String {
    let supervisor = Part {
        name: "supervisor".to_owned(),
        address: record
            .supervisor
            .map_or_else(|| "not started".to_owned(), |pid| format!("pid {pid}")),
        pid: None,
        problem: match (supervised, record.phase) {
            (false, _) => Some("its process is gone: `sandbox down` removes what it left".to_owned()),
            (true, Phase::Starting) => Some(format!("starting: {}", record.detail)),
            (true, Phase::Failed) => Some(record.detail.clone()),
            (true, Phase::Ready) => None,
        },
    };
    let mut rows: Vec<[String; 4]> = Vec::new();
    for part in std::iter::once(&supervisor).chain(&record.parts) {
        let state = if part.problem.is_none() { "running" } else { "dead" };
        rows.push([
            part.name.clone(),
            state.into(),
            part.address.clone(),
            part.problem.clone().unwrap_or_default(),
        ]);
    }
    for (id, machine) in &record.machines {
        let state = if machine.problem.is_none() {
            machine.state.as_str()
        } else {
            "dead"
        };
        let name = machine
            .name
            .as_ref()
            .map_or_else(|| id.clone(), |name| format!("{id} ({name})"));
        let place = format!("{} {}", machine.addresses.join(" "), machine.zone);
        rows.push([name, state.into(), place, machine.problem.clone().unwrap_or_default()]);
    }
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let (first, second, third) = (width(0), width(1), width(2));
    rows.iter()
        .map(|[name, state, place, problem]| {
            format!("{name:first$}  {state:second$}  {place:third$}  {problem}")
                .trim_end()
                .to_owned()
                + "\n"
        })
        .collect()
}
