//! What to do next, from what the journal says and what the world shows. Pure: the same lists of steps are executed for real and tried against a model that
//! crashes anywhere.

use super::phase::{Command, Phase};
use super::vars::Points;

/// What was looked at before a decision. The journal says what was begun; only this says what happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct World {
    pub master: MasterRole,
    /// Whether the `app` user may log in to the master.
    pub door_open: bool,
    /// What the app's var names.
    pub app: Points,
    /// A release of the platform is under way.
    pub release_pending: bool,
    /// Whether the source was written to since the promotion's point.
    pub source: Stillness,
    /// Whether our own master was written to since its promotion.
    pub ours: Stillness,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MasterRole {
    Following,
    Promoted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stillness {
    /// Proven by the stream itself: nothing was written.
    Still,
    Moved,
    /// The stream could not be continued from there, so nothing is proven.
    Unknown,
}

/// One effect, or one proof before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Makes the app's var a plain one and keeps the add-on attached under HOSTED_….
    Flatten,
    PrebootOff,
    PrebootOn,
    /// The `app` user off, whoever used it severed.
    CloseDoor,
    /// Sessions to the hosts open, everybody's identity and health noted.
    Ready,
    /// The full comparison while following.
    Compare,
    /// The journal's entry that begins a phase.
    Announce(Phase),
    Fence,
    Drain,
    Prove,
    /// For a promotion that was made earlier: nothing was written on either side since.
    ProveStill,
    Promote,
    /// The pause for as long as `--hold` says; the command ends here.
    Hold,
    LongPause,
    OpenDoor,
    SetVars,
    AwaitRelease,
    /// The source's clients down to none that write.
    AwaitClients,
    Sever,
    Unpause,
    /// Late writes on the source.
    Watch,
    /// Nothing was written on our side since its promotion.
    ProveUnwritten,
    VarsBack,
    Follow,
    AwaitSync,
}

impl Step {
    /// What it does, for whoever asks before it is done.
    pub fn describe(self) -> String {
        match self {
            Flatten => "keep the add-on attached under HOSTED_…, and make the app's var a plain one where an attachment owns it",
            PrebootOff => "turn preboot off where it is on",
            PrebootOn => "turn preboot on again where it was",
            CloseDoor => "keep the app out of the master",
            Ready => "open the sessions to the hosts; see that the source may be paused and watched",
            Compare => "compare every key of source and master while following",
            Announce(phase) => return format!("write to the journal: {phase}"),
            Fence => "pause the source's writes, a few seconds at a time",
            Drain => "wait until master and replica have applied all that the source had",
            Prove => "compare again what was written meanwhile; prove that nothing moved",
            ProveStill => "prove that neither side was written to since the promotion",
            Promote => "promote the master",
            Hold => "let the pause run for `infra switch-app`",
            LongPause => "pause the source for as long as the switch can take",
            OpenDoor => "let the app log in to the master",
            SetVars => "set the app's vars to the endpoint, in one change",
            AwaitRelease => "wait for the release and for every process to run it",
            AwaitClients => "wait for the app's clients to leave the source",
            Sever => "sever those that stay",
            Unpause => "end the pause",
            Watch => "watch the source for late writes",
            ProveUnwritten => "prove that nobody wrote to the master since its promotion",
            VarsBack => "set the app's vars back to the source where they were changed",
            Follow => "make the master follow the source again",
            AwaitSync => "wait for master and replica to have a copy",
        }
        .into()
    }
}

use Step::{
    Announce, AwaitClients, AwaitRelease, AwaitSync, CloseDoor, Compare, Drain, Fence, Flatten, Follow, Hold,
    LongPause, OpenDoor, PrebootOff, PrebootOn, Promote, Prove, ProveStill, ProveUnwritten, Ready, SetVars, Sever,
    Unpause, VarsBack, Watch,
};

