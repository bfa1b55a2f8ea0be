//! The lists of steps against a small world in which an app writes all the time, pauses lapse, processes linger, and the tool dies anywhere.

use super::super::sequence::Step::*;
use super::*;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};
use std::sync::atomic::{AtomicU64, Ordering};

/// Steps that all runs took together.
static STEPS: AtomicU64 = AtomicU64::new(0);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Pause {
    None,
    /// Ends when the tool dies.
    Short,
    /// `--hold`: ends some time after the tool has gone.
    Hold,
    /// Outlasts every release.
    Long,
}

/// What the platform does with a change.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Release {
    /// New processes start at once; the old live on for a while.
    AtOnce,
    /// A release phase: values and processes change when it has succeeded.
    Phased,
    Fails,
}

#[derive(Debug)]
struct Model {
    fence: FenceKind,
    phase: Option<Phase>,
    stopped: bool,
    switch_journaled: bool,
    master: MasterRole,
    door: bool,
    var: Points,
    pending: Option<Release>,
    old_processes: bool,
    new_processes: bool,
    /// A process with the old URL that no change of the app stops.
    straggler: bool,
    pause: Pause,
    fenced: bool,
    /// The pause of this run ended while it slept.
    lapsed: bool,
    sent: bool,
    proven: bool,
    source: Vec<u32>,
    ours: Vec<u32>,
    /// Length of both when the master was promoted.
    promoted_at: usize,
    acknowledged: Vec<u32>,
}

impl Model {
    fn new(fence: FenceKind, straggler: bool) -> Self {
        Model {
            fence,
            phase: None,
            stopped: false,
            switch_journaled: false,
            master: MasterRole::Following,
            door: false,
            var: Points::Source,
            pending: None,
            old_processes: true,
            new_processes: false,
            // A pause holds him back and he is named when he stays; without one he stands in the way of the promotion itself.
            straggler: straggler && fence == FenceKind::Platform,
            pause: Pause::None,
            fenced: false,
            lapsed: false,
            sent: false,
            proven: false,
            source: vec![],
            ours: vec![],
            promoted_at: 0,
            acknowledged: vec![],
        }
    }

    fn old_side_writable(&self) -> bool {
        (self.old_processes || self.straggler) && self.pause == Pause::None
    }

    fn new_side_writable(&self) -> bool {
        self.new_processes && self.door && self.master == MasterRole::Promoted
    }

    fn app_writes(&mut self, replicate: bool) {
        assert!(
            !(self.old_side_writable() && self.new_side_writable()),
            "two doors are open: {self:?}"
        );
        let write = self.acknowledged.len() as u32;
        if self.old_side_writable() {
            self.source.push(write);
            self.acknowledged.push(write);
            if replicate && self.master == MasterRole::Following {
                self.ours = self.source.clone();
            }
        } else if self.new_side_writable() {
            self.ours.push(write);
            self.acknowledged.push(write);
        }
    }

    fn release_ends(&mut self) {
        if matches!(self.pending.take(), Some(Release::AtOnce | Release::Phased)) {
            self.var = Points::Endpoint;
            self.old_processes = false;
            self.new_processes = !self.stopped;
        }
    }

    fn die(&mut self, long_ends: bool, release_ends: bool, straggler_goes: bool) {
        self.fenced = false;
        self.lapsed = false;
        self.sent = false;
        self.proven = false;
        self.straggler &= !straggler_goes;
        // A long pause outlasts what the platform gives a release phase, and the processes that it replaces.
        if release_ends || long_ends {
            self.release_ends();
        }
        if self.pause == Pause::Short || long_ends {
            self.pause = Pause::None;
        }
    }

    /// The computer slept: a short pause is over, and the fence knows it by its clock.
    fn sleep(&mut self) {
        if self.pause == Pause::Short {
            self.pause = Pause::None;
            self.lapsed = true;
        }
    }

    fn past(&self) -> Past {
        Past {
            phase: self.phase,
            flattening: false,
            stopped: self.stopped,
        }
    }

    fn world(&self) -> World {
        let still = |now: usize| {
            if now == self.promoted_at {
                Stillness::Still
            } else {
                Stillness::Moved
            }
        };
        World {
            fence: self.fence,
            master: self.master,
            door_open: self.door,
            app: self.var,
            release_pending: self.pending.is_some(),
            source: still(self.source.len()),
            ours: still(self.ours.len()),
        }
    }

    /// What a fence is asked at every point that depends on it.
    fn fence_holds(&self) -> bool {
        self.fenced
            && !self.lapsed
            && match self.fence {
                FenceKind::Pause => self.pause != Pause::None,
                FenceKind::Platform => !self.straggler,
            }
    }

