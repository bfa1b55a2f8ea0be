//! The steps of a cutover, in lists for each kind of fence. `decide` chooses between the lists.

use crate::model::phase::{FenceKind, Phase};

/// One effect, or one proof before an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Makes the app's var a plain one and keeps the add-on attached under HOSTED_….
    DetachVars,
    PrebootOff,
    PrebootOn,
    /// Turns the `app` user off and disconnects its clients.
    CloseAccess,
    /// Opens the sessions to the hosts, and notes identity and health of source and pair.
    Ready,
    /// Compares all keys while the master follows.
    Compare,
    /// Writes the journal's entry that begins a phase.
    Announce(Phase),
    Fence,
    Drain,
    Prove,
    /// Proves that neither side was written to since an earlier promotion.
    ProveStill,
    Promote,
    /// Writes the entries of promotion and switch in one write, because writers wait meanwhile.
    AnnounceSwitch,
    /// Promotes and makes the pause long at the same time.
    PromoteAndHold,
    /// Pauses for as long as `--hold` says; the command ends here.
    Hold,
    LongPause,
    /// Keeps the pause from ending by itself while several apps are between the two sides.
    StayPaused,
    OpenAccess,
    SetVars,
    AwaitRelease,
    /// Stops all processes under maintenance, and remembers how the app stood.
    StopApp,
    StartApp,
    /// Waits until what was started runs the newest release.
    AwaitRunning,
    /// Waits for the grace of replaced processes, during which they may come back to the source.
    AwaitClients,
    /// Waits until all writers have left the source and stay away; no pause holds them back.
    AwaitGone,
    /// Disconnects every client that may write, until none was seen for some seconds.
    Disconnect,
    Unpause,
    /// Looks for late writes on the source.
    Watch,
    /// Proves that nobody wrote to the master since its promotion.
    ProveUnwritten,
    VarsBack,
    Follow,
    AwaitSync,
}

impl Step {
    /// Returns its name as a fault point. These names are older than the variants' and must stay.
    pub fn name(self) -> String {
        match self {
            Announce(phase) => return format!("journal {phase}"),
            // It writes two entries; this is the last of them.
            AnnounceSwitch => return format!("journal {}", Phase::Switching),
            PromoteAndHold => "promote",
            DetachVars => "flatten",
            PrebootOff => "preboot off",
            PrebootOn => "preboot on",
            CloseAccess => "close door",
            Ready => "ready",
            Compare => "compare",
            Fence => "fence",
            Drain => "drain",
            Prove => "prove",
            ProveStill => "prove still",
            Promote => "promote",
            Hold => "hold",
            LongPause => "long pause",
            StayPaused => "stay paused",
            OpenAccess => "open door",
            SetVars => "set vars",
            AwaitRelease => "await release",
            StopApp => "stop app",
            StartApp => "start app",
            AwaitRunning => "await running",
            AwaitClients => "await clients",
            AwaitGone => "await gone",
            Disconnect => "sever",
            Unpause => "unpause",
            Watch => "watch",
            ProveUnwritten => "prove unwritten",
            VarsBack => "vars back",
            Follow => "follow",
            AwaitSync => "await sync",
        }
        .into()
    }

