//! A plan in progress, and its changes so far.

use crate::effects::cloud::Cloud;
use crate::model::cloud::{Change, Plan, Wanted};
use crate::model::error::Error;
use crate::ui::Ui;
use std::sync::{Mutex, PoisonError};

pub(super) struct Work<'a> {
    pub cloud: &'a Cloud,
    pub wanted: &'a Wanted,
    pub plan: &'a Plan,
    pub ui: &'a Ui,
    done: Mutex<Vec<Change>>,
}

impl<'a> Work<'a> {
    pub fn new(cloud: &'a Cloud, wanted: &'a Wanted, plan: &'a Plan, ui: &'a Ui) -> Self {
        Work {
            cloud,
            wanted,
            plan,
            ui,
            done: Mutex::default(),
        }
    }

    pub fn did(&self, change: Change) {
        self.done.lock().unwrap_or_else(PoisonError::into_inner).push(change);
    }

    pub fn done(&self) -> Vec<Change> {
        self.done.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Adds to `error` which changes were made before it.
    pub fn partly(&self, error: Error) -> Error {
        let done = self.done();
        if done.is_empty() {
            return error;
        }
        let hint = match error.next_step() {
            Some(hint) => format!("{hint}; then run the same command again: it goes on from here"),
            None => "run the same command again: it goes on from here".into(),
        };
        let all = self.plan.actions.len();
        Error::partial(format!(
            "make all changes: {} of {all} were made ({})",
            done.len(),
            things(&done)
        ))
        .because(error)
        .hint(hint)
    }
}

/// Names each changed resource once; counts parameters.
fn things(done: &[Change]) -> String {
    let mut things: Vec<String> = Vec::new();
    let is_parameter = |change: &&Change| change.resource == "parameter";
    for change in done.iter().filter(|change| !is_parameter(change)) {
        let thing = format!("{} {}", change.resource.trim_start_matches("rule of"), change.name)
            .trim()
            .to_string();
        if !things.iter().any(|other| other.ends_with(&thing)) {
            things.push(thing);
        }
    }
    match done.iter().filter(is_parameter).count() {
        0 => {}
        1 => things.push("1 parameter".into()),
        count => things.push(format!("{count} parameters")),
    }
    things.join(", ")
}
