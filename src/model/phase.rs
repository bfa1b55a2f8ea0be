//! The words of a cutover: its phases, fences and commands.

use serde::{Deserialize, Serialize};
use strum::{Display, IntoStaticStr};

/// A phase of a cutover, journaled before its effect; `drained` and `proven` are only shown.
#[derive(Clone, Copy, Debug, Deserialize, Display, IntoStaticStr, Serialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
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
        self.into()
    }
}

#[derive(Clone, Copy, Debug, Deserialize, Display, Serialize, PartialEq, Eq, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum FenceKind {
    /// The source holds writes back. It is short, and ends by itself.
    Pause,
    /// The app is stopped, and its vars name the closed endpoint. For sources that cannot pause.
    Platform,
}

#[derive(Clone, Copy, Debug, Deserialize, Display, IntoStaticStr, Serialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum Command {
    Promote,
    SwitchApp,
    #[strum(to_string = "switch-app --back")]
    Back,
}

impl Command {
    pub fn name(self) -> &'static str {
        self.into()
    }
}
