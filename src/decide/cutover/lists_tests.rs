//! Walks every list of steps that can be decided on, and finds that no step comes too early.

use super::steps::Step::*;
use super::*;
use Stillness::{Moved, Still, Unknown};

/// The journal's and the run's knowledge while a list is performed, as the steps demand it.
#[derive(Debug)]
struct Held {
    platform: bool,
    follows: bool,
    connected: bool,
    compared: bool,
    fenced: bool,
    proven: bool,
    promotion: bool,
    switch: bool,
}

impl Held {
    fn before(past: &Past, world: &World) -> Held {
        let platform = world.fence == FenceKind::Platform;
        let after = |phases: &[Phase]| past.phase.is_some_and(|phase| phases.contains(&phase));
        let promotion = after(&[Phase::Promoted, Phase::Switching, Phase::Switched, Phase::Settled]);
        Held {
            platform,
            follows: world.master == MasterRole::Following,
            connected: false,
            compared: false,
            fenced: false,
            proven: false,
            promotion: promotion || after(&[Phase::Returning]),
            switch: after(&[Phase::Switching, Phase::Switched, Phase::Settled])
                // The change of the vars is a part of this fence, and journaled with it.
                || (platform && (promotion || after(&[Phase::Fenced]))),
        }
    }

    /// Returns true if the step finds what it needs, and adds what it makes.
    fn take(&mut self, step: Step) -> bool {
        let may = match step {
            DetachVars | PrebootOff | PrebootOn | CloseAccess | Ready | Fence | LongPause | StayPaused | StopApp
            | StartApp | AwaitRunning | AwaitClients | AwaitGone | Disconnect | Unpause | VarsBack | Follow
            | AwaitSync => true,
            Compare => self.connected && !self.fenced,
            Announce(Phase::Fenced) => self.compared && !self.fenced,
            Drain | Prove => self.compared && self.fenced && !self.proven,
            ProveStill => self.connected && !self.compared && self.fenced && self.promotion,
            Announce(Phase::Promoted) | AnnounceSwitch => self.fenced && (self.proven || self.promotion),
            Announce(Phase::Switching) => self.fenced,
            Promote | PromoteAndHold => self.proven,
            Hold => self.promotion && (self.fenced || self.platform),
            SetVars | AwaitRelease => self.switch,
            OpenAccess | Watch => self.promotion,
            ProveUnwritten => self.promotion || self.follows,
            Announce(_) => true,
        };
        match step {
            Ready => (self.connected, self.compared, self.fenced, self.proven) = (true, false, false, false),
            Compare => self.compared = true,
            Fence | LongPause => self.fenced = true,
            Prove | ProveStill => self.proven = true,
            Announce(Phase::Promoted) => self.promotion = true,
            AnnounceSwitch => (self.promotion, self.switch) = (true, true),
            Announce(Phase::Switching) => self.switch = true,
            Announce(Phase::Fenced) => (self.promotion, self.switch) = (false, self.switch || self.platform),
            Announce(Phase::Following) => (self.promotion, self.switch) = (false, false),
            Unpause => (self.fenced, self.proven) = (false, false),
            Follow => self.follows = true,
            _ => {}
        }
        may
    }
}

#[test]
fn no_step_of_any_list_comes_before_what_it_needs() {
    let phases = [
        Phase::Following,
        Phase::Fenced,
        Phase::Promoted,
        Phase::Switching,
        Phase::Switched,
        Phase::Settled,
        Phase::Returning,
    ];
    let mut lists = std::collections::BTreeSet::new();
    for number in 0..3 * 8 * 2 * 2 * 2 * 2 * 5 * 2 * 3 * 3 {
        let mut left = number;
        let mut choose = |of: usize| {
            let chosen = left % of;
            left /= of;
            chosen
        };
        let command = [Command::Promote, Command::SwitchApp, Command::Back][choose(3)];
        let phase = choose(8).checked_sub(1).map(|at| phases[at]);
        // An app that was stopped is behind the platform's fence, and that is in the journal.
        let fence = [FenceKind::Pause, FenceKind::Platform][choose(2)];
        let stopped = choose(2) == 1 && fence == FenceKind::Platform && phase > Some(Phase::Following);
        let past = Past {
            phase,
            detaching: choose(2) == 1,
            stopped,
        };
        let world = World {
            fence,
            master: [MasterRole::Following, MasterRole::Promoted][choose(2)],
            several: false,
            app: [
                Points::Source,
                Points::Endpoint,
                Points::Elsewhere,
                Points::Absent,
                Points::Mixed,
            ][choose(5)],
            release_pending: choose(2) == 1,
            source: [Still, Moved, Unknown][choose(3)],
            ours: [Still, Moved, Unknown][choose(3)],
        };
        for several in [false, true] {
            let world = World { several, ..world };
            let (Next::Do(steps) | Next::Then(steps)) = decide(command, &past, &world) else {
                continue;
            };
            let mut held = Held::before(&past, &world);
            for step in &steps {
                assert!(
                    held.take(*step),
                    "{step:?} comes too early for {past:?} {world:?} {held:?} in {steps:?}"
                );
            }
            lists.insert(format!("{steps:?}"));
        }
    }
    assert!(lists.len() > 30, "only {} lists were walked", lists.len());
}
