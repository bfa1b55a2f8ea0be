//! Shows the status to a person.

use super::{Redis, Seen, Status};
use crate::effects::cloud::ec2::Purpose;
use crate::model::error::{Error, Result};
use crate::model::size;
use crate::ui::Ui;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::time::Duration;
use wire::info::Keyspace;

pub(super) fn show(ui: &Ui, status: &Status) -> Result<()> {
    if ui.json() {
        let text =
            serde_json::to_string(status).map_err(|error| Error::failed("write the status as JSON").because(error))?;
        ui.data(text);
        return Ok(());
    }
    let phase = if status.phase.is_empty() {
        "not following yet"
    } else {
        &status.phase
    };
    ui.data(format!(
        "{} ({})  phase: {phase}  app uses: {}",
        status.name, status.env, status.app
    ));
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header([
        "server",
        "address",
        "version",
        "role",
        "link",
        "offset",
        "lag",
        "memory",
        "keys",
        "certificate",
    ]);
    for name in ["source", "master", "replica"] {
        match status.servers.get(name) {
            Some(Seen::Up(redis)) => table.add_row([
                name.to_string(),
                redis.address.clone(),
                redis.version.clone(),
                format!("{:?}", redis.role).to_lowercase(),
                redis
                    .link_up
                    .map_or("-", |up| if up { "up" } else { "DOWN" })
                    .to_string(),
                redis.offset.to_string(),
                redis.lag_bytes.map_or("-".into(), size::bytes),
                memory(redis),
                keys(&redis.keys),
                redis
                    .certificate_days_left
                    .map_or("-".into(), |days| format!("{days} days")),
            ]),
            Some(Seen::Down { .. }) => table.add_row([name, "-", "-", "does not answer", "-", "-", "-", "-", "-", "-"]),
            None => &mut table,
        };
    }
    ui.data(table.to_string());
    match (&status.backup, status.backup_age_s) {
        (Some(backup), Some(age)) => {
            ui.data(format!(
                "last backup: {} ago, {}, {} keys  {}",
                age_text(age),
                size::bytes(backup.bytes),
                size::count(backup.keys),
                backup.key
            ));
        }
        _ => ui.data("last backup: none"),
    }
    match (status.log_until, status.log_age_s) {
        (Some(until), Some(age)) => ui.data(format!(
            "every second can be restored up to {until}, {} ago",
            age_text(age)
        )),
        _ => ui.data("log: none"),
    }
    match &status.drill {
        Some(drill) => ui.data(format!(
            "last drill: {} ago, {} keys in {:.1} s",
            age_text(Timestamp::now().duration_since(drill.drilled_at).as_secs()),
            size::count(drill.keys),
            drill.seconds
        )),
        None => ui.data("last drill: none"),
    }
    for temporary in &status.restore_instances {
        ui.data(format!(
            "beside the pair: {} for {}, {}, {} old",
            temporary.instance,
            match temporary.purpose {
                Purpose::Drill => "a drill",
                Purpose::Restored => "a restore (`infra restore --remove` ends it)",
            },
            temporary.state,
            temporary.launched_at.map_or("?".into(), |launched| age_text(
                Timestamp::now().duration_since(launched).as_secs()
            ))
        ));
    }
    for (name, kept) in &status.kept {
        ui.data(kept.line(name, Timestamp::now()));
    }
    match &status.drift {
        Some(drift) if drift.is_empty() => ui.data("drift: none"),
        Some(drift) => {
            ui.data(format!(
                "drift: {} differences; `infra up` mends those that name no remedy of their own",
                drift.len()
            ));
            drift.iter().for_each(|line| ui.data(format!("  {line}")));
        }
        None => ui.data("drift: not known"),
    }
    for upkeep in &status.upkeep {
        ui.data(format!("upkeep: {upkeep}"));
    }
    for alarm in &status.alarms {
        ui.data(format!("{} {alarm}", ui.paint_data("31", "ALARM")));
    }
    Ok(())
}

fn memory(redis: &Redis) -> String {
    match redis.maxmemory {
        0 => size::bytes(redis.used_memory),
        limit => format!("{} of {}", size::bytes(redis.used_memory), size::bytes(limit)),
    }
}

fn keys(keyspace: &BTreeMap<u32, Keyspace>) -> String {
    if keyspace.is_empty() {
        return "none".into();
    }
    keyspace
        .iter()
        .map(|(database, counts)| format!("db{database} {}", size::count(counts.keys)))
        .collect::<Vec<_>>()
        .join(", ")
}

pub(super) fn age_text(seconds: i64) -> String {
    size::duration(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}
