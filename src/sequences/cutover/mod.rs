//! Takes an app off its hosted Redis in one journaled sequence: fence, proof, promotion, switch.
//!
//! Never do both sides take the app's writes. On the source the [`fence`] decides that, on the
//! endpoint app access. `look` finds what is there, `history` what the journal says, and [`decide`]
//! chooses a list of steps. `run` performs it with what `reached` holds by then, and `failed` goes
//! back if a step fails. A rerun after a kill looks, decides, and goes on or back; the tests of
//! `decide` die at every step.
//!
//! **Going back.** Up to `promoted` every failure leads back: app access stays closed, the pause
//! ends, and a promoted master follows again if its stream shows no write. From `switching` on a
//! change may move the app, so the way is forward, unless the change was refused or never sent, its
//! release failed, or app access never opened; and then only if our side is proven unused, see
//! [`decide::may_take_back`]. Going back closes app access, asks our stream for writes, opens the
//! source, and sets the old vars last, since the platform may refuse. After a finished switch the
//! vars come before the source. If our side has writes after all, app access opens again and the
//! switch stays half done, with the source paused, until the command is run again.
//!
//! **If the tool dies**, short pauses end within seconds, that of `promote` at the printed time.
//! The long pause is set before `switching` has any effect, and outlasts the release. Whether the
//! source moved meanwhile is asked of its replication stream, never of a clock.

mod access;
mod announce;
mod app;
mod back;
mod clients;
mod compared;
mod detach;
mod failed;
pub mod fence;
pub mod figures;
mod foresee;
pub mod gate;
mod ground;
pub mod history;
mod interrupt;
mod keys;
mod late;
mod logs;
mod look;
mod onlookers;
pub mod pair;
mod proving;
mod reached;
pub mod record;
mod removals;
mod run;
mod settle;
pub mod setup;
mod sides;
mod state;
mod steps;
mod stop;
#[cfg(test)]
mod tests;
pub mod watch;

pub use crate::model::phase::{Command, FenceKind, Phase};
pub use figures::Outcome;
pub use foresee::{Staying, naming};
pub use pair::Hosts;
pub use record::Ledger;
pub use run::{fence_kind, preview, run};
pub use setup::{Authority, Limits, Setup};
