//! The bucket's content as one value: bases, timelines and segments, and covered seconds. Pure.

use infra_agent::name::Segment;
use infra_agent::record::{Commit, Position, Timeline};
use jiff::Timestamp;
use serde::Serialize;
use std::collections::BTreeMap;

/// Settings of redis.conf that a pair takes over from its source.
const FROM_SOURCE: [&str; 3] = ["databases", "maxmemory-policy", "notify-keyspace-events"];

#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    /// Complete bases, oldest first.
    pub bases: Vec<Commit>,
    pub timelines: BTreeMap<String, Log>,
    /// Findings from the names of objects alone.
    pub findings: Vec<Finding>,
}

#[derive(Clone, Debug, Default)]
pub struct Log {
    /// `None` if the record is missing.
    pub record: Option<Timeline>,
    /// Segments by their number.
    pub pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    pub segment: Segment,
    /// Size of the object.
    pub bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    pub kind: Wrong,
    pub what: String,
}

/// Kinds of findings. Each has an exit code of `backup verify`; the first kind decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Wrong {
    /// An object differs from its record.
    Checksum,
    /// Part of the log, or of a base, is missing.
    Gap,
    /// The engine does not load it.
    Load,
    /// The newest backup is too old.
    Stale,
    /// The bucket could not be read.
    Unreachable,
}

/// A base with the log that follows it, up to the first gap.
#[derive(Clone, Debug)]
pub struct Line<'a> {
    pub base: &'a Commit,
    pub steps: Vec<Step<'a>>,
    /// Seconds since 1970, both included. If `until` is before `from`, only the base is covered.
    pub from: i64,
    pub until: i64,
}

/// A segment of the log on a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step<'a> {
    pub timeline: &'a str,
    pub piece: &'a Piece,
    /// The end of its useful part, in bytes of its increment.
    pub up_to: u64,
}

/// Seconds that can be restored, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Range {
    pub from: Timestamp,
    pub until: Timestamp,
}

/// A choice of the data to restore.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    At(Timestamp),
    /// Everything up to the end of the log.
    Latest,
    /// A base alone, by its id.
    Base(String),
}

/// The base and log for a wish.
#[derive(Clone, Debug)]
pub struct Choice<'a> {
    pub base: &'a Commit,
    pub steps: Vec<Step<'a>>,
    /// The last second to restore; `None`: up to the end.
    pub until: Option<i64>,
}

impl Choice<'_> {
    /// Returns the bytes of log that follow the base.
    pub fn log_bytes(&self) -> u64 {
        let steps = self.steps.iter();
        steps.map(|step| step.up_to - step.piece.segment.from).sum()
    }
}

/// The reason why nothing serves a wish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Uncovered {
    NoBackup,
    NoSuchBase,
    /// The nearest seconds that are covered.
    Between {
        before: Option<Timestamp>,
        after: Option<Timestamp>,
    },
}

impl Catalogue {
    /// Returns the catalogue as it was before an empty master made its first base.
    pub fn without_empty_bases(mut self) -> Self {
        self.bases.retain(|base| base.keys > 0);
        self
    }

    /// Returns true if the app might log in when the newest base was made, and the pair followed nobody when its log
    /// ended: then the app had left its source.
    pub fn served_an_app(&self) -> bool {
        let let_in = |base: &Commit| base.users_acl.lines().any(|line| line.starts_with("user app on "));
        // A later base without its log, or a log without its record, says nothing against it.
        let newest = self.timelines.values().next_back().and_then(|log| log.record.as_ref());
        self.newest().is_some_and(let_in) && newest.is_none_or(|timeline| timeline.role == "master")
    }

    /// Returns the settings in the newest base's redis.conf that a pair takes over from its source.
    pub fn source_settings(&self) -> BTreeMap<String, String> {
        let lines = self.newest().into_iter().flat_map(|base| base.redis_conf.lines());
        let named = lines.filter_map(|line| line.split_once(' '));
        named
            .filter(|(name, _)| FROM_SOURCE.contains(name))
            .map(|(name, value)| (name.to_string(), value.trim().trim_matches('"').to_string()))
            .collect()
    }

