//! The history of a watch: which one goes on, when the next look is due, and what all looks prove.

use crate::model::import::{History, Look, Watch};
use crate::model::size;
use jiff::Timestamp;
use serde::Serialize;
use std::time::Duration;

/// Watches that are kept; the oldest one goes first.
const KEPT: usize = 20;
/// More looks would make the stored history too large.
pub const MOST_LOOKS: u64 = 10_000;

/// The result of a watch; its fields are part of the JSON output and only ever grow.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Summary {
    pub begun_at: Timestamp,
    pub finished: bool,
    /// Comparisons that were made.
    pub looks: u64,
    pub identical: u64,
    pub differing: u64,
    /// Comparisons that could not be made.
    pub failed: u64,
    /// From the first comparison to the last one.
    pub seconds: u64,
    /// The longest time between two comparisons.
    pub longest_pause_seconds: u64,
    pub last: Option<Look>,
}

impl Summary {
    pub fn of(watch: &Watch) -> Summary {
        let made: Vec<&Look> = watch.looks.iter().filter(|look| look.failure.is_none()).collect();
        let identical = made.iter().filter(|look| look.is_identical()).count() as u64;
        let pauses = made.windows(2).map(|pair| match pair {
            [earlier, later] => between(earlier.at, later.at).as_secs(),
            _ => 0,
        });
        let span = match (made.first(), made.last()) {
            (Some(first), Some(last)) => between(first.at, last.at),
            _ => Duration::ZERO,
        };
        Summary {
            begun_at: watch.begun_at,
            finished: watch.finished,
            looks: made.len() as u64,
            identical,
            differing: made.len() as u64 - identical,
            failed: (watch.looks.len() - made.len()) as u64,
            seconds: span.as_secs(),
            longest_pause_seconds: pauses.max().unwrap_or(0),
            last: watch.looks.last().cloned(),
        }
    }

    /// Returns true if there was a comparison, and none found a difference.
    pub fn is_identical(&self) -> bool {
        self.looks > 0 && self.differing == 0
    }

    /// Returns the result in one sentence, such as `identical in 97 of 97 looks over 48 h`.
    pub fn sentence(&self) -> String {
        let over = span(Duration::from_secs(self.seconds));
        let plural = if self.looks == 1 { "" } else { "s" };
        let mut text = format!(
            "identical in {} of {} look{plural} over {over}",
            self.identical, self.looks
        );
        if self.failed > 0 {
            text += &format!("; {} could not be made", self.failed);
        }
        text
    }

    /// Returns the figures of the last look and of the longest pause.
    pub fn evidence(&self) -> String {
        let Some(last) = &self.last else {
            return "no look yet".into();
        };
        let pause = span(Duration::from_secs(self.longest_pause_seconds));
        let last_look = match &last.failure {
            Some(failure) => format!("the last look failed: {failure}"),
            None => format!(
                "the last look compared {} rows and {} keys, and {} differed",
                size::count(last.rows),
                size::count(last.keys),
                size::count(last.differing)
            ),
        };
        format!("{last_look}; the longest time between two looks was {pause}")
    }
}

/// Returns when the watch began that is gone on with: the last one of the same two sides. That is now if there is none,
/// if it is over, or on request.
pub fn begin(history: &History, of: &str, now: Timestamp, restart: bool) -> Timestamp {
    let known = history.watches.iter().rev().find(|watch| watch.of == of);
    let open = known.filter(|watch| !restart && !watch.finished);
    open.map_or(now, |watch| watch.begun_at)
}

/// Returns the watch of these two sides that began then; it is made if it is not there.
pub fn watch<'a>(history: &'a mut History, of: &str, begun_at: Timestamp) -> &'a mut Watch {
    let is_it = |watch: &Watch| watch.of == of && watch.begun_at == begun_at;
    let at = history.watches.iter().position(is_it).unwrap_or_else(|| {
        if history.watches.len() >= KEPT {
            history.watches.remove(0);
        }
        history.watches.push(Watch {
            begun_at,
            of: of.to_owned(),
            finished: false,
            looks: Vec::new(),
        });
        history.watches.len() - 1
    });
    &mut history.watches[at]
}

/// Returns when the next look is due, the last one at the end of the watch; `None` if that has been.
pub fn next_look(watch: &Watch, lasts: Duration, every: Duration) -> Option<Timestamp> {
    let (Some(first), Some(last)) = (watch.looks.first(), watch.looks.last()) else {
        return Some(watch.begun_at);
    };
    let end = after(first.at, lasts);
    (last.at < end).then(|| after(last.at, every).min(end))
}

/// Returns both histories as one: each watch with the looks that either of them has.
pub fn merged(one: &History, other: &History) -> History {
    let mut all = one.clone();
    for watch in &other.watches {
        let same = all
            .watches
            .iter_mut()
            .find(|known| known.begun_at == watch.begun_at && known.of == watch.of);
        let Some(known) = same else {
            all.watches.push(watch.clone());
            continue;
        };
        known.finished |= watch.finished;
        let missing = watch
            .looks
            .iter()
            .filter(|look| known.looks.iter().all(|there| there.at != look.at));
        let missing: Vec<Look> = missing.cloned().collect();
        known.looks.extend(missing);
        known.looks.sort_by_key(|look| look.at);
    }
    all.watches.sort_by_key(|watch| watch.begun_at);
    all
}

fn between(earlier: Timestamp, later: Timestamp) -> Duration {
    Duration::try_from(later.duration_since(earlier)).unwrap_or_default()
}

fn after(time: Timestamp, span: Duration) -> Timestamp {
    time.checked_add(span).unwrap_or(Timestamp::MAX)
}

/// Returns a span without a part that is zero: `48 h`, `30 min`.
pub fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    match (seconds / 3600, seconds % 3600 / 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, 0) => format!("{minutes} min"),
        (hours, 0, _) if hours > 0 => format!("{hours} h"),
        _ => size::duration(span),
    }
}

#[cfg(test)]
mod tests;
