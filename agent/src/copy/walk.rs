//! Walks through one database with requests under way all the time, so that a source far away is
//! read as fast as a near one.
//!
//! One round trip carries the values of some keys, the sizes of the next ones, and a step of the scan.
//! A large key, and all else that must not have anything under way, waits until the rounds have ended.

use super::left_out;
use super::reads::Weighed;
use super::work::{BATCH, JOURNALED, LARGE, LOOKED, Later, Sweep};
use crate::record::SweepReport;
use anyhow::Result;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Keys of one round, if an app waits and if not.
const QUICK: usize = 4096;
const GENTLE: usize = 512;
/// Rounds under way, if an app waits.
const ROUNDS: usize = 2;

/// How often marked keys are copied meanwhile.
const MARKED: Duration = Duration::from_millis(200);

/// How a walk ended.
pub enum Walked {
    Whole,
    Interrupted,
    /// The target does not know the source's format.
    OtherFormat,
}

/// The questions of one round trip.
struct Round {
    reads: Vec<Vec<u8>>,
    weighs: Vec<Vec<u8>>,
    scan: Option<u64>,
}

/// A step of the scan whose keys are not all copied.
struct Step {
    next: u64,
    left: usize,
}

enum Scan {
    At(u64),
    UnderWay,
    Ended,
}

struct Walk {
    count: usize,
    scan: Scan,
    unweighed: Vec<Vec<u8>>,
    /// Keys that can be read, in the order of the scan.
    waiting: VecDeque<Weighed>,
    rounds: VecDeque<Round>,
    steps: VecDeque<Step>,
    /// All keys before this place were read.
    cursor: u64,
}

impl Walk {
    fn from(cursor: u64, count: usize) -> Walk {
        Walk {
            count,
            scan: Scan::At(cursor),
            unweighed: Vec::new(),
            waiting: VecDeque::new(),
            rounds: VecDeque::new(),
            steps: VecDeque::new(),
            cursor,
        }
    }

    /// Returns what to ask for next; `None` if there is nothing, or a large key has to come first.
    fn compose(&mut self) -> Option<Round> {
        let (mut reads, mut bytes) = (Vec::new(), 0);
        while reads.len() < self.count
            && let Some(next) = self
                .waiting
                .pop_front_if(|next| next.size <= LARGE && (bytes == 0 || bytes + next.size <= BATCH))
        {
            bytes += next.size;
            reads.push(next.key);
        }
        let weighs = std::mem::take(&mut self.unweighed);
        let has_room = self.waiting.len() + weighs.len() <= self.count;
        let scan = match self.scan {
            Scan::At(cursor) if has_room => {
                self.scan = Scan::UnderWay;
                Some(cursor)
            }
            _ => None,
        };
        let is_empty = reads.is_empty() && weighs.is_empty() && scan.is_none();
        (!is_empty).then_some(Round { reads, weighs, scan })
    }

    fn scanned(&mut self, next: u64, keys: Vec<Vec<u8>>) {
        self.scan = if next == 0 { Scan::Ended } else { Scan::At(next) };
        self.steps.push_back(Step { next, left: keys.len() });
        self.unweighed.extend(keys);
        self.read(0);
    }

    /// Notes that so many keys more were read.
    fn read(&mut self, mut keys: usize) {
        while let Some(step) = self.steps.front_mut() {
            let now = keys.min(step.left);
            step.left -= now;
            keys -= now;
            if step.left > 0 {
                return;
            }
            self.cursor = step.next;
            self.steps.pop_front();
        }
    }

    fn next_large(&mut self) -> Option<Weighed> {
        self.waiting.pop_front_if(|next| next.size > LARGE)
    }
}