    /// Nothing when the step went well; otherwise why the tool stops here.
    fn perform(&mut self, step: Step, release: Release) -> Option<&'static str> {
        STEPS.fetch_add(1, Ordering::Relaxed);
        match step {
            Flatten | PrebootOff | PrebootOn | Compare | Watch | Ready | AwaitClients | AwaitRunning => {}
            Sever => self.old_processes = false,
            CloseDoor => self.door = false,
            Announce(Phase::Promoted | Phase::Switching) if !self.fence_holds() => return Some("fence"),
            Announce(phase) => {
                self.phase = Some(phase);
                match phase {
                    Phase::Following => self.switch_journaled = false,
                    Phase::Switching => self.switch_journaled = true,
                    Phase::Fenced => self.switch_journaled |= self.fence == FenceKind::Platform,
                    _ => {}
                }
            }
            StopApp => {
                self.stopped = true;
                self.old_processes = false;
                self.new_processes = false;
            }
            StartApp => {
                if std::mem::take(&mut self.stopped) {
                    self.new_processes = self.var == Points::Endpoint;
                    self.old_processes = !self.new_processes;
                }
            }
            AwaitGone => {
                if self.straggler {
                    return Some("somebody is left");
                }
            }
            Fence => {
                if self.fence == FenceKind::Platform && self.old_side_writable() {
                    return Some("somebody is left");
                }
                self.fenced = true;
                self.lapsed = false;
                if self.fence == FenceKind::Pause && self.pause == Pause::None {
                    self.pause = Pause::Short;
                }
            }
            Drain => {
                assert!(self.fenced && self.master == MasterRole::Following);
                self.ours = self.source.clone();
            }
            Prove => {
                // A pause that lapsed lets the source move on.
                if !self.fence_holds() || self.ours != self.source {
                    return Some("moved");
                }
                self.proven = true;
            }
            ProveStill => {
                if !self.fence_holds() || self.source.len() != self.promoted_at {
                    return Some("moved");
                }
                assert_eq!(
                    self.ours.len(),
                    self.promoted_at,
                    "the app wrote through a door that was shut"
                );
                self.proven = true;
            }
            Promote => {
                if !self.fence_holds() {
                    return Some("fence");
                }
                assert!(self.proven && !self.door && !self.old_side_writable());
                assert_eq!(self.ours, self.source, "promoted without all that was acknowledged");
                self.master = MasterRole::Promoted;
                self.promoted_at = self.ours.len();
            }
            Hold => {
                if self.fence == FenceKind::Pause {
                    if !self.fence_holds() {
                        return Some("fence");
                    }
                    self.pause = Pause::Hold;
                }
            }
            LongPause => {
                if self.lapsed {
                    return Some("fence");
                }
                self.fenced = true;
                self.pause = Pause::Long;
            }
            OpenDoor => {
                assert!(
                    self.pause == Pause::Long || (self.fence == FenceKind::Platform && !self.old_side_writable()),
                    "the new door opens while the old one may"
                );
                self.door = true;
            }
            SetVars => {
                self.sent = true;
                if self.var != Points::Endpoint && self.pending.is_none() {
                    self.pending = Some(release);
                    if release == Release::AtOnce {
                        self.var = Points::Endpoint;
                        self.new_processes = !self.stopped;
                    }
                }
            }
            AwaitRelease => {
                self.release_ends();
                if self.var != Points::Endpoint {
                    return Some("release failed");
                }
            }
            Unpause => self.pause = Pause::None,
            ProveUnwritten => {
                assert!(!self.door);
                if self.ours.len() != self.promoted_at && self.master == MasterRole::Promoted {
                    return Some("written");
                }
            }
            VarsBack => {
                if self.switch_journaled {
                    self.pending = None;
                    self.var = Points::Source;
                    self.old_processes = !self.stopped;
                    self.new_processes = false;
                }
            }
            Follow => {
                let lost = self.acknowledged.iter().find(|write| !self.source.contains(write));
                assert_eq!(lost, None, "following again drops an acknowledged write");
                self.master = MasterRole::Following;
            }
            AwaitSync => self.ours = self.source.clone(),
        }
        None
    }
}

/// One run of a command, with what happens to it.
#[derive(Clone, Debug)]
struct Run {
    command: Command,
    /// After how many steps the tool dies.
    dies_after: usize,
    /// After how many steps the computer sleeps for a while.
    sleeps_after: usize,
    long_ends: bool,
    release: Release,
    release_ends: bool,
    straggler_goes: bool,
    replicate: bool,
    writes_between: usize,
}

/// Runs through a list; whether all of it was done, and why not. Nothing when the tool died.
fn all(model: &mut Model, run: &Run, steps: &[Step], taken: &mut usize) -> Option<Result<(), &'static str>> {
    for step in steps {
        model.app_writes(run.replicate);
        if *taken == run.dies_after {
            return None;
        }
        if *taken == run.sleeps_after {
            model.sleep();
            model.app_writes(run.replicate);
        }
        *taken += 1;
        if let Some(why) = model.perform(*step, run.release) {
            return Some(Err(why));
        }
    }
    Some(Ok(()))
}

