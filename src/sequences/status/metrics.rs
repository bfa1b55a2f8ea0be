//! The status as figures for Prometheus, in its text format. The file is for the textfile collector of a node exporter.

use super::Status;
use super::servers::Seen;
use jiff::Timestamp;
use std::fmt::Write as _;

/// A gauge: its name, what it says, and its values by labels.
struct Gauge {
    name: &'static str,
    help: &'static str,
    values: Vec<(Vec<(&'static str, String)>, f64)>,
}

fn gauge(name: &'static str, help: &'static str) -> Gauge {
    Gauge {
        name,
        help,
        values: Vec::new(),
    }
}

impl Gauge {
    fn add(&mut self, label: &'static str, of: &str, value: Option<impl Amount>) {
        if let Some(value) = value {
            self.values.push((vec![(label, of.to_string())], value.amount()));
        }
    }

    fn set(mut self, value: Option<impl Amount>) -> Self {
        if let Some(value) = value {
            self.values.push((Vec::new(), value.amount()));
        }
        self
    }
}

/// A figure. Prometheus knows floating point numbers alone.
trait Amount {
    fn amount(self) -> f64;
}

impl Amount for u64 {
    fn amount(self) -> f64 {
        self as f64
    }
}

impl Amount for i64 {
    fn amount(self) -> f64 {
        self as f64
    }
}

impl Amount for f64 {
    fn amount(self) -> f64 {
        self
    }
}

impl Amount for bool {
    fn amount(self) -> f64 {
        f64::from(u8::from(self))
    }
}

/// Returns all figures. What is not known has no line.
pub(super) fn text(status: &Status, now: Timestamp) -> String {
    let mut text = String::new();
    let environment = [("name", status.name.clone()), ("env", status.env.clone())];
    for gauge in gauges(status, now) {
        if gauge.values.is_empty() {
            continue;
        }
        // Writing to a String does not fail.
        let _ = writeln!(text, "# HELP {0} {1}\n# TYPE {0} gauge", gauge.name, gauge.help);
        for (labels, value) in gauge.values {
            let labels: Vec<String> = environment
                .iter()
                .chain(&labels)
                .map(|(label, value)| format!("{label}=\"{}\"", escaped(value)))
                .collect();
            let _ = writeln!(text, "{}{{{}}} {value}", gauge.name, labels.join(","));
        }
    }
    text
}

fn gauges(status: &Status, now: Timestamp) -> Vec<Gauge> {
    let mut answers = gauge("infra_server_answers", "1 if the server answers, else 0.");
    let mut is_link_up = gauge(
        "infra_link_up",
        "1 if the server is connected to the one that it follows, else 0.",
    );
    let mut lag = gauge(
        "infra_lag_bytes",
        "Bytes of the replication stream behind the server that it follows.",
    );
    let mut memory = gauge("infra_memory_used_bytes", "Memory of the data and all buffers.");
    let mut memory_limit = gauge(
        "infra_memory_limit_bytes",
        "The most memory that Redis may use; 0 for no limit.",
    );
    let mut keys = gauge("infra_keys", "Keys in all databases.");
    let mut certificate = gauge(
        "infra_certificate_left_seconds",
        "Time until the certificate ends, in whole days.",
    );
    for (server, seen) in &status.servers {
        answers.add("server", server, Some(matches!(seen, Seen::Up(_))));
        let Seen::Up(redis) = seen else { continue };
        is_link_up.add("server", server, redis.link_up);
        lag.add("server", server, redis.lag_bytes);
        memory.add("server", server, Some(redis.used_memory));
        memory_limit.add("server", server, Some(redis.maxmemory));
        keys.add(
            "server",
            server,
            Some(redis.keys.values().map(|keys| keys.keys).sum::<u64>()),
        );
        certificate.add("server", server, redis.certificate_days_left.map(|days| days * 86_400));
    }
    let mut disk_left = gauge("infra_disk_left_bytes", "Bytes left on the host's disk.");
    let mut disk = gauge("infra_disk_bytes", "Size of the host's disk.");
    for (host, part) in &status.room.disks {
        disk_left.add("host", host, Some(part.left()));
        disk.add("host", host, Some(part.most));
    }
    let mut credits = gauge("infra_cpu_credits", "CPU credits that the host has left.");
    let mut credits_end = gauge(
        "infra_cpu_credits_end_seconds",
        "When the host's CPU credits are gone at the trend of the last hours, seconds since 1970.",
    );
    for (host, part) in &status.room.cpu_credits {
        credits.add("host", host, Some(part.left));
        credits_end.add("host", host, part.gone_at.map(Timestamp::as_second));
    }
    let mut phase = gauge("infra_phase", "1, with the phase of the move.");
    phase.add("phase", &status.phase, Some(true));
    let mut findings = gauge("infra_finding", "The number of findings with this id.");
    let mut ids: Vec<&str> = status.findings.iter().map(|finding| finding.id).collect();
    ids.sort_unstable();
    for same in ids.chunk_by(|one, other| one == other) {
        findings.add("id", same[0], Some(same.len() as u64));
    }
    let age = |at: Timestamp| now.duration_since(at).as_secs();
    let connections = status.room.connections;
    vec![
        gauge(
            "infra_looked_at_seconds",
            "When this was looked at, seconds since 1970.",
        )
        .set(Some(now.as_second())),
        answers,
        is_link_up,
        lag,
        memory,
        memory_limit,
        gauge(
            "infra_memory_full_seconds",
            "When the master's memory is full at the last week's growth, seconds since 1970.",
        )
        .set(status.room.memory_full_at.map(Timestamp::as_second)),
        gauge("infra_connections", "Clients of the master.").set(connections.map(|part| part.used)),
        gauge("infra_connections_limit", "The most clients that the master takes.")
            .set(connections.map(|part| part.most)),
        disk_left,
        disk,
        credits,
        credits_end,
        keys,
        certificate,
        gauge("infra_backup_age_seconds", "Age of the newest base in the bucket.").set(status.backup_age_s),
        gauge(
            "infra_log_age_seconds",
            "Age of the newest second that can be restored.",
        )
        .set(status.log_age_s),
        gauge("infra_drill_age_seconds", "Age of the newest restore that was tried.")
            .set(status.drill.as_ref().map(|drill| age(drill.drilled_at))),
        phase,
        findings,
        gauge("infra_findings", "The number of all findings; 0 if all is well.")
            .set(Some(status.findings.len() as u64)),
    ]
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_cannot_end_its_line() {
        assert_eq!(escaped("a\"b\\c\nd"), "a\\\"b\\\\c\\nd");
    }
}