const PROMOTE: &[Step] = &[
    CloseDoor,
    Announce(Phase::Following),
    Ready,
    Compare,
    Announce(Phase::Fenced),
    Fence,
    Drain,
    Prove,
    Announce(Phase::Promoted),
    Promote,
];
const HOLD: &[Step] = &[Hold];
const MEND: &[Step] = &[Flatten];
const BEFORE_SWITCH: &[Step] = &[Flatten, PrebootOff];
/// The new fence only begins here; the old pause may still run, and a shorter one does not shorten it. Flattening comes after the proof, while nothing can be written.
const TAKE_OVER: &[Step] = &[PrebootOff, Ready, Fence, ProveStill, Flatten];
const HOLD_AGAIN: &[Step] = &[Ready, Fence, ProveStill, Announce(Phase::Promoted), Hold];
const SWITCH: &[Step] = &[
    Announce(Phase::Switching),
    LongPause,
    OpenDoor,
    SetVars,
    AwaitRelease,
    Announce(Phase::Switched),
];
/// The change was sent already: the release decides. The pause is made long again first, should it have ended.
const FORWARD: &[Step] = &[
    Ready,
    LongPause,
    OpenDoor,
    SetVars,
    AwaitRelease,
    Announce(Phase::Switched),
];
const SETTLE: &[Step] = &[AwaitClients, Sever, Unpause, Watch, PrebootOn, Announce(Phase::Settled)];
const RESUME_SETTLE: &[Step] = &[Ready, LongPause];
const RETURN: &[Step] = &[
    Announce(Phase::Returning),
    Ready,
    CloseDoor,
    ProveUnwritten,
    VarsBack,
    Unpause,
    Follow,
    AwaitSync,
    PrebootOn,
    Announce(Phase::Following),
];

/// What a command does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// These steps, and then the command is done.
    Do(Vec<Step>),
    /// These steps, and then decide again.
    Then(Vec<Step>),
    /// Nothing is left to do; why.
    Nothing(&'static str),
    Refuse(Refusal),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The app's var names the endpoint and no journal says that we did it.
    PointsAtUs,
    /// The app's var names neither side.
    PointsElsewhere,
    AppVarAbsent,
    /// The master follows nobody and no journal says why.
    PromotedByOthers,
    /// `promote` while a switch is half done.
    SwitchIsHalfDone,
    /// Both sides may have been written to.
    BothSidesWritten,
    /// After the switch the app's var was changed by somebody.
    ChangedAfterSwitch,
    /// The master follows somebody though the app was switched to it.
    FollowsAfterSwitch,
}

impl Refusal {
    /// What was found, fit to follow a colon, and what to try.
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
        }
    }
}

/// The way on. `flattening` says that one was begun and not finished: that is mended first, whatever comes then.
pub fn decide(command: Command, phase: Option<Phase>, flattening: bool, world: &World) -> Next {
    use MasterRole::{Following, Promoted};
    match (phase, world.master) {
        (None | Some(Phase::Following | Phase::Fenced | Phase::Drained | Phase::Proven), Promoted) => {
            Next::Refuse(Refusal::PromotedByOthers)
        }
        // A promotion that was announced and did not happen: the pause has ended by itself.
        (None | Some(Phase::Following | Phase::Fenced | Phase::Drained | Phase::Proven), Following)
        | (Some(Phase::Promoted), Following) => begin(command, phase, flattening, world),
        (Some(Phase::Promoted), Promoted) => match (world.source, command) {
            (Stillness::Still, Command::Promote) => Next::Do(HOLD_AGAIN.to_vec()),
            (Stillness::Still, Command::SwitchApp) => Next::Do([TAKE_OVER, SWITCH, SETTLE].concat()),
            (Stillness::Moved | Stillness::Unknown, _) => Next::Then(RETURN.to_vec()),
        },
        (Some(Phase::Returning), _) => Next::Then(RETURN.to_vec()),
        (Some(Phase::Switching | Phase::Switched), Promoted) if command == Command::Promote => {
            Next::Refuse(Refusal::SwitchIsHalfDone)
        }
        (Some(Phase::Switching), Promoted) => switching(world),
        (Some(Phase::Switching), Following) => Next::Refuse(Refusal::FollowsAfterSwitch),
        (Some(Phase::Switched), Promoted) => match world.app {
            Points::Endpoint => Next::Do([RESUME_SETTLE, SETTLE].concat()),
            _ => Next::Refuse(Refusal::ChangedAfterSwitch),
        },
        (Some(Phase::Switched | Phase::Settled), Following) => Next::Refuse(Refusal::FollowsAfterSwitch),
        (Some(Phase::Settled), Promoted) => match (world.app, command) {
            (Points::Endpoint, Command::SwitchApp) => Next::Nothing("the app runs on the endpoint; the switch is done"),
            (Points::Endpoint, Command::Promote) => {
                Next::Nothing("the app runs on the promoted master; a planned failover to the replica is not built yet")
            }
            _ => Next::Refuse(Refusal::ChangedAfterSwitch),
        },
    }
}

