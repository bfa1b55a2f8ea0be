//! Walks through one database with requests under way all the time, so that a source far away is
//! read as fast as a near one.
//!
//! One round trip carries a step of the scan, the sizes of the keys of the step before, and the values of
//! those before them. The step and the sizes are answered first, so that the next round is on its way
//! while the values of this one are read.
//!
//! A large key, and all else that must not have anything under way, waits until the rounds have ended.

use super::left_out;
use super::reads::{Scanned, Weighed};
use super::source::Source;
use super::strings::{Guess, Kinds, SHORT};
use super::work::{BATCH, JOURNALED, LARGE, LOOKED, Later, Sweep};
use crate::record::SweepReport;
use anyhow::Result;
use std::collections::{HashSet, VecDeque};
use std::time::{Duration, Instant};

/// Keys of one round, if an app waits and if not.
const QUICK: usize = 4096;
const GENTLE: usize = 512;
/// Keys of a round from a source that is far away, at most.
const FAR: usize = 16_384;
/// Keys that a source gives in a second. A round has as many as come during one round trip.
const KEYS_PER_S: f64 = 100_000.0;
/// Rounds under way, if an app waits.
const ROUNDS: usize = 3;

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
#[derive(Default)]
struct Round {
    /// Short strings.
    strings: Batch,
    /// Keys of other types, of unknown ones, and longer strings.
    reads: Batch,
    weighs: Vec<Scanned>,
    scan: Option<u64>,
    /// Keys that the step of the scan looks at.
    count: usize,
    kinds: Kinds,
    /// False if no key of the database had an end when the round was composed. This is asked again after the values.
    ends: bool,
}

/// Keys with the steps of the scan that gave them.
#[derive(Default)]
struct Batch {
    keys: Vec<Vec<u8>>,
    steps: Vec<u64>,
}

impl Batch {
    fn push(&mut self, next: Weighed) {
        self.keys.push(next.key);
        self.steps.push(next.step);
    }

    fn len(&self) -> usize {
        self.keys.len()
    }

    fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
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
    guess: Guess,
    ends: bool,
    /// True if marks were taken since it was asked whether keys have ends.
    asks_anew: bool,
    scan: Scan,
    unweighed: Vec<Scanned>,
    /// Keys that can be read.
    waiting: VecDeque<Weighed>,
    rounds: VecDeque<Round>,
    steps: VecDeque<Step>,
    /// The number of the first of them.
    first_step: u64,
    /// All keys before this place were read.
    cursor: u64,
}

impl Walk {
    fn from(cursor: u64, count: usize) -> Walk {
        Walk {
            count,
            guess: Guess::new(true),
            ends: true,
            asks_anew: false,
            scan: Scan::At(cursor),
            unweighed: Vec::new(),
            waiting: VecDeque::new(),
            rounds: VecDeque::new(),
            steps: VecDeque::new(),
            first_step: 0,
            cursor,
        }
    }

    /// Returns what to ask for next; `None` if there is nothing, or a large key has to come first.
    fn compose(&mut self, says_strings: bool) -> Option<Round> {
        let (mut strings, mut reads, mut bytes) = (Batch::default(), Batch::default(), 0);
        while strings.len() + reads.len() < self.count
            && let Some(next) = self
                .waiting
                .pop_front_if(|next| next.size <= LARGE && (bytes == 0 || bytes + next.size <= BATCH))
        {
            bytes += next.size;
            let batch = if next.is_string && next.size <= SHORT {
                &mut strings
            } else {
                &mut reads
            };
            batch.push(next);
        }
        let weighs = std::mem::take(&mut self.unweighed);
        let has_room = self.waiting.len() + weighs.len() <= self.count;
        let (scan, kinds) = match self.scan {
            Scan::At(cursor) if has_room => {
                self.scan = Scan::UnderWay;
                let kinds = if says_strings { self.guess.next() } else { Kinds::Others };
                (Some(cursor), kinds)
            }
            _ => (None, Kinds::default()),
        };
        let is_empty = strings.is_empty() && reads.is_empty() && weighs.is_empty() && scan.is_none();
        let count = self.count;
        (!is_empty).then_some(Round {
            strings,
            reads,
            weighs,
            scan,
            count,
            kinds,
            ends: self.ends,
        })
    }

    /// Returns the number that the next step of the scan gets.
    fn next_step(&self) -> u64 {
        self.first_step + self.steps.len() as u64
    }

    /// Notes a step of the scan, and its keys, which have its number.
    fn scanned(&mut self, next: u64, keys: Vec<Scanned>) {
        self.scan = if next == 0 { Scan::Ended } else { Scan::At(next) };
        self.steps.push_back(Step { next, left: keys.len() });
        self.unweighed.extend(keys);
        self.pass();
    }

