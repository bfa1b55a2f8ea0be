//! Taking an app off its hosted Redis: one journaled sequence that fences the source, proves that our master has all of it, promotes, and switches the app.
//!
//! Both sides have a door, and never are both open. The old one is the source's writes, shut by the [`fence`]: a pause, or the app's platform where the source allows none.
//! The new one is the `app` user on the endpoint. `phase` has the words, `history` what the journal says, `look` what the world shows, [`sequence`] the lists of steps, and
//! [`decide`] chooses among them. `run` performs such a list, and `failed` goes back when a step of it fails; what each does is in `announce` (the journal), `steps` (up to the promotion), `app` and `flatten` (vars and
//! attachments), `stop` (processes), `settle` (after the switch) and `back`. The [`gate`] alone makes the proof that a promotion wants. Everything is resumable: a
//! rerun after a kill anywhere looks, decides and goes on or back, and the tests of `decide` die at every step to show it.
//!
//! **Where it goes back.** Up to `promoted` every failure leads back: app access stays closed, the pause is lifted, and a promoted master follows again once its own stream has
//! shown that nobody wrote to it. From `switching` on a change may be under way that moves the app, so the way is forward, with three exceptions: the platform **refused** the
//! change or it was never sent; its release **failed** or expired; or app access was never opened. Each wants the proof that our side is unused ([`decide::may_take_back`]). The
//! order of the way back keeps one side shut: app access is closed, our stream must show no write, only then the source is opened, and then the old values are set where the
//! platform shows the new ones. The source comes before the platform, so that an app which is still there does not wait for a platform that refuses. If our side was written to
//! in spite of all, app access opens again and the switch stays half done, with the source paused, until the command is run again.
//!
//! **After the tool died.** The short pauses end by themselves within seconds and the app is back on its old side; the pause of `promote` ends at the time that it
//! printed; the long one, set before `switching` has any effect, outlasts the release. Whether the source moved meanwhile is asked of its replication stream, never of a clock.
//!
//! Deliberately not here: making hosts (`host`), comparing (`redis::compare`), and a planned failover between our own hosts.

mod access;
mod announce;
mod app;
mod back;
mod clients;
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
mod logs;
mod look;
mod onlookers;
pub mod pair;
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
