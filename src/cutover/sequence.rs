//! The steps of a cutover and the lists that they stand in, one set for each kind of fence. What is decided between the lists is in `decide`.

use super::phase::{FenceKind, Phase};

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
    /// The app without a process, under maintenance; how it stood is remembered.
    StopApp,
    StartApp,
    /// What was started runs the newest release.
    AwaitRunning,
    /// The source's clients down to none that write.
    AwaitClients,
    /// The same where nothing holds them back: nobody may return either.
    AwaitGone,
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
            Fence => "fence the source: a pause of its writes, a few seconds at a time, or its offset once nobody is left who writes",
            StopApp => "stop the app: maintenance on, no processes; how it stood is remembered",
            StartApp => "start the app as it stood",
            AwaitRunning => "wait for the app's processes to run",
            AwaitGone => "wait for everybody who may write to leave the source and stay away",
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
    Announce, AwaitClients, AwaitGone, AwaitRelease, AwaitRunning, AwaitSync, CloseDoor, Compare, Drain, Fence,
    Flatten, Follow, Hold, LongPause, OpenDoor, PrebootOff, PrebootOn, Promote, Prove, ProveStill, ProveUnwritten,
    Ready, SetVars, Sever, StartApp, StopApp, Unpause, VarsBack, Watch,
};

/// The lists of one kind of fence. They are what is executed, shown by `--dry-run` and tried against the model.
pub(super) struct Lists {
    /// Before the promotion and apart from it.
    pub before: &'static [Step],
    pub promote: &'static [Step],
    /// The promotion's list for a fence that stands already, in part or whole.
    pub resume: &'static [Step],
    pub hold: &'static [Step],
    pub hold_again: &'static [Step],
    pub take_over: &'static [Step],
    pub switch: &'static [Step],
    /// The switch was announced already.
    pub forward: &'static [Step],
    pub settle: &'static [Step],
    pub resume_settle: &'static [Step],
    /// From a promotion back to following.
    pub give_back: &'static [Step],
}

const PAUSE: Lists = Lists {
    before: &[Flatten, PrebootOff],
    promote: &[
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
    ],
    // A pause ends by itself: it always begins anew.
    resume: &[],
    hold: &[Hold],
    hold_again: &[Ready, Fence, ProveStill, Announce(Phase::Promoted), Hold],
    // The new fence only begins here; the old pause may still run, and a shorter one does not shorten it. Flattening comes after the proof, while nothing can be
    // written.
    take_over: &[PrebootOff, Ready, Fence, ProveStill, Flatten],
    switch: &[
        Announce(Phase::Switching),
        LongPause,
        OpenDoor,
        SetVars,
        AwaitRelease,
        AwaitRunning,
        Announce(Phase::Switched),
    ],
    // The release decides. The pause is made long again first, should it have ended.
    forward: &[
        Ready,
        LongPause,
        OpenDoor,
        SetVars,
        AwaitRelease,
        AwaitRunning,
        Announce(Phase::Switched),
    ],
    settle: &[AwaitClients, Sever, Unpause, Watch, PrebootOn, Announce(Phase::Settled)],
    resume_settle: &[Ready, LongPause],
    give_back: &[
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
    ],
};

/// The change of vars is part of the fence: whatever starts from then on meets the closed door instead of the source.
const PLATFORM: Lists = Lists {
    before: &[Flatten, PrebootOff],
    promote: &[
        CloseDoor,
        Announce(Phase::Following),
        Ready,
        Compare,
        Announce(Phase::Fenced),
        StopApp,
        SetVars,
        AwaitRelease,
        AwaitGone,
        Fence,
        Drain,
        Prove,
        Announce(Phase::Promoted),
        Promote,
    ],
    resume: &[
        CloseDoor,
        Ready,
        Compare,
        Announce(Phase::Fenced),
        StopApp,
        SetVars,
        AwaitRelease,
        AwaitGone,
        Fence,
        Drain,
        Prove,
        Announce(Phase::Promoted),
        Promote,
    ],
    hold: &[Hold],
    hold_again: &[Hold],
    take_over: &[Ready, StopApp, SetVars, AwaitRelease, AwaitGone, Fence, ProveStill],
    switch: &[
        Announce(Phase::Switching),
        OpenDoor,
        StartApp,
        AwaitRunning,
        Announce(Phase::Switched),
    ],
    forward: &[
        Ready,
        SetVars,
        AwaitRelease,
        OpenDoor,
        StartApp,
        AwaitRunning,
        Announce(Phase::Switched),
    ],
    settle: &[Watch, PrebootOn, Announce(Phase::Settled)],
    resume_settle: &[Ready],
    give_back: &[
        Announce(Phase::Returning),
        Ready,
        CloseDoor,
        ProveUnwritten,
        VarsBack,
        StartApp,
        Follow,
        AwaitSync,
        PrebootOn,
        Announce(Phase::Following),
    ],
};

/// An app that was stopped before anything was promoted: the old URL first, then its processes.
pub(super) const RESTART: &[Step] = &[VarsBack, StartApp, PrebootOn, Announce(Phase::Following)];
pub(super) const MEND: &[Step] = &[Flatten];
pub(super) const MEND_ROLE: &[Step] = &[Ready, Follow, AwaitSync];

pub(super) fn lists(fence: FenceKind) -> &'static Lists {
    match fence {
        FenceKind::Pause => &PAUSE,
        FenceKind::Platform => &PLATFORM,
    }
}
