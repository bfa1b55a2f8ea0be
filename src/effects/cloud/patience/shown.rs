//! One step on the screen for all calls that wait for the same at the same time.

use crate::ui::{Step, Ui};
use std::sync::{Arc, Mutex, PoisonError, Weak};

#[derive(Clone)]
pub(super) struct Shown {
    ui: Ui,
    label: &'static str,
    end: &'static str,
    step: Arc<Mutex<Weak<Waiting>>>,
}

/// Ends the step with the last call that waits.
pub(super) struct Waiting {
    pub step: Step,
    end: &'static str,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.step.over(self.end);
    }
}

impl Shown {
    /// `end` says how all of them ended.
    pub fn new(ui: &Ui, label: &'static str, end: &'static str) -> Self {
        Shown {
            ui: ui.clone(),
            label,
            end,
            step: Arc::default(),
        }
    }

    /// Joins the step that is shown, or begins one.
    pub fn begin(&self) -> Arc<Waiting> {
        let mut step = self.step.lock().unwrap_or_else(PoisonError::into_inner);
        step.upgrade().unwrap_or_else(|| {
            let waiting = Arc::new(Waiting {
                step: self.ui.step(self.label),
                end: self.end,
            });
            *step = Arc::downgrade(&waiting);
            waiting
        })
    }
}
