//! The lists of steps against a small world in which an app writes all the time and the tool dies anywhere.

use super::*;
use proptest::prelude::*;

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
    phase: Option<Phase>,
    master: MasterRole,
    door: bool,
    var: Points,
    pending: Option<Release>,
    old_processes: bool,
    new_processes: bool,
    pause: Pause,
    fenced: bool,
    proven: bool,
    source: Vec<u32>,
    ours: Vec<u32>,
    /// Length of both when the master was promoted.
    promoted_at: usize,
    acknowledged: Vec<u32>,
}

impl Model {
    fn new() -> Self {
        Model {
            phase: None,
            master: MasterRole::Following,
            door: false,
            var: Points::Source,
            pending: None,
            old_processes: true,
            new_processes: false,
            pause: Pause::None,
            fenced: false,
            proven: false,
            source: vec![],
            ours: vec![],
            promoted_at: 0,
            acknowledged: vec![],
        }
    }

    fn old_side_writable(&self) -> bool {
        self.old_processes && self.pause == Pause::None
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
            self.new_processes = true;
        }
    }

    fn die(&mut self, long_ends: bool, release_ends: bool) {
        self.fenced = false;
        self.proven = false;
        // A long pause outlasts what the platform gives a release phase, and the processes that it replaces.
        if release_ends || long_ends {
            self.release_ends();
        }
        if self.pause == Pause::Short || long_ends {
            self.pause = Pause::None;
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
            master: self.master,
            door_open: self.door,
            app: self.var,
            release_pending: self.pending.is_some(),
            source: still(self.source.len()),
            ours: still(self.ours.len()),
        }
    }

    /// Nothing when the step went well; otherwise why the tool stops here.
    fn perform(&mut self, step: Step, release: Release) -> Option<&'static str> {
        match step {
            Flatten | PrebootOff | PrebootOn | Compare | Watch | Ready | AwaitClients => {}
            Sever => self.old_processes = false,
            CloseDoor => self.door = false,
            Announce(phase) => self.phase = Some(phase),
            Fence => {
                self.fenced = true;
                if self.pause == Pause::None {
                    self.pause = Pause::Short;
                }
            }
            Drain => {
                assert!(self.fenced && self.master == MasterRole::Following);
                self.ours = self.source.clone();
            }
            Prove => {
                assert_eq!(self.ours, self.source);
                self.proven = true;
            }
            ProveStill => {
                if self.source.len() != self.promoted_at || self.ours.len() != self.promoted_at {
                    return Some("moved");
                }
                self.proven = true;
            }
            Promote => {
                assert!(self.fenced && self.proven && self.pause != Pause::None && !self.door);
                assert_eq!(self.ours, self.source, "promoted without all that was acknowledged");
                self.master = MasterRole::Promoted;
                self.promoted_at = self.ours.len();
            }
            Hold => self.pause = Pause::Hold,
            LongPause => self.pause = Pause::Long,
            OpenDoor => {
                assert_eq!(self.pause, Pause::Long, "the new door opens while the old one may");
                self.door = true;
            }
            SetVars => {
                if self.var != Points::Endpoint && self.pending.is_none() {
                    self.pending = Some(release);
                    if release == Release::AtOnce {
                        self.var = Points::Endpoint;
                        self.new_processes = true;
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
                self.pending = None;
                self.var = Points::Source;
                self.old_processes = true;
                self.new_processes = false;
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
    long_ends: bool,
    release: Release,
    release_ends: bool,
    replicate: bool,
    writes_between: usize,
}

fn run(model: &mut Model, run: &Run) -> Result<bool, Refusal> {
    let mut left = run.dies_after;
    for _ in 0..4 {
        let (steps, again) = match decide(run.command, model.phase, false, &model.world()) {
            Next::Do(steps) => (steps, false),
            Next::Then(steps) => (steps, true),
            Next::Nothing(_) => return Ok(true),
            Next::Refuse(refusal) => return Err(refusal),
        };
        for step in steps {
            model.app_writes(run.replicate);
            if left == 0 {
                return Ok(false);
            }
            left -= 1;
            match model.perform(step, run.release) {
                None => {}
                Some("release failed") => {
                    // The run itself goes back, as far as it lives.
                    for step in way_back() {
                        model.app_writes(run.replicate);
                        if left == 0 || model.perform(step, run.release).is_some() {
                            return Ok(false);
                        }
                        left -= 1;
                    }
                    return Ok(false);
                }
                Some(_) => return Ok(false),
            }
        }
        if !again {
            return Ok(true);
        }
    }
    panic!("decides in circles: {model:?}");
}

fn any_run() -> impl Strategy<Value = Run> {
    (
        prop_oneof![Just(Command::Promote), Just(Command::SwitchApp)],
        0usize..45,
        any::<bool>(),
        prop_oneof![Just(Release::AtOnce), Just(Release::Phased), Just(Release::Fails)],
        any::<bool>(),
        any::<bool>(),
        0usize..3,
    )
        .prop_map(
            |(command, dies_after, long_ends, release, release_ends, replicate, writes_between)| Run {
                command,
                dies_after,
                long_ends,
                release,
                release_ends,
                replicate,
                writes_between,
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn no_crash_opens_two_doors_or_loses_a_write_and_a_rerun_always_ends_it(runs in prop::collection::vec(any_run(), 0..6)) {
        let mut model = Model::new();
        for one in &runs {
            let refused = run(&mut model, one).err();
            prop_assert!(
                matches!(refused, None | Some(Refusal::SwitchIsHalfDone)),
                "the tool refuses its own work: {:?} in {:?}", refused, model
            );
            model.die(one.long_ends, one.release_ends);
            for _ in 0..one.writes_between {
                model.app_writes(one.replicate);
            }
        }
        let last = Run { command: Command::SwitchApp, dies_after: usize::MAX, long_ends: false, release: Release::AtOnce, release_ends: true, replicate: true, writes_between: 0 };
        let done = (0..3).any(|_| run(&mut model, &last) == Ok(true));
        prop_assert!(done, "never ends: {:?}", model);
        prop_assert_eq!(model.phase, Some(Phase::Settled));
        model.app_writes(true);
        prop_assert!(model.new_side_writable());
        prop_assert!(model.acknowledged.iter().all(|write| model.ours.contains(write)), "lost: {:?}", model);
    }
}
