//! Decides what to do next, from the journal and from what was found. Pure: the same lists of steps
//! are executed for real and tried against a model that crashes anywhere.

pub mod steps;

use crate::decide::vars::Points;
use crate::model::phase::{Command, FenceKind, Phase};
use steps::{Lists, MEND, MEND_ROLE, RESTART, Step, lists};

/// Holds what the journal says was begun.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Past {
    pub phase: Option<Phase>,
    /// A detachment was begun and not finished.
    pub detaching: bool,
    /// We stopped the app and did not start it since.
    pub stopped: bool,
}

/// Holds what was found. The journal says what was begun; only this says what happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct World {
    /// The kind of fence that the source has, or would get.
    pub fence: FenceKind,
    pub master: MasterRole,
    /// More than one app is switched.
    pub several: bool,
    /// The side that the app's var names.
    pub app: Points,
    /// A release of the platform is under way.
    pub release_pending: bool,
    /// Writes to the source after the offset of the promotion.
    pub source: Stillness,
    /// Writes to the master after its promotion.
    pub ours: Stillness,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MasterRole {
    Following,
    Promoted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stillness {
    /// The replication stream proves that nothing was written.
    Still,
    Moved,
    /// The stream could not be continued from that offset, so nothing is proven.
    Unknown,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Takes these steps and ends the command.
    Do(Vec<Step>),
    /// Takes these steps and decides again.
    Then(Vec<Step>),
    /// Waits until no release of the app is under way, and decides again.
    Wait,
    /// Does nothing, for this reason.
    Nothing(&'static str),
    Refuse(Refusal),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The app's var names the endpoint, but the journal knows of no switch.
    PointsAtUs,
    /// The app's var names neither side.
    PointsElsewhere,
    AppVarAbsent,
    /// The master follows nobody, but the journal knows of no promotion.
    PromotedByOthers,
    /// `promote` was called while a switch is half done.
    SwitchIsHalfDone,
    /// Both sides may have been written to.
    BothSidesWritten,
    /// Somebody changed the app's var after the switch.
    ChangedAfterSwitch,
    /// The master follows a server although the app was switched to the master.
    FollowsAfterSwitch,
    /// `--back` was called, but the new side was written to, or may have been.
    WrittenSinceSwitch,
}

impl Refusal {
    /// Returns what was found, fit to follow a colon, and what to try.
    pub fn explain(self) -> (&'static str, &'static str) {
        match self {
            Refusal::PointsAtUs => (
                "the app's var names the endpoint already, and the journal knows of no switch",
                "set the var back to the source's URL, then run the same command again",
            ),
            Refusal::PointsElsewhere => (
                "the app's var names neither the source nor the endpoint",
                "see `app.config_var` and `source` in infra.yml: they must name the Redis that the app uses",
            ),
            Refusal::AppVarAbsent => (
                "the app has no such config var",
                "see `app.config_var` in infra.yml; set the var to the source's URL if it was lost",
            ),
            Refusal::PromotedByOthers => (
                "the master follows nobody, and the journal knows of no promotion",
                "run `infra up`: it makes the master follow the source again if nobody wrote to it",
            ),
            Refusal::SwitchIsHalfDone => (
                "a switch is half done, and from there the way is forward",
                "run `infra switch-app` with the same --confirm",
            ),
            Refusal::BothSidesWritten => (
                "the source was written to after the promotion, and it is not proven that our side was not",
                "run `infra verify` to see how they differ; nothing was changed, and whoever knows the data must choose a side",
            ),
            Refusal::ChangedAfterSwitch => (
                "the app was switched, and its var names something else by now",
                "set the var back to the endpoint, or run `infra status` to see where the data is",
            ),
            Refusal::FollowsAfterSwitch => (
                "the app was switched to the master, and the master follows another server",
                "look at the master's role with `infra status` before anything else",
            ),
            Refusal::WrittenSinceSwitch => (
                "the new side was written to since the switch, and going back would lose that",
                "nothing was changed: the app goes on where it is. Whoever must go back carries those writes over by hand first",
            ),
        }
    }
}

pub fn decide(command: Command, past: &Past, world: &World) -> Next {
    use MasterRole::{Following, Promoted};
    let lists = lists(world.fence);
    match (past.phase, world.master) {
        (None | Some(Phase::Following | Phase::Fenced | Phase::Drained | Phase::Proven), Promoted) => {
            Next::Refuse(Refusal::PromotedByOthers)
        }
        // An announced promotion did not happen: a pause has ended, a stopped app is still stopped.
        (
            None | Some(Phase::Following | Phase::Fenced | Phase::Drained | Phase::Proven | Phase::Promoted),
            Following,
        ) => begin(command, past, world),
        (Some(Phase::Promoted), Promoted) => match (world.source, command) {
            (_, Command::Back) => Next::Do(lists.give_back.to_vec()),
            (Stillness::Still, Command::Promote) => Next::Do(lists.hold_again.to_vec()),
            (Stillness::Still, Command::SwitchApp) => {
                Next::Do(joined(&[lists.take_over, &lists.switch(world.several), lists.settle]))
            }
            (Stillness::Moved | Stillness::Unknown, _) => Next::Then(lists.give_back.to_vec()),
        },
        (Some(Phase::Returning), _) if command == Command::Back => Next::Do(returning(lists, world).to_vec()),
        (Some(Phase::Returning), _) => Next::Then(returning(lists, world).to_vec()),
        // No app wrote to the new side, so the change can be taken back, even if it was made.
        (Some(Phase::Switching), Promoted) if command == Command::Back => match world.ours {
            Stillness::Still => Next::Do(lists.give_back.to_vec()),
            Stillness::Moved | Stillness::Unknown => Next::Refuse(Refusal::SwitchIsHalfDone),
        },
        (Some(Phase::Switching), Promoted) if command == Command::Promote => Next::Refuse(Refusal::SwitchIsHalfDone),
        (Some(Phase::Switched), Promoted) if command == Command::Promote => Next::Refuse(Refusal::SwitchIsHalfDone),
        (Some(Phase::Switching), Promoted) => switching(lists, world),
        (Some(Phase::Switched | Phase::Settled), Promoted) if command == Command::Back => match (world.app, world.ours)
        {
            (Points::Endpoint, Stillness::Still) => Next::Do(lists.back_from_switch.to_vec()),
            (Points::Endpoint, _) => Next::Refuse(Refusal::WrittenSinceSwitch),
            _ => Next::Refuse(Refusal::ChangedAfterSwitch),
        },
        (Some(Phase::Switched), Promoted) => match world.app {
            Points::Endpoint => Next::Do([lists.resume_settle, lists.settle].concat()),
            _ => Next::Refuse(Refusal::ChangedAfterSwitch),
        },
        // A way back that was cut short: its release may fail, and then the vars change once more.
        (Some(Phase::Switching), Following) if world.app == Points::Source && world.release_pending => Next::Wait,
        // Promotion and switch were announced together, and neither happened.
        (Some(Phase::Switching), Following) if world.app == Points::Source => begin(command, past, world),
        (Some(Phase::Switching | Phase::Switched | Phase::Settled), Following) => {
            Next::Refuse(Refusal::FollowsAfterSwitch)
        }
        (Some(Phase::Settled), Promoted) => match (world.app, command) {
            (Points::Endpoint, Command::SwitchApp) => Next::Nothing("the app runs on the endpoint; the switch is done"),
            (Points::Endpoint, _) => Next::Nothing("the app runs on the promoted master"),
            _ => Next::Refuse(Refusal::ChangedAfterSwitch),
        },
    }
}

fn begin(command: Command, past: &Past, world: &World) -> Next {
    let lists = lists(world.fence);
    let announced = matches!(past.phase, Some(Phase::Promoted | Phase::Switching));
    if past.stopped {
        // The vars decide nothing, since an earlier run may have set them. The app is down.
        let mend: &[Step] = if past.detaching { MEND } else { &[] };
        return match command {
            Command::Back if announced => Next::Do(lists.give_back.to_vec()),
            Command::Back => Next::Do(RESTART.to_vec()),
            Command::Promote => Next::Do(joined(&[mend, mend_role(announced), &lists.resume(), lists.hold])),
            Command::SwitchApp => Next::Do(joined(&[
                mend,
                mend_role(announced),
                &lists.resume(),
                &lists.switch(world.several),
                lists.settle,
            ])),
        };
    }
    match world.app {
        Points::Endpoint => return Next::Refuse(Refusal::PointsAtUs),
        Points::Elsewhere | Points::Mixed => return Next::Refuse(Refusal::PointsElsewhere),
        Points::Absent if !past.detaching => return Next::Refuse(Refusal::AppVarAbsent),
        Points::Absent | Points::Source => {}
    }
    let before: &[Step] = match (command, world.fence, past.detaching) {
        // The platform's fence changes the vars, so they must be plain before it.
        (Command::SwitchApp, ..) | (Command::Promote, FenceKind::Platform, _) => lists.before,
        (_, FenceKind::Pause, true) | (Command::Back, _, true) => MEND,
        _ => &[],
    };
    match command {
        Command::Back if announced => Next::Do([before, lists.give_back].concat()),
        Command::Back if past.detaching => Next::Do(MEND.to_vec()),
        Command::Back => Next::Nothing("the app runs on the source; there is nothing to go back from"),
        Command::Promote => Next::Do(joined(&[before, mend_role(announced), &lists.promote(), lists.hold])),
        Command::SwitchApp => Next::Do(joined(&[
            before,
            mend_role(announced),
            &lists.straight(world.several),
            lists.settle,
        ])),
    }
}

/// Returns the rest of a way back. The source stays fenced while an app names the endpoint.
fn returning(lists: &Lists, world: &World) -> &'static [Step] {
    match (world.app, world.master) {
        (Points::Endpoint, MasterRole::Promoted) => lists.back_from_switch,
        _ => lists.give_back,
    }
}

fn joined(parts: &[&[Step]]) -> Vec<Step> {
    parts.concat()
}

/// Makes the master follow again: an announced promotion may stand in the host's file already.
fn mend_role(announced: bool) -> &'static [Step] {
    if announced { MEND_ROLE } else { &[] }
}

