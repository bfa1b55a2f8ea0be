//! Decides how much room is left on the pair, and when it will be gone. Pure.

use super::credits::{self, Credits};
use super::preflight::Finding;
use crate::model::cloud::Balance;
use crate::model::size;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use std::collections::BTreeMap;

/// Less than this share of anything is a finding. The agents give up kept data at the same share of a disk.
const LOW_PERCENT: u64 = 10;
/// Memory that is gone within this time is a finding. A larger instance type takes an hour, and time to decide.
const SOON: SignedDuration = SignedDuration::from_hours(14 * 24);
/// A shorter time between two bases says little of a week.
const SHORTEST: SignedDuration = SignedDuration::from_hours(24);
const SECONDS_A_DAY: f64 = 86_400.0;

/// How much of something is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Use {
    pub used: u64,
    pub most: u64,
}

/// The size of the data at a moment, by a base's record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    pub at: Timestamp,
    pub bytes: u64,
}

/// What was seen of a pair.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Memory of the master; `None` if it has no limit or does not answer.
    pub memory: Option<Use>,
    /// Clients of the master.
    pub connections: Option<Use>,
    /// Disks by host.
    pub disks: BTreeMap<&'static str, Use>,
    /// The newest base and one of up to a week before, in this order.
    pub bases: Option<[Size; 2]>,
    /// Balances of CPU credits by host, for types that have them.
    pub credits: BTreeMap<&'static str, Vec<Balance>>,
}

/// The room that is left.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Room {
    pub memory: Option<Use>,
    /// Bytes of memory a day, by how the bases grew within the last week; `None` if they did not.
    pub memory_growth_a_day: Option<u64>,
    /// When the memory is full at that growth; `None` if it does not grow or would last for years.
    pub memory_full_at: Option<Timestamp>,
    pub connections: Option<Use>,
    pub disks: BTreeMap<&'static str, Use>,
    /// CPU credits by host; a host without an entry has none, or they are not known.
    pub cpu_credits: BTreeMap<&'static str, Credits>,
}

impl Use {
    pub fn left(self) -> u64 {
        self.most.saturating_sub(self.used)
    }

    pub fn left_percent(self) -> u64 {
        self.left().saturating_mul(100).checked_div(self.most).unwrap_or(0)
    }

    fn is_low(self) -> bool {
        self.most > 0 && self.left_percent() < LOW_PERCENT
    }
}

/// Returns the room, and a finding for each thing of which little is left.
pub fn room(seen: Seen, now: Timestamp) -> (Room, Vec<Finding>) {
    let growth = seen
        .memory
        .zip(seen.bases)
        .and_then(|(memory, bases)| growth(memory, bases));
    let full_at = seen
        .memory
        .zip(growth)
        .and_then(|(memory, growth)| full_at(memory, growth, now));
    let room = Room {
        memory: seen.memory,
        memory_growth_a_day: growth.map(|bytes| bytes as u64),
        memory_full_at: full_at,
        connections: seen.connections,
        disks: seen.disks,
        cpu_credits: credits_of(&seen.credits),
    };
    let mut findings = findings(&room, now);
    findings.extend(credits::findings(&room.cpu_credits, now));
    (room, findings)
}

