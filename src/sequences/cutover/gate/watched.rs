//! The part of the gate for a copy that is watched by MONITOR. Everything is compared before the
//! fence, while the copy notes down which keys are written. Inside it only those are compared again,
//! and the watch tells that nothing was written since.

use super::super::history::Monitored;
use super::super::pair::Pair;
use super::super::watch::Late;
use super::baseline::only_hot;
use crate::effects::host::copy::Asked;
use crate::effects::redis::compare::Comparison;
use crate::effects::redis::key::{Key, printable};
use crate::effects::redis::tap::DirtyKeys;
use crate::model::error::{Error, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use infra_agent::copy::Wish;
use infra_agent::record::{RecordedKey, SweepReport, WatchKind, WatchReport};
use std::time::Duration;

/// How long the copy may take for marked keys, or for a barrier.
const SHORT: Duration = Duration::from_secs(60);

/// How long the copy may take for a barrier while the app waits for an answer that may be missing.
const GLANCE: Duration = Duration::from_secs(5);

/// The watch that stood before the comparison. Any other one knows nothing of what was written since.
pub struct Watched {
    id: String,
    /// Keys written since the comparison began, and how many requests wrote up to the fence.
    fenced: Option<(Vec<Key>, u64)>,
}

/// The reason why a watch does not show that nothing was written.
#[derive(Debug)]
pub enum Doubt {
    /// It did not stand all the time. What was written is not known, and may be nothing.
    Broken(Error),
    Written(Error),
}

/// Begins to note down which keys are written. Returns `None` if the copy has no whole watch.
pub async fn begin<P: Pair>(pair: &mut P) -> Result<Option<(Watched, SweepReport)>> {
    let Some(seen) = look(pair, false, SHORT).await?.filter(|seen| seen.whole) else {
        return Ok(None);
    };
    let Some(report) = marked(pair, Duration::ZERO, true).await.ok().filter(|report| {
        let watch = report.watch.as_ref();
        watch.is_some_and(|watch| watch.whole && watch.id == seen.id)
    }) else {
        return Ok(None);
    };
    let watched = Watched {
        id: seen.id,
        fenced: None,
    };
    Ok(Some((watched, report)))
}

/// Returns what the copy's watch knows now; `None` if there is none. `record`: it notes down from here
/// on which keys are written.
async fn look<P: Pair>(pair: &mut P, record: bool, within: Duration) -> Result<Option<WatchReport>> {
    let watch = report(pair, record, within).await?;
    Ok(watch.filter(|watch| watch.kind == WatchKind::Monitor))
}

/// As [`look`]. Without a watch the report says why there is none.
async fn report<P: Pair>(pair: &mut P, record: bool, within: Duration) -> Result<Option<WatchReport>> {
    let asked = Asked {
        wish: Wish::Look,
        record,
        ..Asked::within(within)
    };
    Ok(pair.sweep(asked).await?.watch)
}

async fn marked<P: Pair>(pair: &mut P, hold: Duration, record: bool) -> Result<SweepReport> {
    let asked = Asked {
        wish: Wish::Marked,
        record,
        hold,
        ..Asked::within(SHORT)
    };
    pair.sweep(asked).await
}

impl Watched {
    /// Returns true if all that differs was written since the comparison began.
    pub async fn explains<P: Pair>(&self, comparison: &Comparison, pair: &mut P) -> Result<bool> {
        let Some(seen) = look(pair, false, SHORT).await? else {
            return Ok(false);
        };
        let dirty = DirtyKeys {
            keys: self.keys(&seen)?,
            ..DirtyKeys::default()
        };
        Ok(only_hot(comparison, &dirty, &[]))
    }

    /// Has the copy write what is marked after a barrier inside the fence.
    pub async fn drain<P: Pair>(&mut self, pair: &mut P, hold: Duration) -> Result<SweepReport> {
        let report = marked(pair, hold, false).await?;
        let seen = report.watch.as_ref().ok_or_else(|| broken("the copy has no watch"))?;
        let keys = self.keys(seen)?;
        if seen.marked > 0 {
            return Err(unproven(&format!(
                "{} keys are written faster than they are copied, so the fence does not hold",
                seen.marked
            )));
        }
        self.fenced = Some((keys, seen.writes));
        Ok(report)
    }

    /// Returns the keys written since the comparison began, up to the fence.
    pub fn written(&self) -> &[Key] {
        self.fenced.as_ref().map_or(&[], |(keys, _)| keys)
    }

    /// Fails unless the watch stood all the time and saw no write since the fence. Returns its report.
    /// Keys that are written from here on are noted down: see [`since`].
    pub async fn still<P: Pair>(&self, pair: &mut P) -> std::result::Result<WatchReport, Doubt> {
        let seen = self.last_look(pair).await.map_err(Doubt::Broken)?;
        let before = self.fenced.as_ref().map(|(_, writes)| *writes);
        // A write is known as one even if its keys are not.
        if seen.id == self.id && before != Some(seen.writes) {
            return Err(Doubt::Written(unproven("the source was written to since the fence")));
        }
        self.keys(&seen).map_err(Doubt::Broken)?;
        Ok(seen)
    }

    async fn last_look<P: Pair>(&self, pair: &mut P) -> Result<WatchReport> {
        let seen = report(pair, true, SHORT)
            .await?
            .ok_or_else(|| broken("the copy has no watch any more"))?;
        if seen.kind != WatchKind::Monitor {
            return Err(broken(seen.why.as_deref().unwrap_or("MONITOR was closed")));
        }
        Ok(seen)
    }

    /// Returns the keys that were noted down.
    fn keys(&self, seen: &WatchReport) -> Result<Vec<Key>> {
        if seen.id != self.id || !seen.whole {
            return Err(broken("MONITOR was interrupted, and another watch began"));
        }
        let Some(recorded) = &seen.recorded else {
            return Err(broken(
                "too many keys were written since the comparison, or by a command that does not say which",
            ));
        };
        named(recorded).ok_or_else(|| broken("the copy names a key that is none"))
    }
}

fn named(recorded: &[RecordedKey]) -> Option<Vec<Key>> {
    let keys = recorded.iter().map(|key| {
        Some(Key {
            database: key.database,
            name: STANDARD.decode(&key.name).ok()?,
        })
    });
    keys.collect()
}

/// Returns the requests that wrote to the source since the proof, and their keys. `None` if there was
/// no watch at the proof, or another one stands by now.
pub async fn since<P: Pair>(pair: &mut P, monitored: Option<&Monitored>, leave_out: &[String]) -> Option<Late> {
    let monitored = monitored?;
    // A copy that is gone has no watch either.
    let seen = look(pair, false, GLANCE).await.ok()??;
    late(&seen, monitored, leave_out)
}

/// As [`since`], by a report of the watch. Pure.
fn late(seen: &WatchReport, monitored: &Monitored, leave_out: &[String]) -> Option<Late> {
    let writes = seen.writes.checked_sub(monitored.writes)?;
    if seen.id != monitored.id {
        return None;
    }
    let Some(keys) = seen.recorded.as_deref().and_then(named) else {
        let unknown = "which keys is not known: they are too many, or a command did not say them";
        let lines = if writes == 0 { Vec::new() } else { vec![unknown.into()] };
        return Some(Late { writes, lines });
    };
    let stays = |key: &Key| leave_out.iter().any(|prefix| key.name.starts_with(prefix.as_bytes()));
    let lines: Vec<String> = keys
        .iter()
        .filter(|key| !stays(key))
        .map(|key| format!("{} in database {}", printable(&key.name), key.database))
        .collect();
    // Keys that stay on the source are written there as before.
    let writes = if lines.is_empty() && !keys.is_empty() {
        0
    } else {
        writes
    };
    Some(Late { writes, lines })
}

fn broken(why: &str) -> Error {
    unproven(&format!("the watch of the source's writes is broken: {why}"))
}

fn unproven(why: &str) -> Error {
    Error::unproven(format!("prove that the source is fenced: {why}"))
        .hint("the source takes writes again; `infra status` says how the copy goes, then run the same command again")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_watch_of_the_comparison_knows_what_was_written_since() {
        let watched = Watched {
            id: "a".into(),
            fenced: None,
        };
        let recorded = |name: &str| {
            Some(vec![RecordedKey {
                database: 3,
                name: name.into(),
            }])
        };
        let seen = WatchReport {
            id: "a".into(),
            whole: true,
            recorded: recorded("AP8="),
            ..WatchReport::default()
        };
        let key = Key {
            database: 3,
            name: vec![0, 255],
        };
        assert_eq!(watched.keys(&seen).unwrap(), [key]);
        for wrong in [
            WatchReport {
                id: "b".into(),
                ..seen.clone()
            },
            WatchReport {
                whole: false,
                ..seen.clone()
            },
            WatchReport {
                recorded: None,
                ..seen.clone()
            },
            WatchReport {
                recorded: recorded("?"),
                ..seen.clone()
            },
        ] {
            assert!(watched.keys(&wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn late_writes_are_told_by_the_watch_of_the_proof_alone() {
        let monitored = Monitored {
            id: "a".into(),
            writes: 5,
        };
        let seen = WatchReport {
            id: "a".into(),
            writes: 7,
            recorded: Some(vec![RecordedKey {
                database: 3,
                name: "bGF0ZQ==".into(),
            }]),
            ..WatchReport::default()
        };
        let found = late(&seen, &monitored, &[]).unwrap();
        assert_eq!((found.writes, found.lines), (2, vec!["late in database 3".to_string()]));
        assert_eq!(late(&seen, &monitored, &["la".into()]).unwrap().writes, 0);
        let unnamed = WatchReport {
            recorded: None,
            ..seen.clone()
        };
        assert!(late(&unnamed, &monitored, &[]).unwrap().lines[0].contains("not known"));
        let none = WatchReport {
            writes: 5,
            ..seen.clone()
        };
        assert_eq!(late(&none, &monitored, &[]).unwrap().writes, 0);
        for (id, writes) in [("b", 7), ("a", 4)] {
            let other = WatchReport {
                id: id.into(),
                writes,
                ..seen.clone()
            };
            assert!(late(&other, &monitored, &[]).is_none(), "{id} {writes}");
        }
    }
}