/// What the tool does after a step failed, as far as it lives.
fn step_back(model: &mut Model, run: &Run, why: &'static str, taken: &mut usize) {
    let may_go_back = match model.phase {
        Some(Phase::Promoted | Phase::Returning) => true,
        Some(Phase::Switching) => why == "release failed" || !model.sent,
        _ => false,
    };
    if may_go_back {
        let back = all(model, run, &way_back(model.fence), taken);
        let written = model.ours.len() != model.promoted_at && model.master == MasterRole::Promoted;
        if let (Some(Err(_)), true, true) = (back, written, model.switch_journaled) {
            model.door = true;
            model.phase = Some(match run.command {
                Command::Back => Phase::Settled,
                _ => Phase::Switching,
            });
        }
    } else if !matches!(model.phase, Some(Phase::Switching | Phase::Switched)) {
        if model.stopped {
            let _ = all(model, run, &restart(), taken);
        } else if model.fenced {
            model.pause = Pause::None;
        }
    }
}

fn run(model: &mut Model, run: &Run) -> Result<bool, Refusal> {
    let mut taken = 0;
    for _ in 0..4 {
        let (steps, again) = match decide(run.command, &model.past(), &model.world()) {
            Next::Do(steps) => (steps, false),
            Next::Then(steps) => (steps, true),
            Next::Nothing(_) => return Ok(true),
            Next::Refuse(refusal) => return Err(refusal),
        };
        match all(model, run, &steps, &mut taken) {
            None => return Ok(false),
            Some(Err(why)) => {
                step_back(model, run, why, &mut taken);
                return Ok(false);
            }
            Some(Ok(())) if !again => return Ok(true),
            Some(Ok(())) => {}
        }
    }
    panic!("decides in circles: {model:?}");
}

fn any_run() -> impl Strategy<Value = Run> {
    (
        prop_oneof![
            3 => Just(Command::Promote),
            5 => Just(Command::SwitchApp),
            2 => Just(Command::Back)
        ],
        0usize..50,
        0usize..80,
        any::<bool>(),
        prop_oneof![Just(Release::AtOnce), Just(Release::Phased), Just(Release::Fails)],
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
        0usize..3,
    )
        .prop_map(
            |(
                command,
                dies_after,
                sleeps_after,
                long_ends,
                release,
                release_ends,
                straggler_goes,
                replicate,
                writes_between,
            )| Run {
                command,
                dies_after,
                sleeps_after,
                long_ends,
                release,
                release_ends,
                straggler_goes,
                replicate,
                writes_between,
            },
        )
}

/// Whatever happened: a few more runs without a fault end it, and everything that was acknowledged is on the side that won.
fn ends_well(fence: FenceKind, straggler: bool, runs: &[Run]) {
    let mut model = Model::new(fence, straggler);
    for one in runs {
        let refused = run(&mut model, one).err();
        let expected = match one.command {
            Command::Back => matches!(
                refused,
                None | Some(Refusal::SwitchIsHalfDone | Refusal::WrittenSinceSwitch)
            ),
            _ => matches!(refused, None | Some(Refusal::SwitchIsHalfDone)),
        };
        assert!(expected, "the tool refuses its own work: {refused:?} in {model:?}");
        model.die(one.long_ends, one.release_ends, one.straggler_goes);
        for _ in 0..one.writes_between {
            model.app_writes(one.replicate);
        }
    }
    model.straggler = false;
    let last = Run {
        command: Command::SwitchApp,
        dies_after: usize::MAX,
        sleeps_after: usize::MAX,
        long_ends: false,
        release: Release::AtOnce,
        release_ends: true,
        straggler_goes: true,
        replicate: true,
        writes_between: 0,
    };
    let done = (0..3).any(|_| run(&mut model, &last) == Ok(true));
    assert!(done, "never ends: {model:?}");
    assert_eq!(model.phase, Some(Phase::Settled));
    assert!(!model.stopped, "the app is left stopped");
    model.app_writes(true);
    assert!(model.new_side_writable());
    let lost = model.acknowledged.iter().find(|write| !model.ours.contains(write));
    assert_eq!(lost, None, "lost: {model:?}");
}

/// The seed is printed, and INFRA_MODEL_SEED (64 hexadecimal digits) repeats a run.
#[test]
fn no_crash_opens_two_doors_or_loses_a_write_and_a_rerun_always_ends_it() {
    let seed = match std::env::var("INFRA_MODEL_SEED") {
        Ok(text) => text,
        Err(_) => crate::secret::Secret::generate().expose().to_string(),
    };
    println!("INFRA_MODEL_SEED={seed}");
    let bytes: Vec<u8> = (0..32)
        .map(|at| u8::from_str_radix(&seed[2 * at..2 * at + 2], 16).unwrap())
        .collect();
    let config = Config {
        cases: 40_000,
        failure_persistence: None,
        ..Config::default()
    };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let fences = prop_oneof![Just(FenceKind::Pause), Just(FenceKind::Platform)];
    let histories = (fences, any::<bool>(), prop::collection::vec(any_run(), 0..6));
    let result = runner.run(&histories, |(fence, straggler, runs)| {
        ends_well(fence, straggler, &runs);
        Ok(())
    });
    match result {
        Ok(()) => {}
        Err(TestError::Fail(why, history)) => panic!("seed {seed}: {why}\n{history:#?}"),
        Err(TestError::Abort(why)) => panic!("seed {seed}: {why}"),
    }
    let steps = STEPS.load(Ordering::Relaxed);
    println!("{steps} steps");
    assert!(steps >= 1_000_000, "only {steps} steps were tried");
}