    /// Notes that one key more of each of these steps was read.
    fn read(&mut self, steps: impl IntoIterator<Item = u64>) {
        for step in steps {
            let place = step
                .checked_sub(self.first_step)
                .and_then(|place| usize::try_from(place).ok());
            if let Some(step) = place.and_then(|place| self.steps.get_mut(place)) {
                step.left = step.left.saturating_sub(1);
            }
        }
        self.pass();
    }

    /// Passes the steps of which every key was read.
    fn pass(&mut self) {
        while let Some(step) = self.steps.pop_front_if(|step| step.left == 0) {
            self.cursor = step.next;
            self.first_step += 1;
        }
    }

    fn next_large(&mut self) -> Option<Weighed> {
        self.waiting.pop_front_if(|next| next.size > LARGE)
    }
}

impl Sweep<'_> {
    /// Walks from the journal's place on. If the target does not know the source's format, nothing of it counts. The first key that comes by DUMP shows that.
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
            (quick(self.source.latency()?), ROUNDS)
        } else {
            (GENTLE, 1)
        };
        let mut walk = Walk::from(self.journal.cursor, count);
        // A wrong guess reads a key twice.
        walk.guess = Guess::new(self.source.usage.is_none() || self.source.reads_unseen);
        // A server whose counts were found right is believed that no key ends.
        walk.ends = self.token.is_none() || !self.no_key_ends()?;
        let (mut journaled, mut looked) = (Instant::now(), None::<Instant>);
        let mut marked = Instant::now();
        let mut stops = false;
        loop {
            let looks = looked.is_none_or(|looked| looked.elapsed() >= LOOKED);
            let journals = journaled.elapsed() >= JOURNALED;
            stops |= interrupted();
            let marks = marked.elapsed() >= MARKED && self.watch.is_some_and(|watch| watch.marked() > 0);
            let waits = stops || looks || journals || marks || !self.later.is_empty();
            if walk.asks_anew && walk.rounds.is_empty() {
                // An end that a key got before its mark was taken is one of the database by now, or is over. One
                // that it gets later marks it again.
                walk.ends |= !self.no_key_ends()?;
                walk.asks_anew = false;
            }
            while !waits
                && walk.rounds.len() < most
                && let Some(round) = walk.compose(self.source.says_strings)
            {
                self.send(&round)?;
                walk.rounds.push_back(round);
            }
            if let Some(mut round) = walk.rounds.pop_front() {
                self.receive_names(&mut round, &mut walk, report)?;
                if !waits
                    && walk.rounds.len() + 1 < most
                    && let Some(next) = walk.compose(self.source.says_strings)
                {
                    self.send(&next)?;
                    walk.rounds.push_back(next);
                }
                let bytes = self.receive_values(database, &round, &mut walk, report)?;
                if walk.rounds.is_empty() {
                    self.source.rest(bytes)?;
                }
                continue;
            }
            walk.asks_anew = !walk.ends;
            if !self.source.dumps {
                return Ok(Walked::OtherFormat);
            }
            if looks {
                self.look(report)?;
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
                    walk.read([large.step]);
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
        if let Some(cursor) = round.scan {
            self.source.ask_scan(cursor, round.count);
            if round.kinds == Kinds::Shown {
                self.source.ask_scan_of_strings(cursor, round.count);
            }
        }
        self.source.ask_sizes(&round.weighs);
        if !round.strings.is_empty() {
            self.source.ask_for_strings(&round.strings.keys, round.ends);
        }
        if !round.reads.is_empty() {
            self.source.ask_for(&round.reads.keys, round.ends);
        }
        if !round.ends {
            self.source.ask_whether_keys_end();
        }
        self.source.link.send()
    }

    /// Takes the step of the scan and the sizes of one round.
    fn receive_names(&mut self, round: &mut Round, walk: &mut Walk, report: &mut SweepReport) -> Result<()> {
        let scanned = match round.scan {
            Some(_) => Some(self.source.take_scan()?),
            None => None,
        };
        let strings: HashSet<Vec<u8>> = match &scanned {
            Some(_) if round.kinds == Kinds::Shown => self.source.take_strings_of_scan()?.into_iter().collect(),
            _ => HashSet::new(),
        };
        for weighed in self.source.take_sizes(std::mem::take(&mut round.weighs))? {
            report.largest = report.largest.max(weighed.size);
            walk.waiting.push_back(weighed);
        }
        if let Some((next, mut keys)) = scanned {
            report.left_out += left_out::remove(&mut keys, self.left_out);
            let step = walk.next_step();
            let scanned = |key| Scanned {
                is_string: match round.kinds {
                    Kinds::Shown => strings.contains(&key),
                    Kinds::Strings => true,
                    Kinds::Others => false,
                },
                key,
                step,
            };
            let keys: Vec<Scanned> = keys.into_iter().map(scanned).collect();
            if round.kinds == Kinds::Shown {
                walk.guess
                    .shown(keys.iter().filter(|key| key.is_string).count(), keys.len());
            }
            walk.scanned(next, keys);
        }
        Ok(())
    }

    /// Takes the values of one round. Returns their bytes.
    fn receive_values(
        &mut self,
        database: u32,
        round: &Round,
        walk: &mut Walk,
        report: &mut SweepReport,
    ) -> Result<u64> {
        let before = report.keys;
        let (mut bytes, mut unread) = (0, Vec::new());
        if !round.strings.is_empty() {
            let taken = self.take(Source::take_strings, database, &round.strings.keys, round.ends, report)?;
            walk.guess.missed(taken.no_strings.len(), round.strings.len());
            bytes += taken.bytes;
            unread = taken.no_strings;
        }
        if !round.reads.is_empty() {
            bytes += self
                .take(Source::take, database, &round.reads.keys, round.ends, report)?
                .bytes;
        }
        let again = !round.ends && !self.source.take_no_key_ends()?;
        if again {
            // One of them may have an end by now. All are read again, with their ends.
            walk.ends = true;
            report.keys = before;
            let counted = (round.strings.len() - unread.len() + round.reads.len()) as u64;
            let mut status = self.shared.lock();
            status.keys_read = status.keys_read.saturating_sub(counted);
            drop(status);
            unread = (0..round.strings.len()).collect();
            walk.unweighed.extend(unweighed(&round.reads, 0..round.reads.len()));
        } else {
            walk.read(round.reads.steps.iter().copied());
        }
        walk.unweighed.extend(unweighed(&round.strings, unread.iter().copied()));
        let mut unread = unread.into_iter().peekable();
        let was_read = |(place, step): (usize, &u64)| unread.next_if_eq(&place).is_none().then_some(*step);
        let steps: Vec<u64> = round.strings.steps.iter().enumerate().filter_map(was_read).collect();
        walk.read(steps);
        Ok(bytes)
    }

    /// Asks whether no key of the selected database has an end. The source must have nothing under way.
    fn no_key_ends(&mut self) -> Result<bool> {
        self.source.ask_whether_keys_end();
        self.source.link.send()?;
        self.source.take_no_key_ends()
    }
}

