//! Shows the status to a person.

use super::Status;
use super::servers::{Redis, Seen};
use crate::effects::cloud::ec2::Purpose;
use crate::model::size;
use crate::ui::Ui;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::time::Duration;
use wire::info::Keyspace;

pub(super) fn lines(ui: &Ui, status: &Status) -> Vec<String> {
    let now = Timestamp::now();
    let phase = if status.phase.is_empty() {
        "not following yet"
    } else {
        &status.phase
    };
    let mut lines = vec![format!(
        "{} ({})  phase: {phase}  app uses: {}",
        status.name, status.env, status.app
    )];
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
    lines.push(table.to_string());
    lines.push(match (&status.backup, status.backup_age_s) {
        (Some(backup), Some(age)) => format!(
            "last backup: {} ago, {}, {} keys  {}",
            age_text(age),
            size::bytes(backup.bytes),
            size::count(backup.keys),
            backup.key
        ),
        _ => "last backup: none".into(),
    });
    lines.push(match (status.log_until, status.log_age_s) {
        (Some(until), Some(age)) => format!("every second can be restored up to {until}, {} ago", age_text(age)),
        _ => "log: none".into(),
    });
    lines.push(match &status.drill {
        Some(drill) => format!(
            "last drill: {} ago, {} keys in {:.1} s",
            age_text(now.duration_since(drill.drilled_at).as_secs()),
            size::count(drill.keys),
            drill.seconds
        ),
        None => "last drill: none".into(),
    });
    let age = |launched| age_text(now.duration_since(launched).as_secs());
    lines.extend(status.restore_instances.iter().map(|temporary| {
        format!(
            "beside the pair: {} for {}, {}, {} old",
            temporary.instance,
            match temporary.purpose {
                Purpose::Drill => "a drill",
                Purpose::Restored => "a restore (`infra restore --remove` ends it)",
            },
            temporary.state,
            temporary.launched_at.map_or("?".into(), age)
        )
    }));
    lines.extend(status.kept.iter().map(|(name, kept)| kept.line(name, now)));
    lines.extend(status.room.line(now));
    lines.extend(
        status
            .credits_unseen
            .iter()
            .map(|why| format!("CPU credits: not known, {why}")),
    );
    lines.extend(status.tunnel.iter().map(|tunnel| tunnel.line(now)));
    lines.extend(status.copy.iter().map(|copy| copy.line()));
    match &status.drift {
        Some(drift) if drift.is_empty() => lines.push("drift: none".into()),
        Some(drift) => {
            lines.push(format!(
                "drift: {} differences; `infra up` mends those that name no remedy of their own",
                drift.len()
            ));
            lines.extend(drift.iter().map(|line| format!("  {line}")));
        }
        None => lines.push("drift: not known".into()),
    }
    lines.extend(status.upkeep.iter().map(|upkeep| format!("upkeep: {upkeep}")));
    let alarms = status.alarms.iter();
    lines.extend(alarms.map(|alarm| format!("{} {alarm}", ui.paint_data("31", "ALARM"))));
    lines
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
