//! Tries the steps in a small world: an app always writes, hosts restart and the tool dies anywhere.

use super::*;
use crate::decide::failover::steps::Step::*;
use Position::{Master, Replica};

const RUNS: u64 = 20_000;
/// More runs of the command than any way to the end needs.
const ATTEMPTS: usize = 12;

/// A xorshift generator, so that a seed repeats a run.
struct Chance(u64);

impl Chance {
    fn one_in(&mut self, count: u64) -> bool {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.is_multiple_of(count)
    }
}

#[derive(Clone, Debug)]
struct Host {
    file: Position,
    runs: Position,
    access: bool,
    data: Vec<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum At {
    Old,
    New,
}

/// The tool was killed here.
struct Died;

struct Model {
    chance: Chance,
    old: Host,
    new: Host,
    /// Writes wait on the old master, and nobody new gets in.
    paused: bool,
    address: At,
    stage: Option<Stage>,
    swapped: bool,
    acknowledged: Vec<u32>,
    next: u32,
    /// Restarts and deaths that are left.
    faults: u32,
}

impl Model {
    fn new(seed: u64, faults: u32) -> Self {
        let host = |position| Host {
            file: position,
            runs: position,
            access: true,
            data: Vec::new(),
        };
        Model {
            chance: Chance(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1),
            old: host(Master),
            new: host(Replica),
            paused: false,
            address: At::Old,
            stage: None,
            swapped: false,
            acknowledged: Vec::new(),
            next: 0,
            faults,
        }
    }

    fn takes_writes(&self, at: At) -> bool {
        match at {
            At::Old => self.old.runs == Master && self.old.access && !self.paused,
            At::New => self.new.runs == Master && self.new.access,
        }
    }

    fn replicate(&mut self) {
        match (self.old.runs, self.new.runs) {
            // A copy of what the other has, also if that is less: this is what loses data.
            (Master, Replica) => self.new.data = self.old.data.clone(),
            (Replica, Master) => self.old.data = self.new.data.clone(),
            _ => {}
        }
    }

    fn restart(&mut self, at: At) {
        self.faults -= 1;
        match at {
            At::Old => {
                self.old.runs = self.old.file;
                self.paused = false;
            }
            At::New => self.new.runs = self.new.file,
        }
    }

    /// Lets the world go on between two effects, and tries a write on both hosts.
    fn time_passes(&mut self) {
        assert!(
            !(self.takes_writes(At::Old) && self.takes_writes(At::New)),
            "both take writes: {:?} {:?} {:?}",
            self.old,
            self.new,
            self.stage
        );
        if self.chance.one_in(2) && self.takes_writes(self.address) {
            self.next += 1;
            let host = if self.address == At::Old {
                &mut self.old
            } else {
                &mut self.new
            };
            host.data.push(self.next);
            self.acknowledged.push(self.next);
        }
        if self.chance.one_in(2) {
            self.replicate();
        }
        for at in [At::Old, At::New] {
            if self.faults > 0 && self.chance.one_in(12) {
                self.restart(at);
            }
        }
    }

    fn tool_goes_on(&mut self) -> Result<(), Died> {
        self.time_passes();
        if self.faults > 0 && self.chance.one_in(8) {
            self.faults -= 1;
            return Err(Died);
        }
        Ok(())
    }

    /// The script on the old master. A restart of its host ends it; the tool's death does not.
    fn gives_role_away(&mut self) -> bool {
        if self.old.runs == Replica {
            return true;
        }
        self.paused = true;
        self.time_passes();
        if !self.paused || self.new.runs != Replica {
            self.paused = false;
            return false;
        }
        self.replicate();
        assert_eq!(self.new.data, self.old.data);
        self.time_passes();
        if !self.paused {
            return false;
        }
        if self.new.runs != Replica {
            self.paused = false;
            return false;
        }
        self.old.file = Replica;
        self.time_passes();
        if !self.paused {
            // It restarted, and follows by its file.
            return false;
        }
        if self.new.runs != Replica {
            self.old.file = Master;
            self.paused = false;
            return false;
        }
        self.old.runs = Replica;
        self.new.runs = Master;
        self.paused = false;
        true
    }