/// Returns these keys of a batch, to be read again key by key.
fn unweighed(batch: &Batch, places: impl Iterator<Item = usize>) -> impl Iterator<Item = Scanned> {
    places.filter_map(|place| {
        Some(Scanned {
            key: batch.keys.get(place)?.clone(),
            is_string: false,
            step: *batch.steps.get(place)?,
        })
    })
}

/// Returns how many keys a round has if an app waits, by how long a PING takes.
fn quick(latency: Duration) -> usize {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a number above zero; the cast saturates"
    )]
    let during = (latency.as_secs_f64() * KEYS_PER_S) as usize;
    during.clamp(QUICK, FAR)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(step: u64, count: usize) -> Vec<Scanned> {
        let scanned = |at: usize| Scanned {
            key: at.to_string().into_bytes(),
            is_string: false,
            step,
        };
        (0..count).map(scanned).collect()
    }

    fn weighed(size: u64) -> Weighed {
        Weighed {
            key: b"a".to_vec(),
            size,
            kind: None,
            is_string: false,
            step: 0,
        }
    }

    #[test]
    fn a_place_is_noted_once_all_keys_before_it_were_read() {
        let mut walk = Walk::from(7, 10);
        for (next, count) in [(20, 3), (30, 0), (40, 2)] {
            let step = walk.next_step();
            walk.scanned(next, keys(step, count));
        }
        // A key of the first step is put off, and those of a later one are read before it.
        walk.read([0, 0]);
        walk.read([2, 2]);
        assert_eq!(walk.cursor, 7);
        walk.read([0]);
        assert_eq!(walk.cursor, 40);
        let step = walk.next_step();
        walk.scanned(50, keys(step, 1));
        assert_eq!(walk.cursor, 40);
        walk.read([step]);
        assert_eq!(walk.cursor, 50);
    }

    #[test]
    fn rounds_of_a_source_far_away_have_more_keys_up_to_a_bound() {
        let after = |ms| quick(Duration::from_millis(ms));
        assert_eq!(
            (after(0), after(20), after(100), after(5000)),
            (QUICK, QUICK, 10_000, FAR)
        );
    }

    #[test]
    fn a_round_has_so_many_bytes_and_ends_before_a_large_key() {
        let mut walk = Walk::from(0, 10);
        walk.waiting.extend([BATCH / 4, BATCH / 4, LARGE + 1, 5].map(weighed));
        let round = walk.compose(true).unwrap();
        assert_eq!((round.reads.len(), round.scan), (2, Some(0)));
        assert!(
            walk.compose(true).is_none(),
            "the scan is under way, and a large key comes next"
        );
        assert_eq!(walk.next_large().unwrap().size, LARGE + 1);
        assert_eq!(walk.compose(true).unwrap().reads.len(), 1);
    }
}