fn begin(command: Command, phase: Option<Phase>, flattening: bool, world: &World) -> Next {
    match world.app {
        Points::Endpoint => return Next::Refuse(Refusal::PointsAtUs),
        Points::Elsewhere => return Next::Refuse(Refusal::PointsElsewhere),
        Points::Absent if !flattening => return Next::Refuse(Refusal::AppVarAbsent),
        Points::Absent | Points::Source => {}
    }
    // The announced promotion may have reached the host's file; it is made to say again what is true.
    let mend_role: &[Step] = match phase {
        Some(Phase::Promoted) => &[Step::Ready, Step::Follow, Step::AwaitSync],
        _ => &[],
    };
    Next::Do(match command {
        Command::Promote if flattening => [MEND, mend_role, PROMOTE, HOLD].concat(),
        Command::Promote => [mend_role, PROMOTE, HOLD].concat(),
        Command::SwitchApp => [BEFORE_SWITCH, mend_role, PROMOTE, SWITCH, SETTLE].concat(),
    })
}

fn switching(world: &World) -> Next {
    match (world.app, world.release_pending, world.source, world.ours) {
        (Points::Endpoint, ..) | (_, true, Stillness::Still, _) => Next::Do([FORWARD, SETTLE].concat()),
        (_, false, Stillness::Still, _) => Next::Do([TAKE_OVER, SWITCH, SETTLE].concat()),
        // The pause ended before the app was moved: it went on writing on its old side, and the new one is unused. With the door closed, what a release
        // that is still under way starts can only fail.
        (.., Stillness::Still) => Next::Then(RETURN.to_vec()),
        _ => Next::Refuse(Refusal::BothSidesWritten),
    }
}

/// What a command would do, told from the journal alone: the very lists that are executed, were the world as the journal expects it.
pub fn outline(command: Command, phase: Option<Phase>) -> Vec<String> {
    let promoted = matches!(
        phase,
        Some(Phase::Promoted | Phase::Returning | Phase::Switching | Phase::Switched | Phase::Settled)
    );
    let switched = matches!(phase, Some(Phase::Switched | Phase::Settled));
    let expected = World {
        master: if promoted {
            MasterRole::Promoted
        } else {
            MasterRole::Following
        },
        door_open: switched,
        app: if switched { Points::Endpoint } else { Points::Source },
        release_pending: false,
        source: Stillness::Still,
        ours: Stillness::Still,
    };
    match decide(command, phase, false, &expected) {
        Next::Do(steps) | Next::Then(steps) => steps.into_iter().map(Step::describe).collect(),
        Next::Nothing(why) => vec![why.into()],
        Next::Refuse(refusal) => vec![refusal.explain().0.into()],
    }
}

/// The way back from a release that the platform ended badly, or from a promotion that is given up.
pub fn way_back() -> Vec<Step> {
    RETURN.to_vec()
}

#[cfg(test)]
#[path = "model_tests.rs"]
mod model_tests;
#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
