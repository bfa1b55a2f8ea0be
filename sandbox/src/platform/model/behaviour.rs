//! How the platform misbehaves: the knobs of tests.

use serde::{Deserialize, Serialize};

/// How the platform misbehaves. Times in seconds of the original, before scaling.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Behaviour {
    /// Every change waits for this before it takes effect.
    pub release_phase: Option<ReleasePhase>,
    /// From the creation of a dyno to the start of its command.
    pub boot_seconds: f64,
    /// Processes get no SIGTERM; they live until they are killed.
    pub sigterm_ignored: bool,
    /// The next requests for the app fail with this status, before anything is done.
    pub api_failures: Failures,
    /// This many of the next changing requests are carried out, and their answers lost.
    pub drop_after_commit: u32,
    /// Old web dynos serve for three minutes beside the new ones.
    pub preboot: bool,
    /// How many items a list gives at once.
    pub page_size: usize,
    /// Starts one-off dynos of itself, in maintenance mode too.
    pub scheduler: Option<Scheduler>,
    /// Variables whose values the API does not show.
    pub masked_vars: MaskedVars,
    /// Process types whose dynos sleep: they are listed as `idle`, run nothing and are not replaced.
    pub asleep: Vec<String>,
    /// Process types whose dynos crash for good: no further start is tried.
    pub crashing: Vec<String>,
    pub logs: Logs,
}

/// How the platform gives out logs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Logs {
    /// A line can be read this many real seconds after it was written.
    pub late_seconds: f64,
    /// The answer does not end, and a number of lines cannot be asked for, as on Fir.
    pub endless: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReleasePhase {
    pub seconds: f64,
    #[serde(default)]
    pub fails: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Failures {
    pub status: u16,
    pub count: u32,
    /// How many such requests pass first.
    pub skip: u32,
    /// The error id, in place of the usual one of the status: `suspended` with 403.
    pub id: Option<String>,
    /// Only requests of this method.
    pub method: Option<String>,
    /// Only requests whose path holds this.
    pub path: Option<String>,
}

impl Failures {
    /// Returns whether such a request fails, and counts it either way.
    pub fn meet(&mut self, method: &str, path: &str) -> bool {
        let concerned = self.count > 0
            && self.method.as_deref().is_none_or(|wanted| wanted == method)
            && self.path.as_deref().is_none_or(|wanted| path.contains(wanted));
        if concerned && self.skip > 0 {
            self.skip -= 1;
            return false;
        }
        self.count -= u32::from(concerned);
        concerned
    }
}

/// An add-on that runs a command of the app every so often.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scheduler {
    pub every_seconds: f64,
    pub command: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MaskedVars {
    pub names: Vec<String>,
    pub shown_as: Mask,
}

/// The API's substitute for a value that it does not give out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mask {
    #[default]
    Null,
    /// `****`
    Stars,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            release_phase: None,
            boot_seconds: 2.0,
            sigterm_ignored: false,
            api_failures: Failures::default(),
            drop_after_commit: 0,
            preboot: false,
            page_size: 200,
            scheduler: None,
            masked_vars: MaskedVars::default(),
            asleep: Vec::new(),
            crashing: Vec::new(),
            logs: Logs::default(),
        }
    }
}