    /// Returns whether the step succeeded.
    fn perform(&mut self, step: Step) -> bool {
        match step {
            Announce(stage) => self.stage = Some(stage),
            Ready => return self.old.runs == Master && self.new.runs == Replica,
            CloseAccess => self.new.access = false,
            Arm => {
                assert!(!self.new.access, "the app could write after a restart");
                self.new.file = Master;
            }
            Yield => return self.gives_role_away(),
            TakeOver => {
                if self.old.runs == Master || self.old.file == Master {
                    return false;
                }
                self.new.file = Master;
                self.new.runs = Master;
            }
            OpenAccess => self.new.access = true,
            MoveAddress => self.address = At::New,
            Swap => {
                assert!(self.new.runs == Master && self.old.file == Replica);
                self.stage = Some(Stage::Settling);
                self.swapped = true;
            }
            Tag => {}
            Bring => {
                self.old.file = Replica;
                self.old.runs = Replica;
            }
            AwaitSync => self.replicate(),
            Finish => self.stage = None,
            Reclaim => {
                self.old.file = Master;
                self.old.runs = Master;
                self.paused = false;
            }
            FollowAgain => {
                self.new.file = Replica;
                self.new.runs = Replica;
                self.replicate();
            }
            Fence | TakeOverAlone | SwapAlone => panic!("{step:?} is no step of a planned failover"),
        }
        true
    }

    fn seen(&self) -> World {
        let side = |host: &Host| Side::Up {
            file: host.file,
            runs: host.runs,
            access: host.access,
        };
        World {
            old: side(&self.old),
            new: side(&self.new),
        }
    }

    /// Runs the command once. Returns true if it came to its end.
    fn command(&mut self) -> Result<bool, Died> {
        for _ in 0..4 {
            self.tool_goes_on()?;
            let (steps, again) = match decide(self.stage, &self.seen()) {
                Next::Do(steps) => (steps, false),
                Next::Then(steps) => (steps, true),
                Next::Refuse(refusal) => panic!("{refusal:?} {:?} {:?} {:?}", self.stage, self.old, self.new),
            };
            for step in steps {
                self.tool_goes_on()?;
                if !self.perform(step) {
                    return Ok(false);
                }
            }
            if !again {
                return Ok(true);
            }
        }
        panic!("it went back four times in a row");
    }

    fn run_to_the_end(&mut self) {
        for _ in 0..ATTEMPTS {
            match self.command() {
                Ok(true) => return,
                Ok(false) => {}
                Err(Died) => {
                    for _ in 0..4 {
                        self.time_passes();
                    }
                }
            }
        }
        panic!("it did not end: {:?} {:?} {:?}", self.stage, self.old, self.new);
    }
}

fn run(seed: u64, faults: u32) {
    let mut model = Model::new(seed, faults);
    for _ in 0..3 {
        model.time_passes();
    }
    model.run_to_the_end();
    model.faults = 0;
    for _ in 0..4 {
        model.time_passes();
    }
    assert!(model.swapped && model.address == At::New && model.stage.is_none());
    assert!(model.takes_writes(At::New) && !model.takes_writes(At::Old));
    assert_eq!((model.old.file, model.new.file), (Replica, Master));
    for write in &model.acknowledged {
        assert!(model.new.data.contains(write), "the acknowledged write {write} is lost");
    }
}

#[test]
fn no_death_of_the_tool_and_no_restart_of_a_host_loses_a_write_or_makes_two_masters() {
    for seed in 1..=RUNS {
        let faults = u32::try_from(seed % 6).unwrap();
        let outcome = std::panic::catch_unwind(|| run(seed, faults));
        assert!(outcome.is_ok(), "seed {seed} with {faults} faults");
    }
}