fn credits_of(balances: &BTreeMap<&'static str, Vec<Balance>>) -> BTreeMap<&'static str, Credits> {
    let known = |(host, balances): (&&'static str, &Vec<Balance>)| Some((*host, credits::credits(balances)?));
    balances.iter().filter_map(known).collect()
}

/// Returns the growth in bytes a day. The bases are compressed, so only their ratio counts.
fn growth(memory: Use, [newest, earlier]: [Size; 2]) -> Option<f64> {
    let between = newest.at.duration_since(earlier.at);
    if between < SHORTEST || newest.bytes <= earlier.bytes {
        return None;
    }
    let grown = memory.used as f64 * (1.0 - earlier.bytes as f64 / newest.bytes as f64);
    Some(grown / between.as_secs_f64() * SECONDS_A_DAY).filter(|growth| *growth >= 1.0)
}

fn full_at(memory: Use, growth: f64, now: Timestamp) -> Option<Timestamp> {
    let seconds = memory.left() as f64 / growth * SECONDS_A_DAY;
    let left = SignedDuration::try_from_secs_f64(seconds).ok()?;
    // A date in ten years would only look exact.
    (left < SignedDuration::from_hours(10 * 365 * 24)).then(|| now.checked_add(left).ok())?
}

fn findings(room: &Room, now: Timestamp) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(memory) = room.memory.filter(|memory| memory.is_low()) {
        findings.push(Finding::warning(
            "memory-low",
            format!("the master has {} of memory left", of(memory)),
            "take a larger instance type with `infra resize --type TYPE`, or let fewer keys live",
        ));
    }
    if let Some(full_at) = room.memory_full_at.filter(|full_at| full_at.duration_since(now) < SOON) {
        findings.push(Finding::warning(
            "memory-full-soon",
            format!(
                "the master's memory is full in {} at the last week's growth",
                days(full_at, now)
            ),
            "take a larger instance type with `infra resize --type TYPE` before that",
        ));
    }
    if let Some(connections) = room.connections.filter(|connections| connections.is_low()) {
        findings.push(Finding::warning(
            "connections-low",
            format!(
                "the master has {} of {} connections left",
                connections.left(),
                connections.most
            ),
            "make the app's pools smaller, or raise `maxclients` in `redis.settings`",
        ));
    }
    findings.extend(room.disks.iter().filter(|(_, disk)| disk.is_low()).map(|(host, disk)| {
        Finding::warning(
            "disk-low",
            format!("the disk of the {host} has {} left", of(*disk)),
            "see there what fills it: `infra ssh HOST -- df -h` and `du`; `infra resize --disk-gb GB` lets it grow",
        )
    }));
    findings
}

fn of(part: Use) -> String {
    format!("{} of {}", size::bytes(part.left()), size::bytes(part.most))
}

fn days(until: Timestamp, now: Timestamp) -> String {
    match until.duration_since(now).as_hours() / 24 {
        ..1 => "less than a day".into(),
        1 => "a day".into(),
        days => format!("about {days} days"),
    }
}

impl Room {
    /// Returns the room as one line; `None` if nothing is known.
    pub fn line(&self, now: Timestamp) -> Option<String> {
        let mut parts = Vec::new();
        parts.extend(self.memory.map(|memory| {
            let until = self.memory_full_at.map(|full_at| days(full_at, now));
            let until = until.map(|until| format!(", enough for {until} at the last week's growth"));
            format!("memory {}{}", of(memory), until.unwrap_or_default())
        }));
        parts.extend(self.connections.map(|part| {
            let (left, most) = (size::count(part.left()), size::count(part.most));
            format!("connections {left} of {most}")
        }));
        parts.extend(
            self.disks
                .iter()
                .map(|(host, disk)| format!("{host}'s disk {}", of(*disk))),
        );
        let hosts = self.cpu_credits.iter();
        parts.extend(hosts.map(|(host, credits)| credits::part(host, credits, now)));
        (!parts.is_empty()).then(|| format!("room left: {}", parts.join("; ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn now() -> Timestamp {
        "2026-03-08T12:00:00Z".parse().unwrap()
    }

    /// A base of this many days ago.
    fn base(days: i64, bytes: u64) -> Size {
        Size {
            at: now() - SignedDuration::from_hours(days * 24),
            bytes,
        }
    }

    fn memory(used: u64, most: u64) -> Seen {
        Seen {
            memory: Some(Use { used, most }),
            ..Seen::default()
        }
    }

    fn ids(seen: Seen) -> Vec<&'static str> {
        room(seen, now()).1.iter().map(|finding| finding.id).collect()
    }

    #[test]
    fn memory_is_full_when_the_last_weeks_growth_has_used_what_is_left() {
        // 300 MiB were 150 a week ago: 150 / 7 a day, and 300 more last 14 days.
        let seen = Seen {
            bases: Some([base(0, 40 * MIB), base(7, 20 * MIB)]),
            ..memory(300 * MIB, 600 * MIB)
        };
        let (found, findings) = room(seen, now());
        assert_eq!(found.memory_growth_a_day.map(|bytes| bytes / MIB), Some(21));
        let left = found.memory_full_at.unwrap().duration_since(now()).as_hours();
        assert!((left - 14 * 24).abs() <= 1, "{left} h");
        assert!(findings.len() <= 1, "{findings:?}");
        let line = found.line(now()).unwrap();
        assert!(
            line.starts_with("room left: memory 300.0 MiB of 600.0 MiB, enough for about 1"),
            "{line}"
        );
    }

    #[test]
    fn memory_that_lasts_for_less_than_two_weeks_is_a_finding() {
        let grown = |before| Seen {
            bases: Some([base(0, 40 * MIB), base(7, before)]),
            ..memory(400 * MIB, 600 * MIB)
        };
        assert_eq!(ids(grown(20 * MIB)), ["memory-full-soon"]);
        assert_eq!(ids(grown(39 * MIB)), [] as [&str; 0]);
        // Data that shrank, or grew by nothing, never fills it.
        for before in [40 * MIB, 60 * MIB] {
            assert_eq!(room(grown(before), now()).0.memory_full_at, None);
        }
    }

    #[test]
    fn bases_of_less_than_a_day_say_nothing_of_a_week() {
        let seen = Seen {
            bases: Some([
                base(0, 40 * MIB),
                Size {
                    at: now() - SignedDuration::from_hours(23),
                    bytes: MIB,
                },
            ]),
            ..memory(400 * MIB, 600 * MIB)
        };
        assert_eq!(room(seen, now()).0.memory_growth_a_day, None);
    }

    #[test]
    fn less_than_a_tenth_of_anything_is_a_finding() {
        let disk = |used| [("master", Use { used, most: 100 })].into();
        let connections = |used| Some(Use { used, most: 1_000 });
        assert_eq!(ids(memory(89, 100)), [] as [&str; 0]);
        assert_eq!(ids(memory(91, 100)), ["memory-low"]);
        for (used, low) in [(900, false), (901, true)] {
            let seen = Seen {
                connections: connections(used),
                ..Seen::default()
            };
            assert_eq!(!ids(seen).is_empty(), low, "{used} of 1,000 connections");
        }
        for (used, low) in [(90, false), (91, true)] {
            let seen = Seen {
                disks: disk(used),
                ..Seen::default()
            };
            assert_eq!(!ids(seen).is_empty(), low, "{used} of 100 bytes");
        }
    }

    #[test]
    fn nothing_that_is_known_is_no_line() {
        let (found, findings) = room(Seen::default(), now());
        assert_eq!((found.line(now()), findings), (None, Vec::new()));
    }
}
