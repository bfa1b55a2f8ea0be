//! The steps of a planned failover, and the lists in which they are taken.

use crate::model::failover::Stage;

/// One effect. Each can be repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Writes to the state that a stage begins.
    Announce(Stage),
    /// Looks at health and lag, and prepares the settings of both hosts beside those in force.
    Ready,
    /// Turns the `app` user off on the replica, in its file first.
    CloseAccess,
    /// Puts a master's settings in force on the replica for its next start.
    Arm,
    /// The master pauses writes, drains, disconnects the app and gives its role to the replica.
    Yield,
    /// Makes the replica a master, if it is not one yet.
    TakeOver,
    /// Lets the app log in to the new master.
    OpenAccess,
    /// Moves the Elastic IP to the new master.
    MoveAddress,
    /// Writes the new roles to the state.
    Swap,
    /// Gives both instances the tags of their new roles.
    Tag,
    /// Makes both hosts what their roles in the state say.
    Bring,
    /// Waits until the old master follows, and a base of the new master is in the bucket.
    AwaitSync,
    /// Writes to the state that nothing is under way.
    Finish,
    /// Makes the old master's file and engine a master's again.
    Reclaim,
    /// Makes the replica follow the old master again.
    FollowAgain,
    /// Stops the old master or cuts it off, and proves it.
    Fence,
    /// Makes the replica a master, with the old one fenced.
    TakeOverAlone,
    /// Writes the new roles to the state, and that the old master has to follow when it is back.
    SwapAlone,
}

use Step::{
    Announce, Arm, AwaitSync, Bring, CloseAccess, Fence, Finish, FollowAgain, MoveAddress, OpenAccess, Ready, Reclaim,
    Swap, SwapAlone, Tag, TakeOver, TakeOverAlone, Yield,
};

/// The steps of a failover from its begin to its end.
///
/// The replica keeps the app out before it gets a master's settings, so that it takes no write of
/// the app after a restart. The old master's file changes within `Yield`, after the replica has
/// all: whoever restarts then cannot bring back older data.
pub(crate) const WHOLE: &[Step] = &[
    Announce(Stage::Preparing),
    Ready,
    CloseAccess,
    Arm,
    Announce(Stage::Yielding),
    Yield,
    TakeOver,
    OpenAccess,
    MoveAddress,
    Swap,
    Tag,
    Bring,
    AwaitSync,
    Finish,
];

/// The rest once the old master has given its role away.
pub(crate) const FORWARD: &[Step] = &[TakeOver, OpenAccess, MoveAddress, Swap, Tag, Bring, AwaitSync, Finish];

/// The rest once the roles in the state have changed.
pub(crate) const SETTLING: &[Step] = &[MoveAddress, Tag, Bring, AwaitSync, Finish];

/// The way back while the old master is the master. The replica follows before the app may log in.
pub(crate) const BACK: &[Step] = &[Reclaim, FollowAgain, OpenAccess, Finish];

/// The steps if the old master is gone or no longer works. The fence is proven before anything is promoted.
pub(crate) const FORCED: &[Step] = &[
    Announce(Stage::Preparing),
    Fence,
    Announce(Stage::Yielding),
    TakeOverAlone,
    OpenAccess,
    MoveAddress,
    SwapAlone,
    Tag,
];

impl Step {
    /// Returns its name as a fault point.
    pub fn name(self) -> String {
        match self {
            Announce(stage) => format!("failover {stage:?}").to_lowercase(),
            Ready => "failover ready".into(),
            CloseAccess => "failover close access".into(),
            Arm => "failover arm".into(),
            Yield => "failover yield".into(),
            TakeOver => "failover take over".into(),
            OpenAccess => "failover open access".into(),
            MoveAddress => "failover move address".into(),
            Swap => "failover swap".into(),
            Tag => "failover tag".into(),
            Bring => "failover bring".into(),
            AwaitSync => "failover await sync".into(),
            Finish => "failover finish".into(),
            Reclaim => "failover reclaim".into(),
            FollowAgain => "failover follow again".into(),
            Fence => "failover fence".into(),
            TakeOverAlone => "failover take over alone".into(),
            SwapAlone => "failover swap alone".into(),
        }
    }

    /// Returns what the step does, for a dry run.
    pub fn describe(self) -> String {
        match self {
            Announce(stage) => return format!("write to the state: {stage}"),
            Ready => "look at health and lag of both hosts; prepare their new settings beside those in force",
            CloseAccess => "keep the app out of the replica until the role has moved",
            Arm => "have the replica start as a master from now on; the running engine goes on following",
            Yield => {
                "pause writes on the master until the replica has all of them, close the app's connections, give the role to the replica"
            }
            TakeOver => "see that the old master follows, and that the new one is a master in its file too",
            OpenAccess => "let the app log in",
            MoveAddress => "move the endpoint's address to the new master",
            Swap => "write the new roles to the state",
            Tag => "give both instances the tags of their new roles",
            Bring => "bring both hosts to what their roles ask for: certificates, backups, settings",
            AwaitSync => "wait until the old master follows and a base of the new one is in the bucket",
            Finish => "write to the state that nothing is under way",
            Reclaim => "make the old master a master in its file and its engine",
            FollowAgain => "have the replica follow the old master again",
            Fence => {
                "stop the old master, and wait until EC2 says that it is stopped or terminated; if that hangs, cut it off by a network ACL and see that a write gets no answer"
            }
            TakeOverAlone => "promote the replica with the data that it has",
            SwapAlone => "write the new roles to the state, and that the old master has to follow when it is back",
        }
        .into()
    }
}