fn switching(lists: &Lists, world: &World) -> Next {
    match (world.app, world.release_pending, world.source, world.ours) {
        (Points::Endpoint, ..) | (Points::Mixed, _, Stillness::Still, _) | (_, true, Stillness::Still, _) => {
            Next::Do(joined(&[&lists.forward(world.several), lists.settle]))
        }
        (_, false, Stillness::Still, Stillness::Still) => {
            Next::Do(joined(&[lists.take_over, &lists.switch(world.several), lists.settle]))
        }
        // Somebody wrote while app access was open. Going on loses nothing; going back might.
        (_, false, Stillness::Still, _) => Next::Do(joined(&[&lists.forward(world.several), lists.settle])),
        // The pause ended before the app moved, so the app still uses the source and the master is
        // unused. With app access closed, what a release under way starts can only fail.
        (.., Stillness::Still) => Next::Then(lists.give_back.to_vec()),
        _ => Next::Refuse(Refusal::BothSidesWritten),
    }
}

/// The facts after a step failed once the switch was announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The release failed or the source was written to, so the switch is given up.
    pub given_up: bool,
    /// The error says that the change was refused or never sent.
    pub nothing_changed: bool,
    /// This run sent a change that the platform accepted.
    pub sent: bool,
    /// It is unknown whether a change was made.
    pub unclear: bool,
    /// An earlier run's change moved an app, or is under way.
    pub moved_before: bool,
    /// This run opened app access, or may have.
    pub access_opened: bool,
    /// The master's stream proves that nobody wrote to it since its promotion.
    pub unused: bool,
}

/// Returns true if an announced switch may be taken back: that loses no write, and no change is
/// under way that could still move an app.
pub fn may_take_back(failure: &Failure) -> bool {
    let nobody_was_moved = !failure.sent && !failure.moved_before;
    let nobody_was_let_in = !failure.access_opened && !failure.moved_before;
    failure.unused
        && !failure.unclear
        && (failure.given_up || failure.nothing_changed || nobody_was_moved || nobody_was_let_in)
}

/// Returns the steps back from a release that failed, or from a promotion that is given up.
pub fn way_back(fence: FenceKind) -> Vec<Step> {
    lists(fence).give_back.to_vec()
}

/// Returns the steps back for an app that was stopped before anything was promoted.
pub fn restart() -> Vec<Step> {
    RESTART.to_vec()
}

#[cfg(test)]
mod lists_tests;
#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod tests;