    /// Returns what the step does, for a dry run.
    pub fn describe(self) -> String {
        match self {
            DetachVars => "keep the add-on attached under HOSTED_…, and make the app's var a plain one where an attachment owns it",
            PrebootOff => "turn preboot off where it is on",
            PrebootOn => "turn preboot on again where it was",
            CloseAccess => "keep the app out of the master",
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
            AnnounceSwitch => "write to the journal: promoted, and switching",
            PromoteAndHold => "promote the master, and pause the source for as long as the switch can take",
            Hold => "let the pause run for `infra switch-app`",
            LongPause => "pause the source for as long as the switch can take",
            StayPaused => "pause the source until every app has moved, however long that takes",
            OpenAccess => "let the app log in to the master",
            SetVars => "set the app's vars to the endpoint, in one change",
            AwaitRelease => "wait for the release and for every process to run it",
            AwaitClients => "wait until no process that was replaced can be alive; the source stays paused",
            Disconnect => "disconnect whoever may still write to the source, until nobody comes back",
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
    Announce, AnnounceSwitch, AwaitClients, AwaitGone, AwaitRelease, AwaitRunning, AwaitSync, CloseAccess, Compare,
    DetachVars, Disconnect, Drain, Fence, Follow, Hold, LongPause, OpenAccess, PrebootOff, PrebootOn, Promote,
    PromoteAndHold, Prove, ProveStill, ProveUnwritten, Ready, SetVars, StartApp, StayPaused, StopApp, Unpause,
    VarsBack, Watch,
};

/// The lists of one kind of fence: executed, shown by `--dry-run`, and tried against the model.
pub(crate) struct Lists {
    /// Prepares the app before the cutover.
    pub before: &'static [Step],
    /// The steps from following to the proof.
    proving: &'static [Step],
    /// The steps from a fence that stands in part or whole to the proof.
    proving_again: &'static [Step],
    promoting: &'static [Step],
    /// The promotion if the switch follows at once: as few steps as possible are inside the fence.
    promoting_to_switch: &'static [Step],
    pub hold: &'static [Step],
    pub hold_again: &'static [Step],
    pub take_over: &'static [Step],
    /// Begins a switch after a promotion of its own.
    announcing: &'static [Step],
    /// Resumes a switch that was announced already.
    announced: &'static [Step],
    moving_one: &'static [Step],
    /// Every change is sent before app access opens, since until then each can be taken back.
    moving_several: &'static [Step],
    pub settle: &'static [Step],
    pub resume_settle: &'static [Step],
    /// The steps from a promotion back to following, for an app on the source or one whose change
    /// was refused.
    pub give_back: &'static [Step],
    /// The steps from a finished switch back to following. The source stays fenced until all apps
    /// have moved back.
    pub back_from_switch: &'static [Step],
}

impl Lists {
    pub fn promote(&self) -> Vec<Step> {
        [self.proving, self.promoting].concat()
    }

    pub fn resume(&self) -> Vec<Step> {
        [self.proving_again, self.promoting].concat()
    }

    /// Returns the steps from following to switched.
    pub fn straight(&self, several: bool) -> Vec<Step> {
        [self.proving, self.promoting_to_switch, self.moving(several)].concat()
    }

    /// Returns the steps from a promotion to switched.
    pub fn switch(&self, several: bool) -> Vec<Step> {
        [self.announcing, self.moving(several)].concat()
    }

    /// Returns the steps from an announced switch to switched.
    pub fn forward(&self, several: bool) -> Vec<Step> {
        [self.announced, self.moving(several)].concat()
    }

    fn moving(&self, several: bool) -> &'static [Step] {
        if several { self.moving_several } else { self.moving_one }
    }
}

const PAUSE: Lists = Lists {
    before: &[DetachVars, PrebootOff],
    proving: &[
        CloseAccess,
        Announce(Phase::Following),
        Ready,
        Compare,
        Announce(Phase::Fenced),
        Fence,
        Drain,
        Prove,
    ],
    // A pause ends by itself, so it always begins anew.
    proving_again: &[],
    promoting: &[Announce(Phase::Promoted), Promote],
    promoting_to_switch: &[AnnounceSwitch, PromoteAndHold],
    hold: &[Hold],
    hold_again: &[Ready, Fence, ProveStill, Announce(Phase::Promoted), Hold],
    // The new fence begins here. The old pause may still run; a shorter one does not shorten it.
    // Detaching comes after the proof, while nothing can be written.
    take_over: &[PrebootOff, Ready, Fence, ProveStill, DetachVars],
    announcing: &[Announce(Phase::Switching), LongPause],
    // The release decides where the app is. The pause is made long again first, if it has ended.
    announced: &[Ready, LongPause],
    // The change comes last, so that new processes find app access open however soon they start.
    moving_one: &[
        OpenAccess,
        SetVars,
        AwaitRelease,
        AwaitRunning,
        Announce(Phase::Switched),
    ],
    moving_several: &[
        SetVars,
        StayPaused,
        OpenAccess,
        AwaitRelease,
        AwaitRunning,
        Announce(Phase::Switched),
    ],
    settle: &[
        AwaitClients,
        Disconnect,
        Unpause,
        Watch,
        PrebootOn,
        Announce(Phase::Settled),
    ],
    resume_settle: &[Ready, LongPause],
    // The source takes writes again before the platform is asked, since the platform may refuse.
    give_back: &[
        Announce(Phase::Returning),
        CloseAccess,
        ProveUnwritten,
        Unpause,
        VarsBack,
        Follow,
        AwaitSync,
        PrebootOn,
        Announce(Phase::Following),
    ],
    back_from_switch: &[
        Announce(Phase::Returning),
        Fence,
        CloseAccess,
        ProveUnwritten,
        VarsBack,
        Unpause,
        Follow,
        AwaitSync,
        PrebootOn,
        Announce(Phase::Following),
    ],
};

/// The change of vars is part of the fence: new processes find app access closed, not the source.
const PLATFORM: Lists = Lists {
    before: &[DetachVars, PrebootOff],
    proving: &[
        CloseAccess,
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
    ],
    proving_again: &[
        CloseAccess,
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
    ],
    promoting: &[Announce(Phase::Promoted), Promote],
    promoting_to_switch: &[Announce(Phase::Promoted), Promote, Announce(Phase::Switching)],
    hold: &[Hold],
    hold_again: &[Hold],
    take_over: &[Ready, StopApp, SetVars, AwaitRelease, AwaitGone, Fence, ProveStill],
    announcing: &[Announce(Phase::Switching)],
    announced: &[Ready, SetVars, AwaitRelease],
    // The vars of all apps changed behind the fence, and no app runs: their number does not matter.
    moving_one: PLATFORM_MOVING,
    moving_several: PLATFORM_MOVING,
    settle: &[Watch, PrebootOn, Announce(Phase::Settled)],
    resume_settle: &[Ready],
    give_back: PLATFORM_BACK,
    back_from_switch: PLATFORM_BACK,
};

const PLATFORM_MOVING: &[Step] = &[OpenAccess, StartApp, AwaitRunning, Announce(Phase::Switched)];

const PLATFORM_BACK: &[Step] = &[
    Announce(Phase::Returning),
    CloseAccess,
    ProveUnwritten,
    VarsBack,
    StartApp,
    Follow,
    AwaitSync,
    PrebootOn,
    Announce(Phase::Following),
];

/// Restarts an app that was stopped before a promotion: first its old URL, then its processes.
pub(crate) const RESTART: &[Step] = &[VarsBack, StartApp, PrebootOn, Announce(Phase::Following)];
pub(crate) const MEND: &[Step] = &[DetachVars];
pub(crate) const MEND_ROLE: &[Step] = &[Ready, Follow, AwaitSync];

pub(crate) fn lists(fence: FenceKind) -> &'static Lists {
    match fence {
        FenceKind::Pause => &PAUSE,
        FenceKind::Platform => &PLATFORM,
    }
}