    fn newest(&self) -> Option<&Commit> {
        self.bases.iter().max_by_key(|base| &base.generation)
    }

    /// Returns the log after a base. A later timeline replaces the end of its parent.
    pub fn line<'a>(&'a self, base: &'a Commit) -> Line<'a> {
        let mut steps: Vec<Step<'a>> = Vec::new();
        let mut at = base.start;
        let mut timeline = base.timeline.as_str();
        let mut until = 0;
        loop {
            let (child, turn) = match self.child(timeline, at) {
                Some((child, up_to)) => (Some(child), Some(up_to)),
                None => (None, None),
            };
            for piece in self.timelines.get(timeline).into_iter().flat_map(|log| &log.pieces) {
                let segment = &piece.segment;
                let begin = Position {
                    increment: segment.increment,
                    offset: segment.from,
                };
                if begin < at
                    || turn.is_some_and(|turn| begin >= turn && !(begin == turn && segment.from == segment.to))
                {
                    continue;
                }
                // Only the segments' numbers show where an increment ends.
                let next = steps.last().is_some_and(|step: &Step<'_>| {
                    step.timeline == timeline && step.piece.segment.number + 1 == segment.number
                });
                let follows = begin == at || (next && begin.increment == at.increment + 1 && begin.offset == 0);
                if !follows {
                    return Line::new(base, steps, until);
                }
                let up_to = match turn {
                    Some(turn) if turn.increment == segment.increment => segment.to.min(turn.offset),
                    _ => segment.to,
                };
                at = Position {
                    increment: segment.increment,
                    offset: up_to,
                };
                until = until.max(if up_to == segment.to {
                    segment.until
                } else {
                    segment.first - 1
                });
                steps.push(Step { timeline, piece, up_to });
            }
            match (child, turn) {
                (Some(child), Some(turn)) if at == turn => timeline = child,
                _ => return Line::new(base, steps, until),
            }
        }
    }

    /// Returns the newest timeline that continues this one at or after a place.
    fn child(&self, parent: &str, from: Position) -> Option<(&str, Position)> {
        self.timelines.iter().rev().find_map(|(id, log)| {
            let link = log.record.as_ref()?.parent.as_ref()?;
            (link.timeline == parent && link.up_to >= from && id.as_str() > parent).then_some((id.as_str(), link.up_to))
        })
    }

    pub fn lines(&self) -> Vec<Line<'_>> {
        self.bases.iter().map(|base| self.line(base)).collect()
    }

    /// Returns the seconds that can be restored, without overlap, oldest first.
    pub fn covered(&self) -> Vec<Range> {
        let mut spans: Vec<(i64, i64)> = self
            .lines()
            .iter()
            .filter(|line| line.until >= line.from)
            .map(|line| (line.from, line.until))
            .collect();
        spans.sort_unstable();
        let mut joined: Vec<(i64, i64)> = Vec::new();
        for (from, until) in spans {
            match joined.last_mut() {
                Some((_, end)) if from <= *end + 1 => *end = until.max(*end),
                _ => joined.push((from, until)),
            }
        }
        joined
            .into_iter()
            .filter_map(|(from, until)| {
                Some(Range {
                    from: Timestamp::from_second(from).ok()?,
                    until: Timestamp::from_second(until).ok()?,
                })
            })
            .collect()
    }

    pub fn choose(&self, wish: &Wish) -> Result<Choice<'_>, Uncovered> {
        if self.bases.is_empty() {
            return Err(Uncovered::NoBackup);
        }
        match wish {
            Wish::Base(generation) => {
                let named = |base: &&Commit| base.generation == *generation || base.place == *generation;
                let base = self.bases.iter().rev().find(named).ok_or(Uncovered::NoSuchBase)?;
                Ok(Choice {
                    base,
                    steps: Vec::new(),
                    until: None,
                })
            }
            Wish::Latest => {
                let newest = self.lines().into_iter().max_by_key(|line| (line.end(), line.from));
                let line = newest.ok_or(Uncovered::NoBackup)?;
                Ok(Choice {
                    base: line.base,
                    steps: line.steps,
                    until: None,
                })
            }
            Wish::At(moment) => {
                let second = moment.as_second();
                let lines = self.lines();
                let serving = lines
                    .iter()
                    .filter(|line| line.from <= second && second <= line.until)
                    .max_by_key(|line| line.from);
                let Some(line) = serving else {
                    let timestamp = |second: i64| Timestamp::from_second(second).ok();
                    let covered = self.covered();
                    let before = covered.iter().map(|range| range.until).rfind(|until| until < moment);
                    let after = covered.iter().map(|range| range.from).find(|from| from > moment);
                    return Err(Uncovered::Between {
                        before: before.and_then(|at| timestamp(at.as_second())),
                        after,
                    });
                };
                // A segment that begins in a later second has nothing for this one.
                let steps = line.steps.iter().take_while(|step| step.piece.segment.first <= second);
                Ok(Choice {
                    base: line.base,
                    steps: steps.cloned().collect(),
                    until: Some(second),
                })
            }
        }
    }

    /// Returns missing segments and records. Those from before `kept_since` (seconds since 1970)
    /// may have expired: a log loses its beginning first.
    pub fn holes(&self, kept_since: i64) -> Vec<Finding> {
        let mut found = Vec::new();
        for (id, log) in &self.timelines {
            let may_have_expired = began(id).is_some_and(|began| began < kept_since);
            if log.record.is_none() && !may_have_expired {
                found.push(Finding {
                    kind: Wrong::Gap,
                    what: format!("the record of the timeline {id} is missing"),
                });
            }
            for pair in log.pieces.windows(2) {
                let (before, after) = (&pair[0].segment, &pair[1].segment);
                let follows = if before.increment == after.increment {
                    after.from == before.to
                } else {
                    after.increment == before.increment + 1 && after.from == 0
                };
                if after.number != before.number + 1 || !follows {
                    found.push(Finding {
                        kind: Wrong::Gap,
                        what: format!(
                            "{} of the log are missing in {id}, after {}",
                            count(after.number.saturating_sub(before.number + 1)),
                            moment(before.until)
                        ),
                    });
                }
            }
            if let Some(first) = log.pieces.first().map(|piece| &piece.segment)
                && first.number != 1
                && !(may_have_expired && first.first <= kept_since)
            {
                found.push(Finding {
                    kind: Wrong::Gap,
                    what: format!(
                        "the first {} of the log of {id} are missing, before {}",
                        count(first.number - 1),
                        moment(first.first)
                    ),
                });
            }
        }
        found
    }

    /// Returns the gaps that the agent declared, oldest first.
    pub fn declared_gaps(&self) -> Vec<&Timeline> {
        let records = self.timelines.values().filter_map(|log| log.record.as_ref());
        records.filter(|record| record.gap.is_some()).collect()
    }
}

/// Returns the second in which a timeline began, from its name.
fn began(id: &str) -> Option<i64> {
    let time = id.split('-').next()?;
    let civil = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%S%.fZ", time).ok()?;
    Some(civil.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_second())
}

fn count(pieces: u64) -> String {
    match pieces {
        1 => "1 segment".into(),
        pieces => format!("{pieces} segments"),
    }
}

pub fn moment(second: i64) -> String {
    Timestamp::from_second(second).map_or_else(|_| second.to_string(), |at| at.to_string())
}

impl<'a> Line<'a> {
    fn new(base: &'a Commit, steps: Vec<Step<'a>>, until: i64) -> Self {
        Line {
            base,
            steps,
            from: base.covers_from,
            until,
        }
    }

    /// Returns the last second with data.
    fn end(&self) -> i64 {
        let last = self.steps.last().map_or(0, |step| step.piece.segment.last);
        self.until.max(last).max(self.base.covers_from)
    }
}

#[cfg(test)]
mod tests;
