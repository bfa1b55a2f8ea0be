//! The steps of a cutover and the lists that they stand in, one set for each kind of fence. What is decided between the lists is in `decide`.

use crate::model::phase::{FenceKind, Phase};

/// One effect, or one proof before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Makes the app's var a plain one and keeps the add-on attached under HOSTED_….
    DetachVars,
    PrebootOff,
    PrebootOn,
    /// The `app` user off, whoever used it severed.
    CloseAccess,
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
    /// The journal's entries of the promotion and of the switch, in one write, while writers wait.
    AnnounceSwitch,
    /// The promotion while the pause is made long, both at once.
    PromoteAndHold,
    /// The pause for as long as `--hold` says; the command ends here.
    Hold,
    LongPause,
    /// The pause no longer ends by itself: several apps are between two sides.
    StayPaused,
    OpenAccess,
    SetVars,
    AwaitRelease,
    /// The app without a process, under maintenance; how it stood is remembered.
    StopApp,
    StartApp,
    /// What was started runs the newest release.
    AwaitRunning,
    /// The grace of the processes that the release replaced: they may come back to the source for so long.
    AwaitClients,
    /// The same where nothing holds them back: nobody may return either.
    AwaitGone,
    /// Everybody who may write disconnected, until nobody was seen for some seconds.
    Disconnect,
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
    /// Returns its name as a fault point. The names are older than the words of the variants, and stay as they are.
    pub fn name(self) -> String {
        match self {
            Announce(phase) => return format!("journal {phase}"),
            // The last of the two entries that it writes.
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

    /// What it does, for whoever asks before it is done.
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

/// The lists of one kind of fence. They are what is executed, shown by `--dry-run` and tried against the model.
pub(crate) struct Lists {
    /// Before the promotion and apart from it.
    pub before: &'static [Step],
    /// From following to the proof.
    proving: &'static [Step],
    /// The same for a fence that stands already, in part or whole.
    proving_again: &'static [Step],
    promoting: &'static [Step],
    /// The promotion when the switch follows at once, with as little as can be inside the fence.
    promoting_to_switch: &'static [Step],
    pub hold: &'static [Step],
    pub hold_again: &'static [Step],
    pub take_over: &'static [Step],
    /// The switch after a promotion of its own.
    announcing: &'static [Step],
    /// The switch was announced already.
    announced: &'static [Step],
    moving_one: &'static [Step],
    /// Every change is sent before app access opens: until then each of them can be taken back.
    moving_several: &'static [Step],
    pub settle: &'static [Step],
    pub resume_settle: &'static [Step],
    /// From a promotion back to following. The app is on the source, or its change was refused.
    pub give_back: &'static [Step],
    /// The same from a finished switch: the apps have to move back first, and the source stays shut until all of them have.
    pub back_from_switch: &'static [Step],
}

impl Lists {
    pub fn promote(&self) -> Vec<Step> {
        [self.proving, self.promoting].concat()
    }

    pub fn resume(&self) -> Vec<Step> {
        [self.proving_again, self.promoting].concat()
    }

    /// From following to switched.
    pub fn straight(&self, several: bool) -> Vec<Step> {
        [self.proving, self.promoting_to_switch, self.moving(several)].concat()
    }

    /// From a promotion to switched.
    pub fn switch(&self, several: bool) -> Vec<Step> {
        [self.announcing, self.moving(several)].concat()
    }

    /// From a switch that was announced to switched.
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
    // A pause ends by itself: it always begins anew.
    proving_again: &[],
    promoting: &[Announce(Phase::Promoted), Promote],
    promoting_to_switch: &[AnnounceSwitch, PromoteAndHold],
    hold: &[Hold],
    hold_again: &[Ready, Fence, ProveStill, Announce(Phase::Promoted), Hold],
    // The new fence only begins here; the old pause may still run, and a shorter one does not shorten it. Flattening comes after the proof, while nothing can be
    // written.
    take_over: &[PrebootOff, Ready, Fence, ProveStill, DetachVars],
    announcing: &[Announce(Phase::Switching), LongPause],
    // The release decides. The pause is made long again first, should it have ended.
    announced: &[Ready, LongPause],
    // One app gets its change last: its new processes find app access open however soon they start.
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
    // The source opens before anything is asked of the platform: an app that is still there does not wait for a platform that refuses.
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

/// The change of vars is part of the fence: whatever starts from then on meets the closed door instead of the source.
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
    // The vars of every app were changed behind the fence, and no app has a process: there is nothing to tell apart by their number.
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

/// An app that was stopped before anything was promoted: the old URL first, then its processes.
pub(crate) const RESTART: &[Step] = &[VarsBack, StartApp, PrebootOn, Announce(Phase::Following)];
pub(crate) const MEND: &[Step] = &[DetachVars];
pub(crate) const MEND_ROLE: &[Step] = &[Ready, Follow, AwaitSync];

pub(crate) fn lists(fence: FenceKind) -> &'static Lists {
    match fence {
        FenceKind::Pause => &PAUSE,
        FenceKind::Platform => &PLATFORM,
    }
}