impl Sweep<'_> {
    /// Walks from the journal's place on. If the target does not know the source's format, nothing of it counts: the first key shows that.
    pub(super) fn walk(
        &mut self,
        database: u32,
        report: &mut SweepReport,
        interrupted: &mut dyn FnMut() -> bool,
    ) -> Result<Walked> {
        let (place, before) = (self.journal.cursor, report.clone());
        let walked = self.rounds(database, report, interrupted)?;
        if let Walked::OtherFormat = walked {
            let refused = self.target.flush()?;
            self.judge(refused, report);
            self.later = Later::default();
            self.journal.cursor = place;
            *report = before;
        }
        Ok(walked)
    }

    fn rounds(
        &mut self,
        database: u32,
        report: &mut SweepReport,
        interrupted: &mut dyn FnMut() -> bool,
    ) -> Result<Walked> {
        let (count, most) = if self.rate.is_none() {
            (QUICK, ROUNDS)
        } else {
            (GENTLE, 1)
        };
        let mut walk = Walk::from(self.journal.cursor, count);
        let (mut journaled, mut looked) = (Instant::now(), None::<Instant>);
        let mut marked = Instant::now();
        let mut stops = false;
        loop {
            let looks = looked.is_none_or(|looked| looked.elapsed() >= LOOKED);
            let journals = journaled.elapsed() >= JOURNALED;
            stops |= interrupted();
            let marks = marked.elapsed() >= MARKED && self.watch.is_some_and(|watch| watch.marked() > 0);
            let waits = stops || looks || journals || marks || !self.later.is_empty();
            while !waits
                && walk.rounds.len() < most
                && let Some(round) = walk.compose()
            {
                self.send(&round)?;
                walk.rounds.push_back(round);
            }
            if let Some(round) = walk.rounds.pop_front() {
                let bytes = self.receive(database, round, &mut walk, report)?;
                if walk.rounds.is_empty() {
                    self.source.rest(bytes)?;
                }
                continue;
            }
            if !self.source.dumps {
                return Ok(Walked::OtherFormat);
            }
            if looks {
                self.look()?;
                looked = Some(Instant::now());
            }
            if !self.later.is_empty() {
                self.do_later(database, report)?;
            }
            if journals || stops {
                // The target has everything before a place, once that place is noted.
                self.written(database, report)?;
                self.journal.cursor = walk.cursor;
                self.journal.save(self.home)?;
                journaled = Instant::now();
            }
            if marks {
                self.marked_between(database, report)?;
                marked = Instant::now();
            }
            if stops {
                return Ok(Walked::Interrupted);
            }
            if waits {
                continue;
            }
            match walk.next_large() {
                Some(large) => {
                    self.large(database, &large.key, report)?;
                    walk.read(1);
                }
                None => break,
            }
        }
        self.written(database, report)?;
        Ok(if self.source.dumps {
            Walked::Whole
        } else {
            Walked::OtherFormat
        })
    }

    fn send(&mut self, round: &Round) -> Result<()> {
        if !round.reads.is_empty() {
            self.source.ask_for(&round.reads);
        }
        self.source.ask_sizes(&round.weighs);
        if let Some(cursor) = round.scan {
            let count = if self.rate.is_none() { QUICK } else { GENTLE };
            self.source.ask_scan(cursor, count);
        }
        self.source.link.send()
    }

    /// Takes the answers of one round. Returns the bytes of its values.
    fn receive(&mut self, database: u32, round: Round, walk: &mut Walk, report: &mut SweepReport) -> Result<u64> {
        let mut bytes = 0;
        if !round.reads.is_empty() {
            bytes = self.take(database, &round.reads, report)?;
            walk.read(round.reads.len());
        }
        for weighed in self.source.take_sizes(round.weighs)? {
            report.largest = report.largest.max(weighed.size);
            walk.waiting.push_back(weighed);
        }
        if round.scan.is_some() {
            let (next, mut keys) = self.source.take_scan()?;
            report.left_out += left_out::remove(&mut keys, self.left_out);
            walk.scanned(next, keys);
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(count: usize) -> Vec<Vec<u8>> {
        (0..count).map(|at| at.to_string().into_bytes()).collect()
    }

    fn weighed(size: u64) -> Weighed {
        Weighed {
            key: b"a".to_vec(),
            size,
            kind: None,
        }
    }

    #[test]
    fn a_place_is_noted_once_all_keys_before_it_were_read() {
        let mut walk = Walk::from(7, 10);
        walk.scanned(20, keys(3));
        walk.scanned(30, keys(0));
        walk.scanned(40, keys(2));
        walk.read(2);
        assert_eq!(walk.cursor, 7);
        walk.read(1);
        assert_eq!(walk.cursor, 30);
        walk.read(2);
        assert_eq!(walk.cursor, 40);
    }

    #[test]
    fn a_round_has_so_many_bytes_and_ends_before_a_large_key() {
        let mut walk = Walk::from(0, 10);
        walk.waiting.extend([BATCH / 4, BATCH / 4, LARGE + 1, 5].map(weighed));
        let round = walk.compose().unwrap();
        assert_eq!((round.reads.len(), round.scan), (2, Some(0)));
        assert!(
            walk.compose().is_none(),
            "the scan is under way, and a large key comes next"
        );
        assert_eq!(walk.next_large().unwrap().size, LARGE + 1);
        assert_eq!(walk.compose().unwrap().reads.len(), 1);
    }
}
