//! The words of a cutover: how far it is, and what it was asked to do.

use serde::{Deserialize, Serialize};
use std::fmt;

/// How far a cutover is. Each is journaled before its effect; `drained` and `proven` have none of their own and are only shown.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// The master replicates from the source.
    Following,
    /// On the way back: the new door closes and the master will follow again.
    Returning,
    /// Nothing can write to the source.
    Fenced,
    /// Master and replica have applied all that the source had.
    Drained,
    /// The gate holds.
    Proven,
    /// The master takes over the data; its door is closed.
    Promoted,
    /// From here only forward, unless the platform refuses the change.
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

/// By what nothing can write to the source.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum FenceKind {
    /// The source holds every write back: short, and it ends by itself.
    Pause,
    /// The app is stopped and its vars name the endpoint already, whose door is shut: for sources that cannot be paused.
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

/// The command that runs.
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
