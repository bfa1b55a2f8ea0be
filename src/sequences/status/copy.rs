//! Judges what the copy on the master reports of itself. Pure.

use super::{age_text, unseen};
use crate::decide::preflight::Finding;
use crate::model::error::Result;
use crate::model::size;
use infra_agent::record::{CopyPhase, CopyStatus, WatchKind};
use jiff::Timestamp;
use serde::Serialize;
use std::time::Duration;

/// Silence that is an alarm. A copy reports every second; clocks may differ by less.
const SILENT_S: i64 = 300;
/// Clocks that differ by more let keys expire too early or too late on the master.
const CLOCK_MS: u64 = 500;

#[derive(Serialize)]
pub(super) struct CopyView {
    /// Host and port that it copies.
    source: String,
    phase: CopyPhase,
    connected: bool,
    /// Whole walks through all keys of the source's present process.
    sweeps: u64,
    keys_read: u64,
    keys: u64,
    /// Keys that the last sweep found to be new, changed or deleted.
    keys_behind: Option<u64>,
    /// How long ago the last sweep ended: older writes are on the master, newer ones may not be.
    seconds_behind: Option<i64>,
    sweep_ms: Option<u64>,
    /// How many keys the last sweep read in a second.
    keys_per_s: Option<u64>,
    deletions_held: u64,
    refused: u64,
    /// Keys that the last sweep left out by their names.
    left_out: u64,
    /// Keys that were read by their types, or in parts, since the formats differ or they are large.
    by_type: u64,
    in_parts: u64,
    why: Option<String>,
    /// The watch that tells which keys are written; `None` from an older copy.
    watch: Option<Watching>,
}

#[derive(Serialize)]
struct Watching {
    kind: WatchKind,
    /// The reason why there is none.
    why: Option<String>,
    /// Every key that is not marked has been copied.
    whole: bool,
    /// Keys that were written and not yet copied again.
    marked: u64,
    /// How often it broke since the copy started.
    breaks: u64,
}

impl CopyView {
    /// Returns true if written keys are copied at once, without another sweep.
    fn follows(&self) -> bool {
        let watch = self.watch.as_ref();
        watch.is_some_and(|watch| watch.kind == WatchKind::Monitor && watch.whole)
    }

    fn left_behind(&self) -> String {
        match self.left_out {
            0 => String::new(),
            keys => format!("; {} keys are left out", size::count(keys)),
        }
    }

    pub(super) fn line(&self) -> String {
        match (&self.why, self.seconds_behind) {
            (Some(why), _) if !self.connected => format!("copy: not connected to {}: {why}", self.source),
            _ if self.follows() => format!(
                "copy: follows {} by MONITOR, {} written keys are on their way, {} breaks{}",
                self.source,
                size::count(self.watch.as_ref().map_or(0, |watch| watch.marked)),
                size::count(self.watch.as_ref().map_or(0, |watch| watch.breaks)),
                self.left_behind(),
            ),
            (_, Some(seconds)) if self.sweeps > 0 => format!(
                "copy: {} sweeps of {}, the last ended {} ago, took {} ({} keys a second) and found {} changed keys{}",
                size::count(self.sweeps),
                self.source,
                age_text(seconds),
                size::duration(Duration::from_millis(self.sweep_ms.unwrap_or(0))),
                size::count(self.keys_per_s.unwrap_or(0)),
                size::count(self.keys_behind.unwrap_or(0)),
                self.left_behind(),
            ),
            _ => format!(
                "copy: {} of {} keys of {} read for the first time",
                size::count(self.keys_read),
                size::count(self.keys),
                self.source
            ),
        }
    }
}

