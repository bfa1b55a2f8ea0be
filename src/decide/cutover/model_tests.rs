//! Tries the steps in a model where an app always writes, pauses lapse, and the tool dies anywhere.

use super::*;
use crate::decide::cutover::steps::Step::*;
use std::sync::atomic::{AtomicU64, Ordering};

mod histories;
mod run;

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
    /// Ends by no clock.
    Endless,
}

/// The fate of a change on the platform.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Release {
    /// New processes start at once; the old live on for a while.
    AtOnce,
    /// A release phase: values and processes change when it has succeeded.
    Phased,
    Fails,
}

/// How the platform treats the changes, from one of them on.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Refusing {
    Nothing,
    Once,
    ForGood,
    /// The answer is lost, whether the change is made or not, and the next change is refused.
    UnclearThenOnce {
        made: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Answer {
    Done,
    Refused,
    Unclear { made: bool },
}

#[derive(Clone, Copy, Debug)]
struct App {
    var: Points,
    pending: Option<Release>,
    old_processes: bool,
    /// Asked to stop, and not yet killed: it may connect again with its old URL.
    lingering: bool,
    new_processes: bool,
    stopped: bool,
    /// True if this run has sent its change; the next two say how far it knows of the result.
    sent: bool,
    unclear: bool,
    not_back: bool,
}

impl App {
    const RUNNING: App = App {
        var: Points::Source,
        pending: None,
        old_processes: true,
        lingering: false,
        new_processes: false,
        stopped: false,
        sent: false,
        unclear: false,
        not_back: false,
    };

    fn replace_old(&mut self) {
        self.lingering |= std::mem::take(&mut self.old_processes);
    }

    fn release_ends(&mut self) {
        if matches!(self.pending.take(), Some(Release::AtOnce | Release::Phased)) {
            self.var = Points::Endpoint;
            self.replace_old();
            self.new_processes = !self.stopped;
        }
    }

    /// The platform takes the change.
    fn change(&mut self, release: Release) {
        self.pending = Some(release);
        if release == Release::AtOnce {
            self.var = Points::Endpoint;
            self.new_processes = !self.stopped;
        }
    }

    fn change_back(&mut self) {
        self.pending = None;
        self.var = Points::Source;
        self.old_processes = !self.stopped;
        self.new_processes = false;
    }
}

#[derive(Debug)]
struct Model {
    fence: FenceKind,
    phase: Option<Phase>,
    stopped: bool,
    switch_journaled: bool,
    was_switched: bool,
    master: MasterRole,
    access: bool,
    apps: Vec<App>,
    /// A process with the old URL that no change of the app stops.
    straggler: bool,
    pause: Pause,
    fenced: bool,
    /// The pause of this run ended while it slept.
    lapsed: bool,
    proven: bool,
    access_opened: bool,
    given_up: bool,
    /// The facts that the run decided by: where the app points, and if a change is pending.
    seen: Option<(Points, bool)>,
    /// Changes that this run asked for.
    calls: usize,
    source: Vec<u32>,
    ours: Vec<u32>,
    /// Length of both streams when the master was promoted.
    promoted_at: usize,
    acknowledged: Vec<u32>,
}

impl Model {
    fn new(fence: FenceKind, straggler: bool, apps: usize) -> Self {
        Model {
            fence,
            phase: None,
            stopped: false,
            switch_journaled: false,
            was_switched: false,
            master: MasterRole::Following,
            access: false,
            apps: vec![App::RUNNING; apps],
            // A pause holds stragglers back; without a pause they prevent the promotion itself.
            straggler: straggler && fence == FenceKind::Platform,
            pause: Pause::None,
            fenced: false,
            lapsed: false,
            proven: false,
            access_opened: false,
            given_up: false,
            seen: None,
            calls: 0,
            source: vec![],
            ours: vec![],
            promoted_at: 0,
            acknowledged: vec![],
        }
    }

    fn points(&self) -> Points {
        Points::together(self.apps.iter().map(|app| app.var))
    }

    fn is_pending(&self) -> bool {
        self.apps.iter().any(|app| app.pending.is_some())
    }

    fn old_side_writable(&self) -> bool {
        let somebody = self.apps.iter().any(|app| app.old_processes || app.lingering);
        (somebody || self.straggler) && self.pause == Pause::None
    }

    fn new_side_writable(&self) -> bool {
        self.apps.iter().any(|app| app.new_processes) && self.access && self.master == MasterRole::Promoted
    }

    fn app_writes(&mut self, replicate: bool) {
        assert!(
            !(self.old_side_writable() && self.new_side_writable()),
            "both sides take writes: {self:?}"
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
        self.apps.iter_mut().for_each(App::release_ends);
    }

    fn grace_passes(&mut self) {
        self.apps.iter_mut().for_each(|app| app.lingering = false);
    }

    fn die(&mut self, run: &Run) {
        self.fenced = false;
        self.lapsed = false;
        self.proven = false;
        self.straggler &= !run.straggler_goes;
        // A long pause outlasts a release phase and the processes that the release replaces.
        if run.release_ends || run.long_ends {
            self.release_ends();
        }
        if run.long_ends {
            self.grace_passes();
        }
        if self.pause == Pause::Short || (run.long_ends && self.pause != Pause::Endless) {
            self.pause = Pause::None;
        }
    }

    /// The computer slept: a short pause is over, and the fence sees that by its clock.
    fn sleep(&mut self) {
        if self.pause == Pause::Short {
            self.pause = Pause::None;
            self.lapsed = true;
        }
    }

    fn past(&self) -> Past {
        Past {
            phase: self.phase,
            detaching: false,
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
            several: self.apps.len() > 1,
            app: self.points(),
            release_pending: self.is_pending(),
            source: still(self.source.len()),
            ours: still(self.ours.len()),
        }
    }

    /// Returns what a fence answers at every point that depends on it.
    fn fence_holds(&self) -> bool {
        self.fenced
            && !self.lapsed
            && match self.fence {
                FenceKind::Pause => self.pause != Pause::None,
                FenceKind::Platform => !self.straggler && self.apps.iter().all(|app| !app.lingering),
            }
    }

    /// Asks the platform for one change.
    fn call(&mut self, run: &Run) -> Answer {
        let call = self.calls;
        self.calls += 1;
        match run.refusing {
            Refusing::Once if call == run.refuses_at => Answer::Refused,
            Refusing::ForGood if call >= run.refuses_at => Answer::Refused,
            Refusing::UnclearThenOnce { made } if call == run.refuses_at => Answer::Unclear { made },
            Refusing::UnclearThenOnce { .. } if call == run.refuses_at + 1 => Answer::Refused,
            _ => Answer::Done,
        }
    }

    /// Repeats a request that puts something back.
    fn insist(&mut self, run: &Run) -> bool {
        (0..4).any(|_| self.call(run) == Answer::Done)
    }

    /// Returns `None` if the step went well, else why the tool stops here.
    fn perform(&mut self, step: Step, run: &Run) -> Option<&'static str> {
        STEPS.fetch_add(1, Ordering::Relaxed);
        match step {
            Compare | Watch | Ready | AwaitRunning => {}
            DetachVars | PrebootOff => {
                if self.phase != Some(Phase::Settled) && self.call(run) != Answer::Done {
                    return Some("refused");
                }
            }
            PrebootOn => {
                if !self.insist(run) && self.phase == Some(Phase::Switched) {
                    return Some("refused");
                }
            }
            // Only connections end: a process that was asked to stop may come back.
            Disconnect => {}
            AwaitClients => self.grace_passes(),
            CloseAccess => self.access = false,
            Announce(Phase::Promoted | Phase::Switching) if !self.fence_holds() => return Some("fence"),
            Announce(phase) => {
                if phase == Phase::Following && (self.stopped || self.apps.iter().any(|app| app.not_back)) {
                    return Some("left");
                }
                self.phase = Some(phase);
                match phase {
                    Phase::Following => (self.switch_journaled, self.was_switched) = (false, false),
                    Phase::Switched => self.was_switched = true,
                    Phase::Switching => self.switch_journaled = true,
                    Phase::Fenced => self.switch_journaled |= self.fence == FenceKind::Platform,
                    _ => {}
                }
            }
            AnnounceSwitch => {
                if !self.fence_holds() {
                    return Some("fence");
                }
                self.phase = Some(Phase::Switching);
                self.switch_journaled = true;
            }
            PromoteAndHold => {
                return self.perform(Promote, run).or_else(|| self.perform(LongPause, run));
            }
            StopApp => {
                self.stopped = true;
                for at in 0..self.apps.len() {
                    match self.call(run) {
                        Answer::Done | Answer::Unclear { made: true } => {
                            self.apps[at].stopped = true;
                            self.apps[at].replace_old();
                            self.apps[at].new_processes = false;
                        }
                        Answer::Refused | Answer::Unclear { made: false } => return Some("refused"),
                    }
                }
            }
            StartApp => return self.start(run),
            AwaitGone => {
                if self.straggler {
                    return Some("somebody is left");
                }
                self.grace_passes();
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
                    "the app wrote although app access was closed"
                );
                self.proven = true;
            }
            Promote => {
                if !self.fence_holds() {
                    return Some("fence");
                }
                assert!(self.proven && !self.access && !self.old_side_writable());
                assert_eq!(self.ours, self.source, "promoted without all that was acknowledged");
                self.master = MasterRole::Promoted;
                self.promoted_at = self.ours.len();
            }
            Hold => {
                if self.fence == FenceKind::Pause {
                    if !self.fence_holds() {
                        return Some("fence");
                    }
                    self.longer(Pause::Hold);
                }
            }
            LongPause => {
                if self.lapsed {
                    return Some("fence");
                }
                let raised = !std::mem::replace(&mut self.fenced, true);
                self.longer(Pause::Long);
                let all_had_moved = self.seen == Some((Points::Endpoint, false));
                if raised && !all_had_moved && self.source.len() != self.promoted_at {
                    self.given_up = true;
                    return Some("moved");
                }
            }
            StayPaused => self.longer(Pause::Endless),
            OpenAccess => {
                let paused = matches!(self.pause, Pause::Long | Pause::Endless);
                assert!(
                    paused || (self.fence == FenceKind::Platform && !self.old_side_writable()),
                    "app access opens while the old side may"
                );
                assert!(
                    self.apps.len() == 1
                        || self
                            .apps
                            .iter()
                            .all(|app| app.sent || app.var == Points::Endpoint || app.pending.is_some()),
                    "of several apps one could write to the new side before all were sent there: {self:?}"
                );
                self.access = true;
                self.access_opened = true;
            }
            SetVars => return self.set_vars(run),
            AwaitRelease => {
                self.release_ends();
                if self.points() != Points::Endpoint {
                    self.given_up = true;
                    return Some("release failed");
                }
            }
            Unpause => self.pause = Pause::None,
            ProveUnwritten => {
                assert!(!self.access);
                if self.ours.len() != self.promoted_at && self.master == MasterRole::Promoted {
                    return Some("written");
                }
            }
            VarsBack => return self.vars_back(run),
            Follow => {
                let lost = self.acknowledged.iter().find(|write| !self.source.contains(write));
                assert_eq!(lost, None, "following again drops an acknowledged write");
                self.master = MasterRole::Following;
            }
            AwaitSync => self.ours = self.source.clone(),
        }
        None
    }

    /// A shorter pause does not shorten a longer one.
    fn longer(&mut self, pause: Pause) {
        if self.pause != Pause::Endless {
            self.pause = pause;
        }
    }

    fn set_vars(&mut self, run: &Run) -> Option<&'static str> {
        let mut why = None;
        for at in 0..self.apps.len() {
            let there = self.apps[at].var == Points::Endpoint || self.apps[at].pending.is_some();
            let answer = if there { Answer::Done } else { self.call(run) };
            let app = &mut self.apps[at];
            let release = run.releases[at];
            match answer {
                Answer::Done => {
                    app.sent = true;
                    if !there {
                        app.change(release);
                    }
                }
                Answer::Refused => why = why.or(Some("refused")),
                Answer::Unclear { made } => {
                    app.unclear = true;
                    if made {
                        app.change(release);
                    }
                    why = Some("unclear");
                }
            }
        }
        why
    }

    fn vars_back(&mut self, run: &Run) -> Option<&'static str> {
        if !self.switch_journaled {
            return None;
        }
        let mut moved_back = 0;
        for at in 0..self.apps.len() {
            let app = self.apps[at];
            if app.var == Points::Source && app.pending.is_none_or(|release| release == Release::Fails) {
                self.apps[at].pending = None;
                continue;
            }
            if self.insist(run) {
                moved_back += 1;
                self.apps[at].change_back();
                self.apps[at].not_back = false;
                continue;
            }
            if run.command == Command::Back && self.was_switched && moved_back == 0 && self.points() == Points::Endpoint
            {
                return Some("stay");
            }
            self.apps[at].release_ends();
            self.apps[at].not_back = true;
        }
        None
    }

    fn start(&mut self, run: &Run) -> Option<&'static str> {
        if !self.stopped {
            return None;
        }
        let on_the_way_back = self.phase != Some(Phase::Switching);
        let mut left = false;
        for at in 0..self.apps.len() {
            if !self.apps[at].stopped {
                continue;
            }
            let started = if on_the_way_back {
                !self.apps[at].not_back && self.insist(run)
            } else {
                self.call(run) == Answer::Done
            };
            if !started && !on_the_way_back {
                return Some("refused");
            }
            left |= !started;
            if started {
                let app = &mut self.apps[at];
                app.stopped = false;
                app.new_processes = app.var == Points::Endpoint;
                app.old_processes = !app.new_processes;
            }
        }
        self.stopped = left;
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
    releases: [Release; 3],
    release_ends: bool,
    straggler_goes: bool,
    replicate: bool,
    writes_between: usize,
    refusing: Refusing,
    /// The number of the first change that is refused.
    refuses_at: usize,
}
