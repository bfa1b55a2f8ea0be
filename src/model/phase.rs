//! The words of a cutover: its phases, fences and commands.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A phase of a cutover, journaled before its effect; `drained` and `proven` are only shown.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// The master replicates from the source.
    Following,
    /// On the way back: app access at the endpoint closes, and the master will follow again.
    Returning,
    /// Nobody can write to the source.
    Fenced,
    /// Master and replica have applied all that the source had.
    Drained,
    /// The gate holds.
    Proven,
    /// The master has taken over the data; app access is closed.
    Promoted,
    /// From here the cutover only goes forward, unless the platform refuses the change.
    Switching,
    /// The platform runs the app on the endpoint.
    Switched,
    /// The source is quiet and the pause has ended.
    Settled,
}

impl Phase {
    pub fn name(self) -> &'static str {
        match self {
            Phase::Following => "following",
            Phase::Returning => "returning",
            Phase::Fenced => "fenced",
            Phase::Drained => "drained",
            Phase::Proven => "proven",
            Phase::Promoted => "promoted",
            Phase::Switching => "switching",
            Phase::Switched => "switched",
            Phase::Settled => "settled",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The kind of fence.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum FenceKind {
    /// The source holds writes back. It is short, and ends by itself.
    Pause,
    /// The app is stopped, and its vars name the closed endpoint. For sources that cannot pause.
    Platform,
}

impl fmt::Display for FenceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            FenceKind::Pause => "pause",
            FenceKind::Platform => "platform",
        })
    }
}

/// The command of a cutover.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Command {
    Promote,
    SwitchApp,
    /// `switch-app --back`
    Back,
}

impl Command {
    pub fn name(self) -> &'static str {
        match self {
            Command::Promote => "promote",
            Command::SwitchApp => "switch-app",
            Command::Back => "switch-app --back",
        }
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