/// Returns the view. `follows`: the master has to follow, so that trouble is an alarm.
pub(super) fn judge(
    found: Result<Option<CopyStatus>>,
    follows: bool,
    now: Timestamp,
    findings: &mut Vec<Finding>,
) -> Option<CopyView> {
    let status = found.unwrap_or_else(|error| {
        findings.push(unseen("copy-unseen", "the master's copy", &error));
        None
    })?;
    // The report of before a promotion stays in its file.
    if !follows {
        return None;
    }
    let silent = now.as_second() - status.at;
    if silent > SILENT_S {
        findings.push(Finding::warning(
            "copy-silent",
            format!("the master's copy has been silent for {}", age_text(silent)),
            "see `infra ssh master -- sudo journalctl -u infra-copy`",
        ));
    }
    if let (Some(why), false) = (&status.trouble, status.connected) {
        findings.push(Finding::warning(
            "copy",
            format!("the copy is not connected: {why}"),
            "it tries again by itself; see `infra ssh master -- sudo journalctl -u infra-copy`",
        ));
    }
    let last = status.last_sweep.as_ref();
    if let Some(sweep) = last {
        if sweep.held > 0 {
            findings.push(Finding::warning(
                "copy-deletions",
                format!(
                    "the source lacks {} keys that the master has, more than a tenth: they were not deleted",
                    size::count(sweep.held)
                ),
                "see whether the source lost its data, since the master may be the last that has it; if the keys may go, \
                 `infra promote` and `infra switch-app` delete them with --accept-loss",
            ));
        }
        if let Some(first) = &sweep.first_refused {
            findings.push(Finding::warning(
                "copy-refused",
                format!(
                    "{} keys cannot be copied, the first is {first}",
                    size::count(sweep.refused)
                ),
                "the two engines may have different formats: see `redis.engine` in infra.yml",
            ));
        }
        if let Some(off) = sweep.clock_ms.filter(|off| off.unsigned_abs() > CLOCK_MS) {
            findings.push(Finding::warning(
                "copy-clock",
                format!("the clocks of source and master differ by {off} ms"),
                "keys would expire at other times: see whether the master's clock is set by NTP",
            ));
        }
    }
    let behind = last.map(|sweep| sweep.changed + sweep.deleted);
    let (sweep_ms, deletions_held) = (last.map(|sweep| sweep.ms), last.map_or(0, |sweep| sweep.held));
    let keys_per_s = last.map(|sweep| sweep.keys.saturating_mul(1000) / sweep.ms.max(1));
    let refused = last.map_or(0, |sweep| sweep.refused);
    let (left_out, by_type, in_parts) = last.map_or((0, 0, 0), |sweep| (sweep.left_out, sweep.by_type, sweep.in_parts));
    Some(CopyView {
        source: status.source,
        phase: status.phase,
        connected: status.connected,
        sweeps: status.sweeps,
        keys_read: status.keys_read,
        keys: status.keys,
        keys_behind: behind,
        seconds_behind: (status.last_sweep_at > 0).then(|| now.as_second() - status.last_sweep_at),
        sweep_ms,
        keys_per_s,
        deletions_held,
        refused,
        left_out,
        by_type,
        in_parts,
        why: status.trouble,
        watch: status.watch.map(|watch| Watching {
            kind: watch.kind,
            why: watch.why,
            whole: watch.whole,
            marked: watch.marked,
            breaks: watch.breaks,
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use infra_agent::record::{SweepReport, WatchReport};

    const NOW: i64 = 1_764_000_000;

    fn status(sweep: Option<SweepReport>) -> CopyStatus {
        CopyStatus {
            at: NOW,
            source: "redis.test:6380".into(),
            connected: true,
            sweeps: u64::from(sweep.is_some()),
            keys_read: 5,
            keys: 9,
            last_sweep_at: NOW - 4,
            last_sweep: sweep,
            ..CopyStatus::default()
        }
    }

    fn judged(status: CopyStatus, follows: bool) -> (Option<String>, Vec<&'static str>) {
        let mut findings = Vec::new();
        let now = Timestamp::from_second(NOW).unwrap();
        let view = judge(Ok(Some(status)), follows, now, &mut findings);
        let ids = findings.iter().map(|finding| finding.id).collect();
        (view.map(|view| view.line()), ids)
    }

    #[test]
    fn a_copy_says_how_far_it_is_and_what_it_found() {
        let (line, alarms) = judged(status(None), true);
        assert_eq!(
            line.unwrap(),
            "copy: 5 of 9 keys of redis.test:6380 read for the first time"
        );
        assert_eq!(alarms, [] as [&str; 0]);
        let sweep = SweepReport {
            changed: 3,
            deleted: 1,
            left_out: 7,
            ms: 2_000,
            ..SweepReport::default()
        };
        let (line, alarms) = judged(status(Some(sweep)), true);
        let line = line.unwrap();
        assert!(
            line.contains("ended 4.0 s ago") && line.ends_with("found 4 changed keys; 7 keys are left out"),
            "{line}"
        );
        assert_eq!(alarms, [] as [&str; 0]);
    }

    #[test]
    fn a_watched_copy_says_what_is_on_its_way() {
        let watched = CopyStatus {
            watch: Some(WatchReport {
                kind: WatchKind::Monitor,
                whole: true,
                marked: 12,
                breaks: 1,
                ..WatchReport::default()
            }),
            ..status(Some(SweepReport::default()))
        };
        let line = judged(watched, true).0.unwrap();
        assert!(
            line.contains("by MONITOR, 12 written keys") && line.contains("1 breaks"),
            "{line}"
        );
    }

    #[test]
    fn what_keeps_the_copy_from_being_whole_is_an_alarm() {
        let sweep = SweepReport {
            held: 500,
            refused: 1,
            first_refused: Some("database 0 key a: ERR Bad data format".into()),
            clock_ms: Some(-900),
            ..SweepReport::default()
        };
        let (_, alarms) = judged(status(Some(sweep.clone())), true);
        assert_eq!(alarms, ["copy-deletions", "copy-refused", "copy-clock"]);
        let broken = CopyStatus {
            connected: false,
            trouble: Some("connect to the source: refused".into()),
            at: NOW - 301,
            ..status(None)
        };
        assert_eq!(judged(broken, true).1, ["copy-silent", "copy"]);
        // After the promotion nobody waits for it.
        assert_eq!(judged(status(Some(sweep)), false), (None, Vec::new()));
    }
}
